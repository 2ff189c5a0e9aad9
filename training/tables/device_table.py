"""A table whose state is on a device while it learns, by a rule whose file says that a device can run it.

Shapes: R rows of the shard, U distinct rows of a step, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from nightjar.features.contract.errors import UsageError
from nightjar.training.tables.table import Table

State = Mapping[str, Tensor]


@runtime_checkable
class HostTable(Table, Protocol):
    """A table whose state may learn on a device; the rule's settings stay those of the table."""

    def weights_on_device(self, state: State, places_U: Tensor) -> Tensor:
        """As Table.weights, of its state on a device."""

    def step_on_device(self, state: State, places_U: Tensor, gradients_UD: Tensor) -> None:
        """As Table.update, of its state on a device, in place; gradients of rows at distinct places."""


class DeviceTable:
    """A table that looks rows up and learns on a device; for all else it is the table that it was made from.

    The state has one home at a time. `look_up` and `learn` bring it to the device. Everything that asks for NumPy
    arrays (checkpoints, candidates, warm starts) brings it home first, where it may be written too; what `state` gave
    is out of date after the next look-up. Either way costs one copy of the shard, and the host keeps room for it.
    """

    approximation = ""
    example_squares = False

    def __init__(self, host: Table, device: torch.device) -> None:
        """host: a table of a rule that a device can run."""
        assert isinstance(host, HostTable)
        self.width, self.mean, self.shard = host.width, host.mean, host.shard
        self._host = host
        self._device = device
        self._moved: State | None = None

    def look_up(self, places_U: Tensor) -> Tensor:
        """Current weights of the shard's rows at these places, float32[U, D], on the device."""
        return self._host.weights_on_device(self._on_device(), places_U)

    def learn(self, places_U: Tensor, gradients_UD: Tensor) -> None:
        """One step of the rule, on the device: gradients of rows at distinct places."""
        self._host.step_on_device(self._on_device(), places_U, gradients_UD)

    def weights(self, places_U: np.ndarray) -> np.ndarray:
        """See Table."""
        return self._at_home().weights(places_U)

    def update(self, places_U: np.ndarray, gradients_UD: np.ndarray) -> None:
        """See Table."""
        self._at_home().update(places_U, gradients_UD)

    def scale_learning_rate(self, factor: float) -> None:
        """See Table."""
        self._at_home().scale_learning_rate(factor)

    def state(self) -> Mapping[str, np.ndarray]:
        """See Table. Invalid after `look_up` and `learn` too."""
        return self._at_home().state()

    def scalars(self) -> Mapping[str, np.ndarray]:
        """See Table: none."""
        return self._host.scalars()

    def touched(self, places_U: np.ndarray) -> np.ndarray:
        """See Table."""
        return self._at_home().touched(places_U)

    def _on_device(self) -> State:
        if self._moved is None:
            arrays = self._host.state()
            try:
                self._moved = {
                    name: torch.from_numpy(array).to(self._device, copy=True) for name, array in arrays.items()
                }
            except torch.OutOfMemoryError as error:
                size = sum(array.nbytes for array in arrays.values()) / 2**30
                raise UsageError(
                    f"{self._device} has no room for a table of {self.shard.size} rows and {size:.1f} GiB. Set "
                    f"training.tables_on to host, or train with more workers."
                ) from error
        return self._moved

    def _at_home(self) -> Table:
        if self._moved is not None:
            for name, array in self._host.state().items():
                torch.from_numpy(array).copy_(self._moved[name])
            self._moved = None
        return self._host
