"""A head: what makes a logit of a row's pooled embeddings, its dense columns and the wide part's sum.

Every head maps (first_order_B, embeddings_BE, dense_BN, batch) to logits_B. first_order is the wide part's sum, its
bias included; embeddings are the pooled fields in the layout's order: widths ascending, fields in the order of the
columns; batch is the global batch in training, and None in evaluation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from nightjar.training.layers.global_batch import GlobalBatch

Parts = Mapping[str, Any]
"""The modules of a head, by name."""
Logits = Callable[[Parts, Tensor, Tensor, Tensor, GlobalBatch | None], Tensor]


class Head(nn.Module):
    """Parts that have weights, and the formula that makes [B] logits of what they give."""

    def __init__(self, logits: Logits, **parts: nn.Module) -> None:
        super().__init__()
        self._logits = logits
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(
        self, first_order_B: Tensor, embeddings_BE: Tensor, dense_BN: Tensor, batch: GlobalBatch | None = None
    ) -> Tensor:
        """[B] logits."""
        return self._logits(self._modules, first_order_B, embeddings_BE, dense_BN, batch)
