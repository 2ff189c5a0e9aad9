"""Lists of different lengths as two flat arrays, and the few operations on them that the encoder needs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa


@dataclass(frozen=True)
class Ragged:
    """Row i holds values[offsets[i]:offsets[i + 1]]. values: [total]; offsets: int64[rows + 1], starting at 0."""

    values: np.ndarray
    offsets: np.ndarray

    @property
    def rows(self) -> int:
        """Number of lists."""
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Length of each list, int64[rows]."""
        return np.diff(self.offsets)

    @property
    def row_of_value(self) -> np.ndarray:
        """The row that each value belongs to, int64[total]."""
        return np.repeat(np.arange(self.rows), self.lengths)

    def take(self, rows: np.ndarray) -> Ragged:
        """The lists of `rows`, in that order."""
        lengths = self.lengths[rows]
        offsets = offsets_of(lengths)
        starts = np.repeat(self.offsets[:-1][rows] - offsets[:-1], lengths)
        return Ragged(self.values[np.arange(offsets[-1]) + starts], offsets)

    def reduce(self, pool: np.ufunc) -> np.ndarray:
        """`pool` (np.add, np.maximum) over each list, [rows]; 0 for an empty one."""
        pooled = np.zeros(self.rows, dtype=self.values.dtype)
        filled = self.lengths > 0
        if len(self.values):
            pooled[filled] = pool.reduceat(self.values, self.offsets[:-1][filled])
        return pooled

    def unique(self) -> Ragged:
        """Each list sorted ascending without repeats."""
        rows = self.row_of_value
        if self.values.dtype == np.int32:
            # Row and value in one number: a sort of numbers takes a fifth of the time of one of pairs.
            keys = np.sort((rows << 32) + (self.values.astype(np.int64) + 2**31))
            values, rows = ((keys & (2**32 - 1)) - 2**31).astype(np.int32), keys >> 32
        else:
            order = np.lexsort((self.values, rows))
            values, rows = self.values[order], rows[order]
        keep = np.ones(len(values), dtype=bool)
        keep[1:] = (values[1:] != values[:-1]) | (rows[1:] != rows[:-1])
        if keep.all():
            return Ragged(values, self.offsets)
        return Ragged(values[keep], offsets_of(np.bincount(rows[keep], minlength=self.rows)))


def from_arrow(array: pa.Array) -> np.ndarray | Ragged:
    """An Arrow array without nulls, without a copy where that can be: a Ragged where it holds lists."""
    if not (pa.types.is_list(array.type) or pa.types.is_large_list(array.type)):
        return array.to_numpy(zero_copy_only=False)
    offsets = array.offsets.to_numpy().astype(np.int64)
    return Ragged(array.flatten().to_numpy(zero_copy_only=False), offsets - offsets[0])


def offsets_of(lengths: np.ndarray) -> np.ndarray:
    """Offsets of lists with these lengths: int64[rows + 1]."""
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def of_scalars(values: np.ndarray) -> Ragged:
    """One list of one value a row."""
    return Ragged(values, np.arange(len(values) + 1, dtype=np.int64))


def product(left: Ragged, right: Ragged) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row-wise cartesian product: the left and the right member of every pair, and the pairs' offsets.

    Row i has left.lengths[i] * right.lengths[i] pairs, the right member moving fastest.
    """
    lengths = left.lengths * right.lengths
    offsets = offsets_of(lengths)
    within = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)
    right_length = np.repeat(right.lengths, lengths)
    left_index = np.repeat(left.offsets[:-1], lengths) + within // np.maximum(right_length, 1)
    right_index = np.repeat(right.offsets[:-1], lengths) + within % np.maximum(right_length, 1)
    return left.values[left_index], right.values[right_index], offsets
