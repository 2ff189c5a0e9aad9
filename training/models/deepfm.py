"""DeepFM."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nightjar.features.contract.layout import TableLayout
from nightjar.training.config import DeepConfig
from nightjar.training.models.deep import Deep
from nightjar.training.models.fm import Fm
from nightjar.training.models.global_batch import GlobalBatch


class DeepFm(nn.Module):
    """FM and deep part over one set of embeddings: y_FM + y_DNN (Guo et al. 2017, equation 1)."""

    def __init__(self, layout: TableLayout, config: DeepConfig, generator: torch.Generator) -> None:
        super().__init__()
        self.fm = Fm(layout)
        self.deep = Deep(layout, config, generator, bias=False)

    def forward(
        self, first_order_B: Tensor, embeddings_BE: Tensor, dense_BN: Tensor, batch: GlobalBatch | None = None
    ) -> Tensor:
        """[B] logits."""
        inputs = (first_order_B, embeddings_BE, dense_BN, batch)
        return self.fm(*inputs) + self.deep(*inputs)
