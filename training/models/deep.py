"""The deep part alone."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nightjar.features.contract.layout import TableLayout
from nightjar.training.config import DeepConfig
from nightjar.training.models.global_batch import GlobalBatch
from nightjar.training.models.layers import Mlp, dense_inputs, embedding_inputs, side_by_side


class Deep(nn.Module):
    """Layers over embeddings and dense columns. bias: whether their output has one; beside a wide part it has none."""

    def __init__(
        self, layout: TableLayout, config: DeepConfig, generator: torch.Generator, *, bias: bool = True
    ) -> None:
        super().__init__()
        self.layers = Mlp(embedding_inputs(layout) + dense_inputs(layout), config, generator, bias=bias)

    def forward(
        self, first_order_B: Tensor, embeddings_BE: Tensor, dense_BN: Tensor, batch: GlobalBatch | None = None
    ) -> Tensor:
        """[B] logits."""
        return self.layers(side_by_side(embeddings_BE, dense_BN), batch)
