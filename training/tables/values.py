"""A table whose weights are stored and moved by a rule of first or second order. The rules: adagrad, adam.

Shapes: R rows of the shard, U distinct rows of a step, D width, K columns of a rule's state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from nightjar.training.kernels import kernels
from nightjar.training.kernels.memory import zeros
from nightjar.training.kernels.threads import in_ranges
from nightjar.training.tables.shard import Shard
from nightjar.training.tables.table import differs

if TYPE_CHECKING:
    from torch import Tensor


class Rule(Protocol):
    """How gradients move values. approximation: as Table's; whole: whether it moves rows without a gradient too;
    learning_rate may be set between steps.
    """

    learning_rate: float
    approximation: str
    whole: bool

    def fresh(self, rows: int, width: int) -> Mapping[str, np.ndarray]:
        """What it remembers, beside their values, of rows that have not been moved: by name, [rows, K]."""

    def scalars(self) -> Mapping[str, np.ndarray]:
        """As Table's."""

    def step(self, state: Mapping[str, np.ndarray], places_U: np.ndarray, gradients_UD: np.ndarray) -> None:
        """Move state["values"], and all else in `state`, in place. The places differ."""


@runtime_checkable
class DeviceRule(Rule, Protocol):
    """A rule that a device can run, too."""

    def change_on_device(self, state: Mapping[str, Tensor], places_U: Tensor, gradients_UD: Tensor) -> Tensor:
        """What to take off the values at these places, [U, D]; all else in `state` is moved. The places differ."""


@dataclass(frozen=True)
class Uniform:
    """Initial values, uniform in [-limit, limit), or in [0, limit] if nonnegative; a pure function of (seed, width,
    row, column): however a table is sharded, it starts the same.
    """

    limit: float
    seed: int = 0
    nonnegative: bool = False

    def fresh(self, width: int, shard: Shard) -> np.ndarray:
        """float32 [R, width]: the rows of the shard."""
        values_RD = zeros(shard.size, width, np.float32)
        if self.limit:
            kernels.fill_uniform(values_RD, self.seed << 32 | width, shard.rank, shard.world, self.limit)
        return np.abs(values_RD, out=values_RD) if self.nonnegative else values_RD


class ValueTable:
    """Stored weights and the rule that moves them. The gradient is the MEAN over the global batch.

    nonnegative: every step ends in a projection onto values >= 0 (projected gradient descent, Lin 2007).
    """

    mean = True
    example_squares = False

    def __init__(self, width: int, shard: Shard, rule: Rule, initial: Uniform) -> None:
        self.width = width
        self.shard = shard
        self.approximation = rule.approximation
        self.rule = rule
        self.nonnegative = initial.nonnegative
        self._state = {"values": initial.fresh(width, shard), **rule.fresh(shard.size, width)}

    def weights(self, places_U: np.ndarray) -> np.ndarray:
        """See Table."""
        rows_UD = np.empty((len(places_U), self.width), dtype=np.float32)
        in_ranges(partial(kernels.take_rows, self._state["values"], places_U, rows_UD), len(places_U))
        return rows_UD

    def update(self, places_U: np.ndarray, gradients_UD: np.ndarray) -> None:
        """See Table."""
        self.rule.step(self._state, places_U, gradients_UD)
        if self.nonnegative:
            values_RD, moved = self._state["values"], slice(None) if self.rule.whole else places_U
            values_RD[moved] = np.maximum(values_RD[moved], 0.0)

    def scale_learning_rate(self, factor: float) -> None:
        """See Table."""
        self.rule.learning_rate *= factor

    def state(self) -> Mapping[str, np.ndarray]:
        """{"values": float32[R, D]} and what the rule remembers."""
        return self._state

    def scalars(self) -> Mapping[str, np.ndarray]:
        """See Table."""
        return self.rule.scalars()

    def touched(self, places_U: np.ndarray) -> np.ndarray:
        """See Table. Of a table whose values start at zero; any other's rows differ from the start."""
        fresh = {"values": np.zeros((1, self.width)), **self.rule.fresh(1, self.width)}
        return np.any([differs(array[places_U], fresh[name][0]) for name, array in self._state.items()], axis=0)

    def weights_on_device(self, state: Mapping[str, Tensor], places_U: Tensor) -> Tensor:
        """See HostTable."""
        return state["values"][places_U]

    def step_on_device(self, state: Mapping[str, Tensor], places_U: Tensor, gradients_UD: Tensor) -> None:
        """See HostTable. Of a DeviceRule."""
        assert isinstance(self.rule, DeviceRule)
        moved_UD = state["values"][places_U] - self.rule.change_on_device(state, places_U, gradients_UD)
        state["values"][places_U] = moved_UD.clamp_(min=0.0) if self.nonnegative else moved_UD
