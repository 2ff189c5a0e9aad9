"""Adam's compiled steps, of training.tables.adam. Shapes: R rows of the shard, U distinct rows of a step, D width."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def adam_row(w_D, m_D, v_D, g_D, decay, t, settings):  # type: ignore[no-untyped-def]
    """Step t of a row, in place, by g_D + decay w_D. settings: learning_rate, beta1, beta2, epsilon."""
    learning_rate, beta1, beta2, epsilon = settings
    bias1, bias2 = 1.0 - beta1**t, 1.0 - beta2**t
    for d in range(len(w_D)):
        g = np.float64(g_D[d]) + decay * np.float64(w_D[d])
        m = beta1 * np.float64(m_D[d]) + (1.0 - beta1) * g
        v = beta2 * np.float64(v_D[d]) + (1.0 - beta2) * g * g
        m_D[d], v_D[d] = m, v
        w_D[d] -= learning_rate * (m / bias1) / (np.sqrt(v / bias2) + epsilon)


@njit(cache=True, nogil=True)
def adam_update(state, index_R, gradients_UD, t, settings, shrinking, start, stop):  # type: ignore[no-untyped-def]
    """Step t of rows [start, stop); the gradient of row r is gradients_UD[index_R[r]], or 0 where that is -1.

    state: (values_RD, means_RD, squares_RD); shrinking: (l2, the row that it leaves alone, or -1); settings: as of
    adam_row.
    """
    values_RD, means_RD, squares_RD = state
    l2, unshrunk = shrinking
    nothing_D = np.zeros(values_RD.shape[1], dtype=gradients_UD.dtype)
    for row in range(start, stop):
        g_D = gradients_UD[index_R[row]] if index_R[row] >= 0 else nothing_D
        decay = 0.0 if row == unshrunk else l2
        adam_row(values_RD[row], means_RD[row], squares_RD[row], g_D, decay, t, settings)


@njit(cache=True, nogil=True)
def lazy_adam_update(state, steps_R1, rows_U, gradients_UD, settings, start, stop):  # type: ignore[no-untyped-def]
    """The next step of each of these rows; nothing where all of its gradient is 0. For rows_U[start:stop], which
    must differ. state, settings: as of adam_update.
    """
    values_RD, means_RD, squares_RD = state
    for i in range(start, stop):
        row = rows_U[i]
        if np.any(gradients_UD[i] != 0.0):
            steps_R1[row, 0] += 1
            t = steps_R1[row, 0]
            adam_row(values_RD[row], means_RD[row], squares_RD[row], gradients_UD[i], 0.0, t, settings)
