"""The deep part alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nightjar.features.contract.layout import TableLayout
from nightjar.training.models.model import Model

if TYPE_CHECKING:
    import torch
    from torch import nn

    from nightjar.training.config import TrainingConfig


def build(layout: TableLayout, config: TrainingConfig, generator: torch.Generator) -> nn.Module:
    """The layers, with the model's only bias in their output."""
    from nightjar.training.layers.dense import Deep

    return Deep(layout, config.deep, generator, bias=True)


MODEL = Model("deep", build, wide=False)
