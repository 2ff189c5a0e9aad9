"""The models by name. A model is the columns and tables that it uses, and a head, which makes a logit of them.

Every head maps (first_order_B, embeddings_BE, dense_BN, batch) to logits_B. first_order is the wide part's sum,
its bias included; embeddings are the pooled fields in the layout's order: widths ascending, fields in the order
of the columns; batch is the global batch in training, and None in evaluation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from nightjar.features.contract.errors import UsageError
from nightjar.features.contract.layout import ColumnSpec, TableLayout
from nightjar.training.config import DeepConfig, TrainingConfig
from nightjar.training.models.deep import Deep
from nightjar.training.models.deepfm import DeepFm
from nightjar.training.models.fm import Fm
from nightjar.training.models.lr import LogisticRegression
from nightjar.training.models.mf import MatrixFactorization
from nightjar.training.models.wide_deep import WideDeep


@dataclass(frozen=True)
class Architecture:
    """wide, embeddings: the tables that the model uses; build: its head, initialised from the generator.

    two_fields: it sees nothing but the two fields of `mf.fields`.
    """

    wide: bool
    embeddings: bool
    build: Callable[[TableLayout, DeepConfig, torch.Generator], nn.Module]
    two_fields: bool = False


MODELS: dict[str, Architecture] = {
    "lr": Architecture(True, False, lambda layout, config, generator: LogisticRegression()),
    "mf": Architecture(True, True, lambda layout, config, generator: MatrixFactorization(layout), two_fields=True),
    "nmf": Architecture(True, True, lambda layout, config, generator: MatrixFactorization(layout), two_fields=True),
    "fm": Architecture(True, True, lambda layout, config, generator: Fm(layout)),
    "deep": Architecture(False, True, Deep),
    "wide_deep": Architecture(True, True, WideDeep),
    "deepfm": Architecture(True, True, DeepFm),
}


def architecture(name: str) -> Architecture:
    """The model called `name`. Raises UsageError that lists the names."""
    if name not in MODELS:
        raise UsageError(f"there is no model {name!r}. Set training.model to one of {sorted(MODELS)}.")
    return MODELS[name]


def model_columns(config: TrainingConfig, columns: Iterable[ColumnSpec]) -> tuple[ColumnSpec, ...]:
    """The columns of a data set that the model uses, with `wide` and `embedding` as it uses them.

    Label, weight and the like pass through. Their table_layout is that of the model's tables, in training, in
    the candidate and in serving. Raises UsageError if the data set lacks what the model needs.
    """
    model = architecture(config.model)
    columns = tuple(columns)
    if model.two_fields:
        columns = _two_fields(config, columns)
    used = []
    for column in columns:
        if column.role in ("field", "cross"):
            tables = {"wide": column.wide and model.wide, "embedding": column.embedding * model.embeddings}
            column = column.model_copy(update=tables)
            if not (column.wide or column.embedding):
                continue
        used.append(column)
    if model.embeddings and not any(column.embedding for column in used):
        raise UsageError(
            f"the model {config.model!r} needs embeddings, but every field of the data set has the width 0. "
            f"Set fields[].embedding in the feature spec, or training.model to 'lr'."
        )
    return tuple(used)


def build_head(name: str, layout: TableLayout, config: DeepConfig, seed: int) -> nn.Module:
    """The head of a model over the layout of its columns, the same for the same seed in every process. Raises
    UsageError if the layout does not suit it.
    """
    return architecture(name).build(layout, config, torch.Generator().manual_seed(seed))


def _two_fields(config: TrainingConfig, columns: Sequence[ColumnSpec]) -> tuple[ColumnSpec, ...]:
    """Neither dense columns nor crosses, and only the two fields, each of them with a bias."""
    fields = {column.feature: column for column in columns if column.role == "field"}
    if config.mf is None or not set(config.mf.fields) <= set(fields):
        given = f"training.mf.fields is {list(config.mf.fields)}" if config.mf else "training.mf is missing"
        raise UsageError(
            f"the model {config.model!r} factorises two fields, and {given}. "
            f"Set training.mf: {{fields: [a, b]}} to two of {sorted(fields)}."
        )
    widths = [fields[name].embedding for name in config.mf.fields]
    if widths[0] != widths[1] or not widths[0]:
        raise UsageError(
            f"the model {config.model!r} needs embeddings of one width, but those of {list(config.mf.fields)} are "
            f"{widths}. Give both the same fields[].embedding in the feature spec."
        )
    kept = (column for column in columns if column.role not in ("dense", "cross"))
    return tuple(
        column.model_copy(update={"wide": True}) if column.role == "field" else column
        for column in kept
        if column.role != "field" or column.feature in config.mf.fields
    )
