"""The heads: from what the tables give to a logit.

Every head maps (first_order_B, embeddings_BE, dense_BN) to logits_B. first_order is the wide part's sum, its
bias included; embeddings are the pooled fields in the layout's order: widths ascending, fields in the order
of the columns.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from features.errors import UsageError
from features.layout import TableLayout
from training.config import DeepConfig
from training.models.layers import FactorizationMachine, Mlp


class LogisticRegression(nn.Module):
    """The wide part alone: w . [x, phi(x)] + b."""

    def forward(self, first_order_B: Tensor, embeddings_BE: Tensor, dense_BN: Tensor) -> Tensor:
        """[B] logits."""
        return first_order_B.clone()


class Deep(nn.Module):
    """The deep part alone: layers over embeddings and dense columns."""

    def __init__(self, layout: TableLayout, config: DeepConfig, generator: torch.Generator) -> None:
        super().__init__()
        self.deep = _mlp(layout, config, generator, bias=True)

    def forward(self, first_order_B: Tensor, embeddings_BE: Tensor, dense_BN: Tensor) -> Tensor:
        """[B] logits."""
        return self.deep(torch.cat([embeddings_BE, dense_BN], dim=1))


class WideDeep(nn.Module):
    """Wide and deep part, trained together: their logits add up (Cheng et al. 2016, equation 3)."""

    def __init__(self, layout: TableLayout, config: DeepConfig, generator: torch.Generator) -> None:
        super().__init__()
        self.deep = _mlp(layout, config, generator, bias=False)

    def forward(self, first_order_B: Tensor, embeddings_BE: Tensor, dense_BN: Tensor) -> Tensor:
        """[B] logits."""
        return first_order_B + self.deep(torch.cat([embeddings_BE, dense_BN], dim=1))


class Fm(nn.Module):
    """Factorization machine of second order (Rendle 2010), its linear part being the wide part."""

    def __init__(self, layout: TableLayout) -> None:
        super().__init__()
        self.fields, self.width = _one_width(layout)
        self.pairs = FactorizationMachine()

    def forward(self, first_order_B: Tensor, embeddings_BE: Tensor, dense_BN: Tensor) -> Tensor:
        """[B] logits."""
        return first_order_B + self.pairs(embeddings_BE.unflatten(1, (self.fields, self.width)))


class DeepFm(nn.Module):
    """FM and deep part over one set of embeddings: y_FM + y_DNN (Guo et al. 2017, equation 1)."""

    def __init__(self, layout: TableLayout, config: DeepConfig, generator: torch.Generator) -> None:
        super().__init__()
        self.fm = Fm(layout)
        self.deep = _mlp(layout, config, generator, bias=False)

    def forward(self, first_order_B: Tensor, embeddings_BE: Tensor, dense_BN: Tensor) -> Tensor:
        """[B] logits."""
        deep_B = self.deep(torch.cat([embeddings_BE, dense_BN], dim=1))
        return self.fm(first_order_B, embeddings_BE, dense_BN) + deep_B


def embedding_inputs(layout: TableLayout) -> int:
    """E: the width of all pooled embeddings of a row."""
    return sum(width * len(slots) for width, slots in layout.embeddings.items())


def dense_inputs(layout: TableLayout) -> int:
    """N: the dense columns."""
    return sum(slot.column.role == "dense" for slot in layout.wide)


def _mlp(layout: TableLayout, config: DeepConfig, generator: torch.Generator, *, bias: bool) -> Mlp:
    inputs = embedding_inputs(layout) + dense_inputs(layout)
    return Mlp(inputs, config.layers, config.activation, bias=bias, generator=generator)


def _one_width(layout: TableLayout) -> tuple[int, int]:
    if len(layout.embeddings) != 1:
        raise UsageError(
            f"a factorization machine needs embeddings of one width; the data set's fields have the widths "
            f"{sorted(layout.embeddings)}. Give fields[].embedding one value in the feature spec (or 0)."
        )
    [(width, slots)] = layout.embeddings.items()
    return len(slots), width
