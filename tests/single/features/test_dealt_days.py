"""Tables without time: `days: hash(column)`, before Spark starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml
from pydantic import ValidationError

from nightjar.features.contract.errors import SpecError
from nightjar.features.contract.spec import FeatureSpec
from nightjar.features.input.config import InputConfig
from nightjar.features.input.files import column_problems, types_read
from nightjar.jobs.nightly.night import NightConfig

BASE: dict[str, Any] = {"name": "people", "label": "rich", "timestamp": "day", "fields": [{"name": "job"}]}
SPEC = FeatureSpec.model_validate(BASE)
DEALT = InputConfig(days="hash(person)")
SCHEMA = pa.schema({"rich": pa.int32(), "job": pa.string(), "person": pa.int64()})


def test_the_log_needs_the_column_that_is_hashed_and_no_timestamp() -> None:
    assert list(column_problems([SCHEMA], SPEC, DEALT)) == []
    assert DEALT.columns_of(SPEC) == ["rich", "job", "person"]
    (problem,) = column_problems([SCHEMA.remove(2)], SPEC, DEALT)
    assert problem.startswith("the columns ['person'] are missing; the log has ['rich', 'job'].")
    (problem,) = column_problems([SCHEMA.set(2, pa.field("person", pa.float64()))], SPEC, DEALT)
    assert problem.startswith("column 'person' (days) has the type double; it must be string, integral or boolean.")


def test_types_stand_in_the_order_of_the_columns_that_the_spec_reads() -> None:
    """The check `schema` compares them by position."""
    assert SPEC.source_columns() == ["rich", "day", "job"]
    assert types_read(SCHEMA, SPEC, DEALT) == ("int32", "timestamp[us, tz=UTC]", "string")


def test_a_text_file_declares_the_hashed_column() -> None:
    with pytest.raises(SpecError, match=r"input.columns lacks the types of \['person'\]"):
        InputConfig(format="csv", days="hash(person)", columns={"rich": "int", "job": "string"}).require_types(SPEC)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"frequencies": [{"name": "f", "keys": ["job"], "prior": 0.5}]},
            r"the frequencies \['f'\] count what was before",
        ),
        ({"dense": [{"name": "day"}]}, "makes the timestamp 'day', which is no column of the log"),
        ({"timestamp": "person"}, "makes the timestamp 'person', which is no column of the log"),
        (
            {"derive": [{"name": "d", "expression": "hour(day)"}], "dense": [{"name": "d"}]},
            "makes the timestamp 'day', which is no column of the log",
        ),
    ],
)
def test_what_needs_time_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        DEALT.require_types(FeatureSpec.model_validate({**BASE, **changes}))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"days": "timestamp", "hash_days": 5}, r"hash_days needs days: hash\(column\)"),
        ({"timestamp_format": "epoch_s"}, "is for a table without time; remove timestamp_format and empty_days"),
        ({"earliest": "2999-01-01"}, "the last day, 2999-01-10, is yet to come"),
        ({"days": "hash()"}, "should match pattern"),
        ({"days": "weekly"}, "should match pattern"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        InputConfig.model_validate({"days": "hash(person)", **changes})


def test_the_census_is_read_as_it_is_published() -> None:
    path = Path(__file__).parents[3] / "conf" / "adult_data.yaml"
    config = NightConfig.model_validate(yaml.safe_load(path.read_text()))
    config.input.require_types(config.features)
    assert config.input.dealt_by == "fnlwgt"
