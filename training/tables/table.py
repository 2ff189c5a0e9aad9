"""What look-up and update ask of a table, and the part of it that a worker holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np


@dataclass(frozen=True)
class Shard:
    """The part of a table that one worker holds. rows: of the whole table."""

    rows: int
    rank: int = 0
    world: int = 1

    @property
    def size(self) -> int:
        """Rows that this worker holds."""
        return len(range(self.rank, self.rows, self.world))


class Table(Protocol):
    """What look-up and update ask of a table. `mean`: whether its gradient is the mean over the batch, or the
    sum.
    """

    width: int
    mean: bool
    shard: Shard

    def weights(self, places_U: np.ndarray) -> np.ndarray:
        """Current weights of the shard's rows at these places, float32[U, D]."""

    def update(self, places_U: np.ndarray, gradients_UD: np.ndarray) -> None:
        """Apply the rule to rows at distinct places."""

    def scale_learning_rate(self, factor: float) -> None:
        """Multiply the rule's learning rate from the next update on; no weight changes by it."""

    def state(self) -> Mapping[str, np.ndarray]:
        """Everything that the rule remembers, by name: float32 arrays of R rows, live."""
