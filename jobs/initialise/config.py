"""The config, checked in full before anybody gets it."""

from __future__ import annotations

import pyarrow as pa
import yaml
from pydantic import ValidationError

from nightjar.features.contract.errors import DataError
from nightjar.features.contract.strict import explain
from nightjar.features.input.files import column_problems
from nightjar.jobs.initialise.document import write_document
from nightjar.jobs.initialise.look import Look
from nightjar.jobs.nightly.night import NightConfig


def checked_config(look: Look, name: str) -> str:
    """The text of the config. name: of the feature spec.

    Raises DataError if a night could not take it, with what is wrong: of no log that is known to us.
    """
    if not look.screening.auc:
        raise DataError(
            f"no column is left to make a feature of: {dict(look.screening.left_out)}. Give --logs a log with columns "
            f"that describe the impression."
        )
    text = write_document(look, name)
    try:
        config = NightConfig.model_validate(yaml.safe_load(text))
    except ValidationError as error:
        raise DataError(explain(error, "the proposed config")) from error
    config.gate.require_features(config.features)
    schema = pa.schema(list(zip(look.sample.table.column_names, look.sample.table.schema.types, strict=True)))
    if problems := list(column_problems([schema], config.features, config.input)):
        raise DataError("the proposed config does not fit the log:\n" + "\n".join(f"  {p}" for p in problems))
    return text
