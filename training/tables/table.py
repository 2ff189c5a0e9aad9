"""What look-up and update ask of a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from nightjar.training.tables.shard import Shard


class Table(Protocol):
    """What the rest of training asks of a table.

    mean: whether its gradient is the mean over the global batch, or the sum. example_squares: whether the sum of the
    squares of the examples' gradients comes with it, in columns behind its own. approximation: what its rule only
    approximates, in a sentence; empty if it is exact.
    """

    width: int
    mean: bool
    example_squares: bool
    approximation: str
    shard: Shard

    def weights(self, places_U: np.ndarray) -> np.ndarray:
        """Current weights of the shard's rows at these places, float32[U, D]."""

    def update(self, places_U: np.ndarray, gradients_UD: np.ndarray) -> None:
        """One step of the rule: gradients of rows at distinct places, [U, D], or [U, 2 D] with example_squares. Every
        worker calls this once a step, also without rows: a rule may move rows that have no gradient, and may count
        steps.
        """

    def scale_learning_rate(self, factor: float) -> None:
        """Multiply the rule's learning rate from the next update on; no weight changes by it."""

    def state(self) -> Mapping[str, np.ndarray]:
        """All that the rule remembers of the rows, by name: arrays [R, k], live and writable; writing them back
        restores the table.
        """

    def scalars(self) -> Mapping[str, np.ndarray]:
        """All that the rule remembers beside its rows, by name: arrays of no dimension, live and writable."""

    def touched(self, places_U: np.ndarray) -> np.ndarray:
        """Whether these rows differ from what they were at the start, bool[U]."""


def differs(rows_UK: np.ndarray, fresh_K: np.ndarray) -> np.ndarray:
    """Whether a row is another than `fresh_K`, bool[U]. By column: NumPy reduces short rows slowly."""
    differs_U = np.zeros(len(rows_UK), dtype=bool)
    for k, fresh in enumerate(fresh_K):
        differs_U |= rows_UK[:, k] != fresh
    return differs_U
