"""The factorization machine of second order (Rendle 2010)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nightjar.features.contract.layout import TableLayout
from nightjar.training.models.model import Model

if TYPE_CHECKING:
    import torch
    from torch import nn

    from nightjar.training.config import TrainingConfig


def build(layout: TableLayout, config: TrainingConfig, generator: torch.Generator) -> nn.Module:
    """A head without weights. Raises UsageError if the embeddings are of several widths."""
    from nightjar.training.layers.dense import Fm

    return Fm(layout)


MODEL = Model("fm", build)
