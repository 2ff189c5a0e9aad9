"""The factorization machine."""

from __future__ import annotations

from torch import Tensor, nn

from nightjar.features.contract.layout import TableLayout
from nightjar.training.models.global_batch import GlobalBatch
from nightjar.training.models.layers import FactorizationMachine, one_width


class Fm(nn.Module):
    """Factorization machine of second order (Rendle 2010), its linear part being the wide part."""

    def __init__(self, layout: TableLayout) -> None:
        super().__init__()
        self.fields, self.width = one_width(layout)
        self.pairs = FactorizationMachine()

    def forward(
        self, first_order_B: Tensor, embeddings_BE: Tensor, dense_BN: Tensor, batch: GlobalBatch | None = None
    ) -> Tensor:
        """[B] logits."""
        return first_order_B + self.pairs(embeddings_BE.unflatten(1, (self.fields, self.width)))
