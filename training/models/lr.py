"""Logistic regression: the wide part alone."""

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
    """A head without weights."""
    from nightjar.training.layers.head import Head

    return Head(logits)


def logits(
    parts: Parts, first_order_B: Tensor, embeddings_BE: Tensor, dense_BN: Tensor, batch: GlobalBatch | None
) -> Tensor:
    """w . [x, phi(x)] + b."""
    return first_order_B.clone()


MODEL = Model("lr", build, embeddings=False)
