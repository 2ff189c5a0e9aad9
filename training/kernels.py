"""The inner loops over ids and rows, compiled by numba. All are sequential, so that their results are
deterministic.

Shapes: U unique ids, D width of a row, M entries (an id somewhere in a batch), C cells that entries are
summed into.
"""

from __future__ import annotations

import numpy as np
from numba import njit

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX2 = np.uint64(0x94D049BB133111EB)


@njit(cache=True)
def splitmix64(value):  # type: ignore[no-untyped-def]
    """The output function of Steele et al. 2014 (SplitMix): a bijection of 64 bits that scatters neighbours."""
    value = np.uint64(value) + _GOLDEN
    value = (value ^ (value >> np.uint64(30))) * _MIX1
    value = (value ^ (value >> np.uint64(27))) * _MIX2
    return value ^ (value >> np.uint64(31))


@njit(cache=True)
def fill_uniform(values_RD, seed, first, stride, limit):  # type: ignore[no-untyped-def]
    """Fill row i with values in [-limit, limit) that depend on nothing but (seed, first + i * stride,
    column).
    """
    rows, width = values_RD.shape
    for i in range(rows):
        row = splitmix64(np.uint64(seed) ^ splitmix64(np.uint64(first + i * stride)))
        for d in range(width):
            bits = splitmix64(row + np.uint64(d)) >> np.uint64(11)
            values_RD[i, d] = (np.float64(bits) * 2.0**-52 - 1.0) * limit


@njit(cache=True)
def deduplicate(ids_M):  # type: ignore[no-untyped-def]
    """(unique ids in order of first use int64[U], place of each id among them int64[M]); open addressing, no
    sort.
    """
    bits = 4
    while (1 << bits) < 2 * len(ids_M):
        bits += 1
    mask = np.uint64((1 << bits) - 1)
    slots = np.full(1 << bits, -1, dtype=np.int64)
    unique = np.empty(len(ids_M), dtype=np.int64)
    index = np.empty(len(ids_M), dtype=np.int64)
    count = 0
    for i in range(len(ids_M)):
        slot = splitmix64(ids_M[i]) & mask
        while slots[slot] >= 0 and unique[slots[slot]] != ids_M[i]:
            slot = (slot + np.uint64(1)) & mask
        if slots[slot] < 0:
            slots[slot] = count
            unique[count] = ids_M[i]
            count += 1
        index[i] = slots[slot]
    return unique[:count].copy(), index


@njit(cache=True)
def scatter(rows_UD, index_M, cells_M, coefficients_M, cells):  # type: ignore[no-untyped-def]
    """[cells, D]: cell cells_M[i] is the sum of coefficients_M[i] * rows_UD[index_M[i]]. Swap the indexes for
    its transpose.
    """
    width = rows_UD.shape[1]
    out = np.zeros((cells, width), dtype=rows_UD.dtype)
    for i in range(len(index_M)):
        row, cell, coefficient = index_M[i], cells_M[i], coefficients_M[i]
        for d in range(width):
            out[cell, d] += coefficient * rows_UD[row, d]
    return out


@njit(cache=True)
def ftrl_weight(z, n, alpha, beta, lambda1, lambda2):  # type: ignore[no-untyped-def]
    """w = 0 if |z| <= lambda1, else -(z - sign(z) lambda1) / ((beta + sqrt(n)) / alpha + lambda2)."""
    if abs(z) <= lambda1:
        return 0.0
    return -(z - np.sign(z) * lambda1) / ((beta + np.sqrt(n)) / alpha + lambda2)


@njit(cache=True)
def ftrl_weights(state_R2, rows_U, unshrunk, alpha, beta, lambda1, lambda2):  # type: ignore[no-untyped-def]
    """Weights float32[U, 1] of these rows; lambda1 is 0 for the row `unshrunk`."""
    weights = np.empty((len(rows_U), 1), dtype=np.float32)
    for i in range(len(rows_U)):
        row = rows_U[i]
        l1 = 0.0 if row == unshrunk else lambda1
        weights[i, 0] = ftrl_weight(
            np.float64(state_R2[row, 0]), np.float64(state_R2[row, 1]), alpha, beta, l1, lambda2
        )
    return weights


@njit(cache=True)
def ftrl_update(state_R2, rows_U, gradients_U1, unshrunk, alpha, beta, lambda1, lambda2):  # type: ignore[no-untyped-def]
    """sigma = (sqrt(n + g^2) - sqrt(n)) / alpha;  z += g - sigma w;  n += g^2. The rows must differ."""
    for i in range(len(rows_U)):
        row = rows_U[i]
        g = np.float64(gradients_U1[i, 0])
        z, n = np.float64(state_R2[row, 0]), np.float64(state_R2[row, 1])
        w = ftrl_weight(z, n, alpha, beta, 0.0 if row == unshrunk else lambda1, lambda2)
        sigma = (np.sqrt(n + g * g) - np.sqrt(n)) / alpha
        state_R2[row, 0] = z + g - sigma * w
        state_R2[row, 1] = n + g * g


@njit(cache=True)
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
