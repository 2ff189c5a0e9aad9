"""Matrix factorisation: the stage before the factorization machine, over two fields."""

from __future__ import annotations

from torch import Tensor, nn

from nightjar.features.contract.layout import TableLayout
from nightjar.training.models.global_batch import GlobalBatch
from nightjar.training.models.layers import one_width


class MatrixFactorization(nn.Module):
    """b + b_u + b_i + <p_u, q_i> (Koren, Bell and Volinsky 2009, equation 4), as a logit.

    The biases are the wide part of the two fields. In NMF, p and q are non-negative: their table sees to it.
    """

    def __init__(self, layout: TableLayout) -> None:
        super().__init__()
        _, self.width = one_width(layout)

    def forward(
        self, first_order_B: Tensor, embeddings_BE: Tensor, dense_BN: Tensor, batch: GlobalBatch | None = None
    ) -> Tensor:
        """[B] logits."""
        p_BD, q_BD = embeddings_BE.split(self.width, dim=1)
        return first_order_B + (p_BD * q_BD).sum(dim=1)
