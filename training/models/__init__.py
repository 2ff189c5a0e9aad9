"""The models by name. A model is the tables that it uses and a head; see `heads` for what a head computes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from features.errors import UsageError
from features.layout import TableLayout
from training.config import DeepConfig
from training.models.heads import Deep, DeepFm, Fm, LogisticRegression, WideDeep


@dataclass(frozen=True)
class Architecture:
    """wide, embeddings: the tables that the model uses; build: its head, initialised from the generator."""

    wide: bool
    embeddings: bool
    build: Callable[[TableLayout, DeepConfig, torch.Generator], nn.Module]


MODELS: dict[str, Architecture] = {
    "lr": Architecture(True, False, lambda layout, config, generator: LogisticRegression()),
    "deep": Architecture(False, True, Deep),
    "wide_deep": Architecture(True, True, WideDeep),
    "fm": Architecture(True, True, lambda layout, config, generator: Fm(layout)),
    "deepfm": Architecture(True, True, DeepFm),
}


def architecture(name: str) -> Architecture:
    """The model called `name`. Raises UsageError that lists the names."""
    if name not in MODELS:
        raise UsageError(f"there is no model {name!r}. Set training.model to one of {sorted(MODELS)}.")
    return MODELS[name]


def build_head(name: str, layout: TableLayout, config: DeepConfig, seed: int) -> nn.Module:
    """The head of a model, the same for the same seed in every process. Raises UsageError if the layout does
    not suit it.
    """
    model = architecture(name)
    if model.embeddings and not layout.embeddings:
        raise UsageError(
            f"the model {name!r} needs embeddings, but every field of the data set has the width 0. "
            f"Set fields[].embedding in the feature spec, or training.model to 'lr'."
        )
    return model.build(layout, config, torch.Generator().manual_seed(seed))
