"""The models of the family by name, and what the rest of training asks of the one that is configured.

A model is a file of this folder, which is called like it and holds it as MODEL, and a line of _FILES. Importing them
loads neither torch nor numba, so that a config is checked at once; heads are built from training.layers, which do.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from typing import TYPE_CHECKING

from nightjar.features.contract.errors import UsageError
from nightjar.features.contract.layout import ColumnSpec, TableLayout
from nightjar.training.models.model import Model, ModelSection

if TYPE_CHECKING:
    from torch import nn

    from nightjar.training.config import TrainingConfig

_FILES = (
    "lr",
    "mf",
    "nmf",
    "fm",
    "deep",
    "wide_deep",
    "deepfm",
    "dcnv2",
)
MODELS: dict[str, Model] = {name: import_module(f"{__name__}.{name}").MODEL for name in _FILES}


def find_model(name: str) -> Model:
    """The model called `name`. Raises UsageError that lists the names."""
    if name not in MODELS:
        raise UsageError(f"there is no model {name!r}. Set training.model to one of {sorted(MODELS)}.")
    return MODELS[name]


def model_sections() -> dict[str, ModelSection]:
    """The models' own sections of the config, by key. Models may share one."""
    return {model.section.name: model.section for model in MODELS.values() if model.section}


def foreign_sections(name: str) -> set[str]:
    """The sections that are not among the settings of this model."""
    own = find_model(name).section
    return {key for key, section in model_sections().items() if section is not own and not section.of_every_model}


def model_columns(config: TrainingConfig, columns: Iterable[ColumnSpec]) -> tuple[ColumnSpec, ...]:
    """The columns of a data set that the model uses, with `wide` and `embedding` as it uses them.

    Label, weight and the like pass through. Their table_layout is that of the model's tables, in training, in
    the candidate and in serving. Raises UsageError if the data set lacks what the model needs.
    """
    model = find_model(config.model)
    used = []
    for column in model.columns(config, tuple(columns)):
        if column.role in ("field", "cross"):
            tables = {"wide": column.wide and model.wide, "embedding": column.embedding * model.embeddings}
            column = column.model_copy(update=tables)
            if not (column.wide or column.embedding):
                continue
        used.append(column)
    if model.embeddings and not any(column.embedding for column in used):
        others = " or ".join(repr(other.name) for other in MODELS.values() if not other.embeddings)
        raise UsageError(
            f"the model {config.model!r} needs embeddings, but every field of the data set has the width 0. "
            f"Set fields[].embedding in the feature spec, or training.model to {others}."
        )
    return tuple(used)


def build_head(config: TrainingConfig, layout: TableLayout) -> nn.Module:
    """The configured model's head over the layout of its columns, the same for the same seed in every process. Raises
    UsageError if the layout does not suit it.
    """
    import torch

    return find_model(config.model).build(layout, config, torch.Generator().manual_seed(config.seed))
