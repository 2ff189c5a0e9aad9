"""AdaGrad, by element and by row. Shapes: R rows of the shard, U distinct rows of a step, D width."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numba import njit


@dataclass
class Adagrad:
    """AdaGrad element for element (Duchi et al. 2011): n += g^2; w -= learning_rate g / sqrt(n)."""

    learning_rate: float
    initial_accumulator: float
    approximation = ""
    whole = False

    def fresh(self, rows: int, width: int) -> Mapping[str, np.ndarray]:
        """{"accumulators": float32[rows, width]}."""
        return {"accumulators": np.full((rows, width), self.initial_accumulator, dtype=np.float32)}

    def scalars(self) -> Mapping[str, np.ndarray]:
        """See Rule: none."""
        return {}

    def step(self, state: Mapping[str, np.ndarray], places_U: np.ndarray, gradients_UD: np.ndarray) -> None:
        """See Rule."""
        adagrad_update(state["values"], state["accumulators"], places_U, gradients_UD, self.learning_rate)


@dataclass
class RowAdagrad:
    """AdaGrad with one accumulator a row: n += mean over the row of g^2; w -= learning_rate g / sqrt(n).

    A rule of its own, exact and exactly sparse, that remembers 1/D of what AdaGrad does. It is EXACT_ROWWISE_ADAGRAD
    of FBGEMM (Khudia et al. 2021), with which torchrec trains its embeddings.
    """

    learning_rate: float
    initial_accumulator: float
    approximation = ""
    whole = False

    def fresh(self, rows: int, width: int) -> Mapping[str, np.ndarray]:
        """{"row_accumulators": float32[rows, 1]}."""
        return {"row_accumulators": np.full((rows, 1), self.initial_accumulator, dtype=np.float32)}

    def scalars(self) -> Mapping[str, np.ndarray]:
        """See Rule: none."""
        return {}

    def step(self, state: Mapping[str, np.ndarray], places_U: np.ndarray, gradients_UD: np.ndarray) -> None:
        """See Rule."""
        row_adagrad_update(state["values"], state["row_accumulators"], places_U, gradients_UD, self.learning_rate)


@njit(cache=True, nogil=True)
def adagrad_update(values_RD, accumulators_RD, rows_U, gradients_UD, learning_rate):  # type: ignore[no-untyped-def]
    """n += g^2;  w -= learning_rate g / sqrt(n), by element; nothing where g is 0. The rows must differ."""
    for i in range(len(rows_U)):
        row = rows_U[i]
        for d in range(values_RD.shape[1]):
            g = np.float64(gradients_UD[i, d])
            if g != 0.0:
                n = np.float64(accumulators_RD[row, d]) + g * g
                accumulators_RD[row, d] = n
                values_RD[row, d] -= learning_rate * g / np.sqrt(n)


@njit(cache=True, nogil=True)
def row_adagrad_update(values_RD, accumulators_R1, rows_U, gradients_UD, learning_rate):  # type: ignore[no-untyped-def]
    """n += mean_d g^2;  w -= learning_rate g / sqrt(n); nothing where all of g is 0. The rows must differ."""
    width = values_RD.shape[1]
    for i in range(len(rows_U)):
        row = rows_U[i]
        squares = np.float64(0.0)
        for d in range(width):
            squares += np.float64(gradients_UD[i, d]) ** 2
        if squares != 0.0:
            n = np.float64(accumulators_R1[row, 0]) + squares / width
            accumulators_R1[row, 0] = n
            rate = learning_rate / np.sqrt(n)
            for d in range(width):
                values_RD[row, d] -= rate * gradients_UD[i, d]
