"""Matrix factorisation of two fields: the stage before the factorization machine."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from pydantic import model_validator

from nightjar.features.contract.categorical import Strict
from nightjar.features.contract.errors import UsageError
from nightjar.features.contract.layout import TableLayout
from nightjar.training.models.model import Columns, Model, ModelSection

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from nightjar.training.config import TrainingConfig
    from nightjar.training.layers.global_batch import GlobalBatch
    from nightjar.training.layers.head import Parts


class MatrixFactorizationConfig(Strict):
    """What the models `mf` and `nmf` need."""

    fields: tuple[str, str]
    """The two fields that they factorise, such as user and item."""

    @model_validator(mode="after")
    def _check(self) -> MatrixFactorizationConfig:
        if len(set(self.fields)) < 2:
            raise ValueError(f"the two fields must differ; got {list(self.fields)}")
        return self


SECTION = ModelSection("mf", MatrixFactorizationConfig, of_every_model=True)


def two_fields(config: TrainingConfig, columns: Columns) -> Columns:
    """Neither dense columns nor crosses, and only the two fields, each of them with a bias."""
    settings = SECTION.of(config)
    fields = {column.feature: column for column in columns if column.role == "field"}
    if settings is None or not set(settings.fields) <= set(fields):
        given = f"training.mf.fields is {list(settings.fields)}" if settings else "training.mf is missing"
        remedy = (
            f"Set training.mf: {{fields: [a, b]}} to two of {sorted(fields)}."
            if len(fields) > 1
            else f"features.fields holds only {sorted(fields)}: add a field, or choose another training.model."
        )
        raise UsageError(f"the model {config.model!r} factorises two fields, and {given}. {remedy}")
    widths = [fields[name].embedding for name in settings.fields]
    if widths[0] != widths[1] or not widths[0]:
        raise UsageError(
            f"the model {config.model!r} needs embeddings of one width, but those of {list(settings.fields)} are "
            f"{widths}. Give both the same fields[].embedding in the feature spec."
        )
    kept = (column for column in columns if column.role not in ("dense", "cross"))
    return tuple(
        column.model_copy(update={"wide": True}) if column.role == "field" else column
        for column in kept
        if column.role != "field" or column.feature in settings.fields
    )


def build(layout: TableLayout, config: TrainingConfig, generator: torch.Generator) -> nn.Module:
    """A head without weights."""
    from nightjar.training.layers.dense import one_width
    from nightjar.training.layers.head import Head

    _, width = one_width(layout)
    return Head(partial(logits, width=width))


def logits(
    parts: Parts,
    first_order_B: Tensor,
    embeddings_BE: Tensor,
    dense_BN: Tensor,
    batch: GlobalBatch | None,
    *,
    width: int,
) -> Tensor:
    """b + b_u + b_i + <p_u, q_i> (Koren, Bell and Volinsky 2009, equation 4), as a logit. The biases are the wide part
    of the two fields.
    """
    p_BD, q_BD = embeddings_BE.split(width, dim=1)
    return first_order_B + (p_BD * q_BD).sum(dim=1)


MODEL = Model("mf", build, section=SECTION, columns=two_fields)
