"""FTRL-Proximal's compiled steps, of training.tables.ftrl. Shapes: R rows of the shard, U distinct rows of a step."""

from __future__ import annotations

import numpy as np
from numba import njit

from nightjar.training.kernels.hints import ROWS_AHEAD, prefetch


@njit(cache=True, nogil=True, error_model="numpy")
def ftrl_weight(z, root, alpha, beta, lambda1, lambda2):  # type: ignore[no-untyped-def]
    """w = 0 if |z| <= lambda1, else -(z - sign(z) lambda1) / ((beta + root) / alpha + lambda2), root = sqrt(n)."""
    if abs(z) <= lambda1:
        return 0.0
    return -(z - np.sign(z) * lambda1) / ((beta + root) / alpha + lambda2)


@njit(cache=True, nogil=True, error_model="numpy")
def ftrl_weights(state_R2, rows_U, weights_U1, parameters, start, stop):  # type: ignore[no-untyped-def]
    """Weights of rows_U[start:stop]. parameters: (the row for which lambda1 is 0, alpha, beta, lambda1, lambda2)."""
    unshrunk, alpha, beta, lambda1, lambda2 = parameters
    for i in range(start, stop):
        row = rows_U[i]
        prefetch(state_R2, rows_U[min(i + ROWS_AHEAD, stop - 1)])
        l1 = 0.0 if row == unshrunk else lambda1
        z, n = np.float64(state_R2[row, 0]), np.float64(state_R2[row, 1])
        weights_U1[i, 0] = ftrl_weight(z, np.sqrt(n), alpha, beta, l1, lambda2)


@njit(cache=True, nogil=True, error_model="numpy")
def ftrl_update(state_R2, rows_U, gradients_UC, parameters, start, stop):  # type: ignore[no-untyped-def]
    """sigma = (sqrt(n + s) - sqrt(n)) / alpha;  z += g - sigma w;  n += s. For rows_U[start:stop], which must differ.

    gradients_UC: g and, in a column of its own, s; without that column s = g^2. parameters: as of ftrl_weights.
    """
    unshrunk, alpha, beta, lambda1, lambda2 = parameters
    for i in range(start, stop):
        row = rows_U[i]
        prefetch(state_R2, rows_U[min(i + ROWS_AHEAD, stop - 1)])
        g = np.float64(gradients_UC[i, 0])
        z, n = np.float64(state_R2[row, 0]), np.float64(state_R2[row, 1])
        root, total = np.sqrt(n), n + square_of(gradients_UC, i)
        w = ftrl_weight(z, root, alpha, beta, 0.0 if row == unshrunk else lambda1, lambda2)
        state_R2[row, 0] = z + g - (np.sqrt(total) - root) / alpha * w
        state_R2[row, 1] = total


@njit(cache=True, nogil=True)
def square_of(gradients_UC, i):  # type: ignore[no-untyped-def]
    """What n grows by, in float64; see `ftrl_update`."""
    if gradients_UC.shape[1] == 2:
        return np.float64(gradients_UC[i, 1])
    return np.float64(gradients_UC[i, 0]) ** 2


@njit(cache=True, nogil=True)
def z_under_alpha(z, n, alpha, new_alpha, beta, lambda1, lambda2):  # type: ignore[no-untyped-def]
    """The z whose weight is under new_alpha what that of z is under alpha."""
    root = np.sqrt(n)
    w = ftrl_weight(z, root, alpha, beta, lambda1, lambda2)
    return z - (beta + root) * (1.0 / new_alpha - 1.0 / alpha) * w


@njit(cache=True, nogil=True)
def ftrl_change_alpha(state_R2, parameters, new_alpha):  # type: ignore[no-untyped-def]
    """`z_under_alpha` of every row. parameters: as of ftrl_weights."""
    unshrunk, alpha, beta, lambda1, lambda2 = parameters
    for row in range(len(state_R2)):
        z, n = np.float64(state_R2[row, 0]), np.float64(state_R2[row, 1])
        if z != 0.0:
            l1 = 0.0 if row == unshrunk else lambda1
            state_R2[row, 0] = z_under_alpha(z, n, alpha, new_alpha, beta, l1, lambda2)
