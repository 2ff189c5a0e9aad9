"""The artifact's two kinds of table, read-only: wide weights and embeddings.

Shapes: B rows of a batch, N values of a column (B, or more where it is multi-valued), D width of an embedding
table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from nightjar.features.contract.categorical import Pooling
from nightjar.features.contract.errors import DataError
from nightjar.features.contract.layout import BIAS, Slot, TableLayout
from nightjar.features.encoder.encoder import ColumnValues
from nightjar.features.encoder.hashing import find
from nightjar.features.encoder.ragged import Ragged

DENSE_VECTOR_ROWS = 2**24


class WideTable:
    """Weights by coordinate; a coordinate that the artifact does not list weighs 0."""

    def __init__(
        self, layout: TableLayout, ids: np.ndarray, weights: np.ndarray, bias: np.ndarray | None = None
    ) -> None:
        """Below 2^24 rows the weights become a vector as they are stored (64 MB in float32).

        Args:
            layout: of the rows.
            ids: int64[n], ascending.
            weights: float32[n] or float16[n]; or uint16[n], the upper halves of float32's bits (bfloat16).
            bias: float32[1] where `ids` do not list it.

        Raises DataError if they do not fit the layout or each other.
        """
        if ids.dtype.kind != "i" or weights.dtype not in (np.float32, np.float16, np.uint16):
            raise DataError(f"the wide table has ids of {ids.dtype} and weights of {weights.dtype}.")
        if ids.shape != weights.shape or ids.ndim != 1:
            raise DataError(f"the wide table has ids of shape {ids.shape} but weights of shape {weights.shape}.")
        if len(ids) and (ids[0] < 0 or ids[-1] >= layout.wide_rows or np.any(np.diff(ids) <= 0)):
            raise DataError(f"the wide table's ids must ascend within [0, {layout.wide_rows}).")
        self.slots = layout.wide
        self._ids, self._weights = ids, weights
        self._vector: np.ndarray | None = None
        if layout.wide_rows < DENSE_VECTOR_ROWS:
            self._vector = np.zeros(layout.wide_rows, dtype=weights.dtype)
            self._vector[ids] = weights
        if bias is not None and (bias.shape != (1,) or bias.dtype != np.float32 or BIAS in ids[:1]):
            raise DataError(f"the wide table has a bias of {bias.dtype}{list(bias.shape)}, or more than one.")
        self._bias = (self.lookup(np.array([BIAS])) if bias is None else bias)[0]
        # Of one element each: a scalar would leave a product with a float32 column in float32.
        self._of_dense = {
            slot.offset: self.lookup(np.array([slot.offset])).astype(np.float64)
            for slot in layout.wide
            if slot.column.role == "dense"
        }

    def lookup(self, coordinates: np.ndarray) -> np.ndarray:
        """Weight of each coordinate: float32[n] from int64[n]."""
        if self._vector is not None:
            return _float32(self._vector[coordinates])
        position, found = find(self._ids, coordinates)
        weights = np.zeros(len(coordinates), dtype=np.float32)
        weights[found] = _float32(self._weights[position[found]])
        return weights

    def logit(self, columns: Mapping[str, ColumnValues], rows: int) -> np.ndarray:
        """bias + sum of w_j x_j: float32[B], summed in float64. x_j: 1 for an id, a dense column's value.

        A column of one row stands for all of them.
        """
        logit = np.full(rows, self._bias, dtype=np.float64)
        for slot in self.slots:
            column = columns[slot.column.name]
            if isinstance(column, Ragged):
                weights = self.lookup(_rows_of(slot, column.values))
                logit += np.bincount(column.row_of_value, weights, minlength=column.rows)
            elif slot.column.role == "dense":
                logit += column * self._of_dense[slot.offset]
            else:
                logit += self.lookup(_rows_of(slot, column))
        return logit.astype(np.float32)


@dataclass(frozen=True)
class EmbeddingTable:
    """Embeddings of all fields of one width, as they are stored; memory-mapped where they are local.

    weights: float32[rows, D] or float16[rows, D]; or int8[rows, D], whose rows are multiples of scales, float32[rows].
    """

    slots: tuple[Slot, ...]
    weights: np.ndarray
    scales: np.ndarray | None = None

    def vectors(self, rows: np.ndarray) -> np.ndarray:
        """Embeddings of these rows: float32[N, D] from int64[N]. No others are taken out of what is stored."""
        stored = self.weights[rows]
        if self.scales is None:
            return stored.astype(np.float32, copy=False)
        return np.multiply(stored, self.scales[rows][:, None], dtype=np.float32)

    def write_pooled(self, columns: Mapping[str, ColumnValues], out: np.ndarray) -> None:
        """Fill out, float32[B, D * slots], with one vector a row and field, in the order of the slots.

        A column of one row stands for all of them.
        """
        width = self.weights.shape[1]
        for n, slot in enumerate(self.slots):
            column = columns[slot.column.name]
            target = out[:, n * width : (n + 1) * width]
            if isinstance(column, Ragged):
                target[:] = pool(self.vectors(_rows_of(slot, column.values)), column.offsets, slot.column.pooling)
            else:
                target[:] = self.vectors(_rows_of(slot, column))


def pool(vectors: np.ndarray, offsets: np.ndarray, pooling: Pooling) -> np.ndarray:
    """One vector for each list of vectors: float32[B, D] from float32[N, D]; zeros for an empty list.

    sum; mean: sum / n; sqrtn: sum / sqrt(n), for a list of n.
    """
    lengths = np.diff(offsets)
    filled = lengths > 0
    pooled = np.zeros((len(lengths), vectors.shape[1]), dtype=np.float32)
    if filled.any():
        pooled[filled] = np.add.reduceat(vectors, offsets[:-1][filled], axis=0)
    if pooling == "mean":
        pooled /= np.maximum(lengths, 1)[:, None].astype(np.float32)
    elif pooling == "sqrtn":
        pooled /= np.sqrt(np.maximum(lengths, 1))[:, None].astype(np.float32)
    return pooled


def _float32(weights: np.ndarray) -> np.ndarray:
    """What is stored, as float32: uint16 holds the upper halves of its bits."""
    if weights.dtype == np.uint16:
        return (weights.astype(np.uint32) << 16).view(np.float32)
    return weights.astype(np.float32, copy=False)


def _rows_of(slot: Slot, ids: np.ndarray) -> np.ndarray:
    return ids.astype(np.int64) + slot.offset
