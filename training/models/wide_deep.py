"""Wide & Deep."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nightjar.features.contract.layout import TableLayout
from nightjar.training.config import DeepConfig
from nightjar.training.models.deep import Deep
from nightjar.training.models.global_batch import GlobalBatch


class WideDeep(nn.Module):
    """Wide and deep part, trained together: their logits add up (Cheng et al. 2016, equation 3)."""

    def __init__(self, layout: TableLayout, config: DeepConfig, generator: torch.Generator) -> None:
        super().__init__()
        self.deep = Deep(layout, config, generator, bias=False)

    def forward(
        self, first_order_B: Tensor, embeddings_BE: Tensor, dense_BN: Tensor, batch: GlobalBatch | None = None
    ) -> Tensor:
        """[B] logits."""
        return first_order_B + self.deep(first_order_B, embeddings_BE, dense_BN, batch)
