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
def uniform(seed, ids_U, step):  # type: ignore[no-untyped-def]
    """float64[U] in [0, 1) that depend on nothing but (seed, id, step)."""
    values = np.empty(len(ids_U), dtype=np.float64)
    for i in range(len(ids_U)):
        row = splitmix64(np.uint64(seed) ^ splitmix64(np.uint64(ids_U[i])))
        values[i] = np.float64(splitmix64(row + np.uint64(step)) >> np.uint64(11)) * 2.0**-53
    return values


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
