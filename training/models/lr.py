"""Logistic regression: the wide part alone."""

from __future__ import annotations

from torch import Tensor, nn

from nightjar.training.models.global_batch import GlobalBatch


class LogisticRegression(nn.Module):
    """w . [x, phi(x)] + b: the wide part alone."""

    def forward(
        self, first_order_B: Tensor, embeddings_BE: Tensor, dense_BN: Tensor, batch: GlobalBatch | None = None
    ) -> Tensor:
        """[B] logits."""
        return first_order_B.clone()
