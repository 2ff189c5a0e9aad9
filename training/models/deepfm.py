"""DeepFM: factorization machine and deep part over one set of embeddings (Guo et al. 2017)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nightjar.features.contract.layout import TableLayout
from nightjar.training.models.model import Model, Rules

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from nightjar.training.config import TrainingConfig
    from nightjar.training.layers.global_batch import GlobalBatch
    from nightjar.training.layers.head import Parts


def build(layout: TableLayout, config: TrainingConfig, generator: torch.Generator) -> nn.Module:
    """The wide part, which is the machine's linear one, has the model's only bias."""
    from nightjar.training.layers.dense import Deep, Fm
    from nightjar.training.layers.head import Head

    return Head(logits, fm=Fm(layout), deep=Deep(layout, config.deep, generator, bias=False))


def logits(
    parts: Parts, first_order_B: Tensor, embeddings_BE: Tensor, dense_BN: Tensor, batch: GlobalBatch | None
) -> Tensor:
    """y_FM + y_DNN (equation 1)."""
    fm_B, deep_B = (parts[name](first_order_B, embeddings_BE, dense_BN, batch) for name in ("fm", "deep"))
    total_B: Tensor = fm_B + deep_B
    return total_B


# The paper trains all of it by Adam; in tables of any size, only the rows that a batch touches can move.
MODEL = Model("deepfm", build, rules=Rules("lazy_adam", "lazy_adam", "adam"))
