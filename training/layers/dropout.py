"""Dropout whose masks do not depend on the number of workers.

Every decision is a hash of what it is about, (seed, layer, step, row, unit), and no generator's next number:
who computes it, and in which order, is the same. Shapes: B rows, H units.
"""

from __future__ import annotations

import numpy as np
import torch
from numba import njit
from torch import Tensor, nn

from nightjar.training.kernels.kernels import splitmix64
from nightjar.training.layers.global_batch import GlobalBatch

_BITS = 53


class Dropout(nn.Module):
    """Inverted dropout (Srivastava et al. 2014): in training a unit is 0 with probability `rate`, and else
    divided by 1 - rate. An evaluation changes nothing.

    The layer's key is drawn from `generator`.
    """

    def __init__(self, rate: float, generator: torch.Generator) -> None:
        super().__init__()
        self.rate = rate
        self.key = int(torch.randint(2**62, (), generator=generator))

    def forward(self, x_BH: Tensor, batch: GlobalBatch | None) -> Tensor:
        """[B, H]."""
        if batch is None:
            return x_BH
        keep_BH = keep_mask(self.key, batch.step, batch.keys_B.to(x_BH.device), x_BH.shape[1], self.rate)
        return torch.where(keep_BH, x_BH / (1.0 - self.rate), 0.0)


def keep_mask(key: int, step: int, keys_B: Tensor, units: int, rate: float) -> Tensor:
    """bool[B, units] on the device of keys_B: False with probability `rate`, the same bits on every device."""
    dropped = round(rate * 2**_BITS)
    if keys_B.device.type == "cpu":
        return torch.from_numpy(_keep(key, step, keys_B.numpy(), units, dropped))
    row_B = _mix(_mix(torch.tensor(step, device=keys_B.device)) ^ key)
    unit_H = torch.arange(units, device=keys_B.device)
    bits_BH = _mix(_mix(row_B ^ _mix(keys_B))[:, None] + unit_H)
    return _shift(bits_BH, 64 - _BITS) >= dropped


@njit(cache=True)
def _keep(key, step, keys_B, units, dropped):  # type: ignore[no-untyped-def]
    keep_BH = np.empty((len(keys_B), units), dtype=np.bool_)
    of_step = splitmix64(np.uint64(key) ^ splitmix64(step))
    for b in range(len(keys_B)):
        row = splitmix64(of_step ^ splitmix64(keys_B[b]))
        for u in range(units):
            keep_BH[b, u] = splitmix64(row + np.uint64(u)) >> np.uint64(64 - _BITS) >= np.uint64(dropped)
    return keep_BH


def _mix(value: Tensor) -> Tensor:
    """training.kernels.kernels.splitmix64 in PyTorch, whose int64 wraps around as uint64 does."""
    value = value - 0x61C8864680B583EB
    value = (value ^ _shift(value, 30)) * -0x40A7B892E31B1A47
    value = (value ^ _shift(value, 27)) * -0x6B2FB644ECCEEE15
    return value ^ _shift(value, 31)


def _shift(value: Tensor, bits: int) -> Tensor:
    """To the right with zeros, where PyTorch's own shift repeats the sign."""
    return (value >> bits) & ((1 << (64 - bits)) - 1)
