"""A table whose state is on a device while it learns. Rules: ftrl in float32, adagrad, row_adagrad; their formulas and
papers are those of training.tables.ftrl and training.tables.adagrad.

Shapes: R rows of the shard, U distinct rows of a step, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from nightjar.features.contract.errors import UsageError
from nightjar.training.tables.adagrad import Adagrad
from nightjar.training.tables.ftrl import FtrlTable
from nightjar.training.tables.table import Table
from nightjar.training.tables.values import ValueTable

State = Mapping[str, Tensor]


class DeviceTable:
    """A table that looks rows up and learns on a device; for all else it is the table that it was made from.

    The state has one home at a time. `look_up` and `learn` bring it to the device. Everything that asks for NumPy
    arrays (checkpoints, candidates, warm starts) brings it home first, where it may be written too; what `state` gave
    is out of date after the next look-up. Either way costs one copy of the shard, and the host keeps room for it.
    """

    approximation = ""
    example_squares = False

    def __init__(self, host: Table, device: torch.device) -> None:
        """host: a table of one of these rules."""
        assert isinstance(host, FtrlTable | ValueTable)
        self.width, self.mean, self.shard = host.width, host.mean, host.shard
        self._host: Table = host
        self._rule: _Rule = _Ftrl(host) if isinstance(host, FtrlTable) else _Values(host)
        self._device = device
        self._moved: State | None = None

    def look_up(self, places_U: Tensor) -> Tensor:
        """Current weights of the shard's rows at these places, float32[U, D], on the device."""
        return self._rule.weights(self._on_device(), places_U)

    def learn(self, places_U: Tensor, gradients_UD: Tensor) -> None:
        """One step of the rule, on the device: gradients of rows at distinct places."""
        self._rule.step(self._on_device(), places_U, gradients_UD)

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


class _Rule(Protocol):
    """What a host table's rule is on the device; it reads the rule's settings from that table. step: in place."""

    def weights(self, state: State, places_U: Tensor) -> Tensor: ...

    def step(self, state: State, places_U: Tensor, gradients_UD: Tensor) -> None: ...


class _Ftrl:
    def __init__(self, host: FtrlTable) -> None:
        self._host = host

    def weights(self, state: State, places_U: Tensor) -> Tensor:
        z_U, n_U = state["ftrl"][places_U].double().unbind(dim=1)
        return self._weights(z_U, n_U.sqrt(), places_U).float()[:, None]

    def step(self, state: State, places_U: Tensor, gradients_UD: Tensor) -> None:
        alpha, g_U = self._host.parameters[1], gradients_UD[:, 0].double()
        z_U, n_U = state["ftrl"][places_U].double().unbind(dim=1)
        root_U, total_U = n_U.sqrt(), n_U + g_U.square()
        z_U = z_U + g_U - (total_U.sqrt() - root_U) / alpha * self._weights(z_U, root_U, places_U)
        state["ftrl"][places_U] = torch.stack([z_U, total_U], dim=1).float()

    def _weights(self, z_U: Tensor, root_U: Tensor, places_U: Tensor) -> Tensor:
        unshrunk, alpha, beta, lambda1, lambda2 = self._host.parameters
        l1_U = torch.full_like(z_U, lambda1).masked_fill_(places_U == unshrunk, 0.0)
        w_U = -(z_U - z_U.sign() * l1_U) / ((beta + root_U) / alpha + lambda2)
        return w_U.masked_fill_(z_U.abs() <= l1_U, 0.0)


class _Values:
    def __init__(self, host: ValueTable) -> None:
        self._host = host

    def weights(self, state: State, places_U: Tensor) -> Tensor:
        return state["values"][places_U]

    def step(self, state: State, places_U: Tensor, gradients_UD: Tensor) -> None:
        step = _adagrad_step if isinstance(self._host.rule, Adagrad) else _row_adagrad_step
        moved_UD = state["values"][places_U] - step(state, places_U, gradients_UD, self._host.rule.learning_rate)
        state["values"][places_U] = moved_UD.clamp_(min=0.0) if self._host.nonnegative else moved_UD


def _adagrad_step(state: State, places_U: Tensor, gradients_UD: Tensor, learning_rate: float) -> Tensor:
    n_UD = state["accumulators"][places_U] + gradients_UD.square()
    state["accumulators"][places_U] = n_UD
    # n may be 0 where the gradient is.
    return (learning_rate * gradients_UD / n_UD.sqrt()).masked_fill_(gradients_UD == 0.0, 0.0)


def _row_adagrad_step(state: State, places_U: Tensor, gradients_UD: Tensor, learning_rate: float) -> Tensor:
    g_UD = gradients_UD.double()
    n_U1 = state["row_accumulators"][places_U].double() + g_UD.square().mean(dim=1, keepdim=True)
    state["row_accumulators"][places_U] = n_U1.float()
    return (learning_rate / n_U1.sqrt() * g_UD).masked_fill_(gradients_UD == 0.0, 0.0).float()
