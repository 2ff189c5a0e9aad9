"""Weights and what is summed by weight as integers, so that sums are exact in any order.

A weight is a multiple of 2^-28 of the largest weight's power of two: equal weights are exact, and so is float32 within
1/16 of the largest. A row's loss times its weight is rounded to the same quantum; scores, ranks and AUCs of groups,
which lie within [-1, 1], to a sixteenth of it. A sum holds 2^31 rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

WEIGHT_BITS = 28
FRACTION = 16.0
"""How much finer than a weight the values within [-1, 1] are."""


@dataclass(frozen=True)
class FixedPoint:
    """exponent: the largest weight is below 2^exponent, or equal to it."""

    exponent: int

    @classmethod
    def exponent_of(cls, weight: np.ndarray) -> int:
        """The least exponent for these weights, of which there is one or more, all positive."""
        mantissa, exponent = np.frexp(weight.max())
        return int(exponent) - (mantissa == 0.5)

    @property
    def quantum(self) -> float:
        """The weight that the integer 1 stands for."""
        return float(np.ldexp(1.0, self.exponent - WEIGHT_BITS))

    def weights(self, weight: np.ndarray) -> np.ndarray:
        """Weights as integers: float64[n] that are whole numbers of at most 2^28."""
        return np.rint(np.ldexp(weight.astype(np.float64), WEIGHT_BITS - self.exponent))


def whole(value: np.ndarray) -> np.ndarray:
    """Rounded to int64."""
    return np.rint(value).astype(np.int64)
