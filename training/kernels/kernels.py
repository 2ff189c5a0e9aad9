"""The inner loops over ids and rows, compiled by numba. They release Python's lock, and their results do not
depend on timing or on the number of threads. Places are unsigned where it counts: a signed one may count from the end,
and a loop that looks for that is not vectorised (half the speed).

Shapes: U distinct ids, D width of a row, B rows of a batch, F single-valued columns, K dense coordinates, M ids of
all columns, one column after the other.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from nightjar.training.kernels.hints import ROWS_AHEAD, prefetch

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_LOWER_HALF = (1 << 32) - 1
_MIX1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX2 = np.uint64(0x94D049BB133111EB)


@njit(cache=True, nogil=True)
def splitmix64(value):  # type: ignore[no-untyped-def]
    """The output function of Steele et al. 2014 (SplitMix): a bijection of 64 bits that scatters neighbours."""
    value = np.uint64(value) + _GOLDEN
    value = (value ^ (value >> np.uint64(30))) * _MIX1
    value = (value ^ (value >> np.uint64(27))) * _MIX2
    return value ^ (value >> np.uint64(31))


@njit(cache=True, nogil=True)
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


@njit(cache=True, nogil=True)
def uniform(seed, ids_U, step):  # type: ignore[no-untyped-def]
    """float64[U] in [0, 1) that depend on nothing but (seed, id, step)."""
    values = np.empty(len(ids_U), dtype=np.float64)
    for i in range(len(ids_U)):
        row = splitmix64(np.uint64(seed) ^ splitmix64(np.uint64(ids_U[i])))
        values[i] = np.float64(splitmix64(row + np.uint64(step)) >> np.uint64(11)) * 2.0**-53
    return values


@njit(cache=True, nogil=True)
def deduplicate(ids_M, bounds):  # type: ignore[no-untyped-def]
    """The distinct ids of each column, in order of first use; column c is ids_M[bounds[c]:bounds[c + 1]].

    Returns (unique ids [U], where each column's begin among them int64[columns + 1], place of each id among them
    int32[M]). By open addressing in one small hash table, whose slots hold a place and, in their lower half, its id or
    the lower half of that; a slot with a place of an earlier column is free.
    """
    columns = len(bounds) - 1
    longest = 0
    for c in range(columns):
        longest = max(longest, bounds[c + 1] - bounds[c])
    bits = 4
    while (1 << bits) < 4 * longest:
        bits += 1
    shift, mask = np.uint64(64 - bits), np.uint64((1 << bits) - 1)
    slots = np.full(1 << bits, -1, dtype=np.int64)
    unique = np.empty(len(ids_M) + 1, dtype=ids_M.dtype)
    starts = np.zeros(columns + 1, dtype=np.int64)
    index = np.empty(len(ids_M), dtype=np.int32)
    count = 0
    for c in range(columns):
        first = count
        for i in range(np.uint64(bounds[c]), np.uint64(bounds[c + 1])):
            value = np.int64(ids_M[i])
            slot = (np.uint64(value) * _GOLDEN) >> shift
            found = slots[slot]
            while _is_other(found, value, unique) and (found >> 32) >= first:
                slot = (slot + np.uint64(1)) & mask
                found = slots[slot]
            # Half of the ids are new, at random: without a branch on it the processor has nothing to guess.
            new = (found >> 32) < first
            place = count if new else found >> 32
            slots[slot] = (place << 32) | (value & _LOWER_HALF)
            unique[np.uint64(count)] = value
            index[i] = place
            count += int(new)
        starts[c + 1] = count
    return unique[:count], starts, index


@njit(cache=True, nogil=True)
def _is_other(found, value, unique):  # type: ignore[no-untyped-def]
    """Whether a slot of `deduplicate` holds another id. Of ids of 32 bits, the last line is not even compiled."""
    if (found & _LOWER_HALF) != (value & _LOWER_HALF):
        return True
    return unique.itemsize > 4 and found >= 0 and unique[np.uint64(found >> 32)] != value


@njit(cache=True, nogil=True)
def group_by_owner(owners_U, places_U, world):  # type: ignore[no-untyped-def]
    """Stable order of rows by owner, a rank below world, who keeps them at these places.

    Returns (order int64[U], the places in this order int64[U], rows of each owner int64[world]).
    """
    counts = np.zeros(world, dtype=np.int64)
    for owner in owners_U:
        counts[owner] += 1
    next_of = np.zeros(world, dtype=np.int64)
    next_of[1:] = np.cumsum(counts)[:-1]
    order, grouped = np.empty(len(owners_U), dtype=np.int64), np.empty(len(owners_U), dtype=np.int64)
    for i in range(len(owners_U)):
        owner = owners_U[i]
        order[next_of[owner]], grouped[next_of[owner]] = i, places_U[i]
        next_of[owner] += 1
    return order, grouped, counts


@njit(cache=True, nogil=True)
def place_ids(unique, starts, columns, offsets, first, out_U):  # type: ignore[no-untyped-def]
    """Lay the distinct ids of these columns side by side in out_U from `first` on, each column's plus its offset.

    Returns what to add to a place in `unique` to have the place in out_U, int32[columns].
    """
    shifts = np.empty(len(columns), dtype=np.int32)
    for k in range(len(columns)):
        shifts[k] = first - starts[columns[k]]
        for u in range(starts[columns[k]], starts[columns[k] + 1]):
            out_U[first] = np.int64(unique[u]) + offsets[k]
            first += 1
    return shifts


@njit(cache=True, nogil=True)
def take(values, rows, out):  # type: ignore[no-untyped-def]
    """out[i] = values[rows[i]]."""
    for i in range(len(rows)):
        out[i] = values[np.uint64(rows[i])]


@njit(cache=True, nogil=True)
def take_rows(values_RD, places_U, out_UD, start, stop):  # type: ignore[no-untyped-def]
    """out_UD[u] = values_RD[places_U[u]] for u in [start, stop): NumPy's take waits for the memory of every row."""
    for u in range(start, stop):
        prefetch(values_RD, places_U[min(u + ROWS_AHEAD, stop - 1)])
        i, row = np.uint64(u), np.uint64(places_U[u])
        for d in range(np.uint64(values_RD.shape[1])):
            out_UD[i, d] = values_RD[row, d]


@njit(cache=True, nogil=True)
def pool_fields(rows_UD, index_CB, fields_F3, out, stride, width, start, stop):  # type: ignore[no-untyped-def]
    """For batch rows [start, stop) and fields f of fields_F3 = (column c, shift, cell): add row
    rows_UD[index_CB[c, b] + shift] to the cell.

    Batch row b is out[b * stride : b * stride + width], which is overwritten; its cells lie side by side.
    """
    size = np.uint64(rows_UD.shape[1])
    for b in range(start, stop):
        first, soon = b * stride, min(b + ROWS_AHEAD, stop - 1)
        out[first : first + width] = 0.0
        for f in range(len(fields_F3)):
            column, shift = fields_F3[f, 0], fields_F3[f, 1]
            prefetch(rows_UD, index_CB[column, soon] + shift)
            row = np.uint64(index_CB[column, b] + shift)
            cell = np.uint64(first) + np.uint64(fields_F3[f, 2]) * size
            for d in range(size):
                out[cell + d] += rows_UD[row, d]


@njit(cache=True, nogil=True)
def sum_fields(gradient_UD, index_CB, fields_F3, cells, stride, start, stop):  # type: ignore[no-untyped-def]
    """The transpose of pool_fields, for fields [start, stop): add each cell to the rows that were pooled in it."""
    size = np.uint64(gradient_UD.shape[1])
    for f in range(start, stop):
        column, shift = fields_F3[f, 0], fields_F3[f, 1]
        for b in range(index_CB.shape[1]):
            row = np.uint64(index_CB[column, b] + shift)
            cell = np.uint64(b * stride) + np.uint64(fields_F3[f, 2]) * size
            for d in range(size):
                gradient_UD[row, d] += cells[cell + d]


@njit(cache=True, nogil=True)
def pool_list(rows_UD, lists, out, stride, start, stop):  # type: ignore[no-untyped-def]
    """Add to `cell` of batch rows [start, stop) coefficients_B[b] times the sum of the rows in their list, those at
    index_M[offsets[b]:offsets[b + 1]] + shift. lists: (index_M, shift, offsets, coefficients_B, cell).
    """
    index_M, shift, offsets, coefficients_B, cell = lists
    size = np.uint64(rows_UD.shape[1])
    for b in range(start, stop):
        first = np.uint64(b * stride) + np.uint64(cell) * size
        for i in range(offsets[b], offsets[b + 1]):
            row = np.uint64(index_M[i] + shift)
            for d in range(size):
                out[first + d] += coefficients_B[b] * rows_UD[row, d]


@njit(cache=True, nogil=True)
def sum_list(gradient_UD, lists, cells, stride):  # type: ignore[no-untyped-def]
    """The transpose of pool_list."""
    index_M, shift, offsets, coefficients_B, cell = lists
    size = np.uint64(gradient_UD.shape[1])
    for b in range(len(coefficients_B)):
        first = np.uint64(b * stride) + np.uint64(cell) * size
        for i in range(offsets[b], offsets[b + 1]):
            row = np.uint64(index_M[i] + shift)
            for d in range(size):
                gradient_UD[row, d] += coefficients_B[b] * cells[first + d]


@njit(cache=True, nogil=True)
def pool_dense(rows_U1, x_BK, out_B, start, stop):  # type: ignore[no-untyped-def]
    """Add to batch rows [start, stop) x . w of the coordinates that every row has: the first K of rows_U1."""
    for b in range(start, stop):
        for k in range(x_BK.shape[1]):
            out_B[b] += x_BK[b, k] * rows_U1[k, 0]


@njit(cache=True, nogil=True)
def sum_dense(gradient_U1, x_BK, cells_B):  # type: ignore[no-untyped-def]
    """The transpose of pool_dense."""
    for b in range(len(x_BK)):
        for k in range(x_BK.shape[1]):
            gradient_U1[k, 0] += x_BK[b, k] * cells_B[b]


@njit(cache=True, nogil=True)
def put_rows(out_UD, index_P, rows_PD):  # type: ignore[no-untyped-def]
    """out_UD[index_P[i]] = rows_PD[i]."""
    for p in range(len(index_P)):
        i, row = np.uint64(p), np.uint64(index_P[p])
        for d in range(np.uint64(out_UD.shape[1])):
            out_UD[row, d] = rows_PD[i, d]


@njit(cache=True, nogil=True)
def add_rows(total_UD, known, index_P, gradient_PD):  # type: ignore[no-untyped-def]
    """Add gradient_PD[i] to row index_P[i] of total_UD, whose first `known` rows hold something; the others begin with
    what is added first, and are named in their order. Returns how many hold something then.
    """
    for p in range(len(index_P)):
        i, row = np.uint64(p), np.uint64(index_P[p])
        if index_P[p] < known:
            for d in range(np.uint64(total_UD.shape[1])):
                total_UD[row, d] += gradient_PD[i, d]
        else:
            known = np.int64(index_P[p]) + 1
            for d in range(np.uint64(total_UD.shape[1])):
                total_UD[row, d] = gradient_PD[i, d]
    return known
