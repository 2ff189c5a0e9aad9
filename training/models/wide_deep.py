"""Wide & Deep: wide and deep part, trained together (Cheng et al. 2016)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nightjar.features.contract.layout import TableLayout
from nightjar.training.models.model import Model

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from nightjar.training.config import TrainingConfig
    from nightjar.training.layers.global_batch import GlobalBatch
    from nightjar.training.layers.head import Parts


def build(layout: TableLayout, config: TrainingConfig, generator: torch.Generator) -> nn.Module:
    """The wide part has the model's only bias."""
    from nightjar.training.layers.dense import Deep
    from nightjar.training.layers.head import Head

    return Head(logits, deep=Deep(layout, config.deep, generator, bias=False))


def logits(
    parts: Parts, first_order_B: Tensor, embeddings_BE: Tensor, dense_BN: Tensor, batch: GlobalBatch | None
) -> Tensor:
    """The parts' logits add up (equation 3)."""
    deep_B: Tensor = parts["deep"](first_order_B, embeddings_BE, dense_BN, batch)
    return first_order_B + deep_B


MODEL = Model("wide_deep", build)
