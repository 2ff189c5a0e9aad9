"""AdaGrad's compiled steps, of training.tables.adagrad. Shapes: R rows of the shard, U rows of a step, D width."""

from __future__ import annotations

import numpy as np
from numba import njit

from nightjar.training.kernels.hints import ROWS_AHEAD, prefetch


@njit(cache=True, nogil=True, error_model="numpy")
def adagrad_update(values_RD, accumulators_RD, rows_U, gradients_UD, learning_rate, start, stop):  # type: ignore[no-untyped-def]
    """n += g^2;  w -= learning_rate g / sqrt(n), by element; nothing where g is 0. For rows_U[start:stop], which must
    differ.
    """
    zero, rate = np.float32(0.0), np.float32(learning_rate)
    for u in range(start, stop):
        i, row, soon = np.uint64(u), np.uint64(rows_U[u]), rows_U[min(u + ROWS_AHEAD, stop - 1)]
        prefetch(values_RD, soon)
        prefetch(accumulators_RD, soon)
        for d in range(np.uint64(values_RD.shape[1])):
            g = gradients_UD[i, d]
            n = accumulators_RD[row, d] + g * g
            accumulators_RD[row, d] = n
            # Chosen, not branched on: n may be 0 where g is, and a loop without branches is vectorised.
            step = rate * g / np.sqrt(n)
            values_RD[row, d] -= step if g != zero else zero


@njit(cache=True, nogil=True, error_model="numpy")
def row_adagrad_update(values_RD, accumulators_R1, rows_U, gradients_UD, learning_rate, start, stop):  # type: ignore[no-untyped-def]
    """n += mean_d g^2;  w -= learning_rate g / sqrt(n); nothing where all of g is 0. For rows_U[start:stop], which must
    differ.
    """
    width = values_RD.shape[1]
    for i in range(start, stop):
        row, soon = rows_U[i], rows_U[min(i + ROWS_AHEAD, stop - 1)]
        prefetch(values_RD, soon)
        prefetch(accumulators_R1, soon)
        squares = np.float64(0.0)
        for d in range(width):
            squares += np.float64(gradients_UD[i, d]) ** 2
        if squares != 0.0:
            n = np.float64(accumulators_R1[row, 0]) + squares / width
            accumulators_R1[row, 0] = n
            rate = learning_rate / np.sqrt(n)
            for d in range(width):
                values_RD[row, d] -= rate * gradients_UD[i, d]
