"""DCN-V2: a cross network below the deep part, the paper's stacked structure (Wang et al. 2021, arXiv 2008.13535)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pydantic import PositiveInt

from nightjar.features.contract.categorical import Strict
from nightjar.features.contract.layout import TableLayout
from nightjar.training.models.model import Model, ModelSection, hidden_units

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from nightjar.training.config import TrainingConfig
    from nightjar.training.layers.global_batch import GlobalBatch
    from nightjar.training.layers.head import Parts


class Dcnv2Config(Strict):
    """The cross network of the model `dcnv2`."""

    cross_layers: PositiveInt = 3
    """How many cross layers; one more is the highest degree of the products."""
    rank: PositiveInt | None = None
    """Rank of W = U V in each cross layer. Empty: full."""


SECTION = ModelSection("dcnv2", Dcnv2Config, Dcnv2Config())


def settings_of(config: TrainingConfig) -> Dcnv2Config:
    """The model's own section, or its default."""
    return SECTION.of(config) or Dcnv2Config()


def build(layout: TableLayout, config: TrainingConfig, generator: torch.Generator) -> nn.Module:
    """Cross layers over embeddings and dense columns, and the deep part above them, with the model's only output."""
    from torch import nn

    from nightjar.training.layers.dense import Mlp, dense_inputs, embedding_inputs, make_linear
    from nightjar.training.layers.head import Head

    settings, inputs = settings_of(config), embedding_inputs(layout) + dense_inputs(layout)

    def linears(inputs: int, outputs: int, bias: bool) -> nn.Module:
        return nn.ModuleList(make_linear(inputs, outputs, bias, generator) for _ in range(settings.cross_layers))

    parts = {"cross": linears(settings.rank or inputs, inputs, True)}
    if settings.rank:
        parts["low_rank"] = linears(inputs, settings.rank, False)
    return Head(logits, **parts, layers=Mlp(inputs, config.deep, generator, bias=True))


def logits(
    parts: Parts, first_order_B: Tensor, embeddings_BE: Tensor, dense_BN: Tensor, batch: GlobalBatch | None
) -> Tensor:
    """x_{l+1} = x_0 * (W x_l + b) + x_l (equation 1), W = U V of low rank (equation 2); then the layers over the last
    x, and one linear output.
    """
    from nightjar.training.layers.dense import applied, side_by_side

    x_0_BI = x_BI = side_by_side(embeddings_BE, dense_BN)
    for n, layer in enumerate(parts["cross"]):
        y_BH = applied(parts["low_rank"][n], x_BI) if "low_rank" in parts else x_BI
        x_BI = x_0_BI * applied(layer, y_BH, x_BI.shape[1]) + x_BI
    logit_B: Tensor = parts["layers"](x_BI, batch)
    return logit_B


def axes(config: TrainingConfig) -> Mapping[str, TrainingConfig]:
    """Beside the hidden units, the ranks. Cross layers go by their number: one that the parent lacks begins afresh."""
    settings, larger = settings_of(config), dict(hidden_units(config))
    if settings.rank is not None:
        one_more = settings.model_copy(update={"rank": settings.rank + 1})
        larger["rank"] = config.model_copy(update={SECTION.name: one_more})
    return larger


MODEL = Model("dcnv2", build, wide=False, section=SECTION, axes=axes)
