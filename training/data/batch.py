"""From columns to what a step needs: the distinct rows of every table, and where each of them counts.

A row of the batch has cells: one in the wide table, one for each field in an embedding table. A single-valued
column adds one row of the table to its cell, a multi-valued one a list of rows.

Shapes: B rows, C single-valued columns of ids, F of them in a table, N dense columns, K = 1 + N of them with the
bias, U distinct ids of a table, M ids of a multi-valued column.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from nightjar.features.contract.categorical import Pooling
from nightjar.features.contract.layout import BIAS, Slot, TableLayout
from nightjar.features.encoder.ragged import Ragged, offsets_of
from nightjar.training.data.columns import ROW_KEY, Columns, row_keys
from nightjar.training.kernels import kernels


@dataclass(frozen=True)
class ListEntries:
    """A multi-valued column: cell `cell` of row b takes coefficients_B[b] times the sum of the table's rows
    ids_U[index_M[offsets[b]:offsets[b + 1]] + shift].
    """

    cell: int
    index_M: np.ndarray
    shift: int
    offsets: np.ndarray
    coefficients_B: np.ndarray


@dataclass(frozen=True)
class Entries:
    """What a batch needs of a table. ids_U: its rows, each once, int64.

    For each field f of fields_F3 = (column c, shift, cell), row b's cell takes row ids_U[index_CB[c, b] + shift]:
    index_CB is one array for all tables. The lists add theirs. Cell 0 takes x_BK[b, k] times row ids_U[k], for all k:
    the bias and the dense columns, which every row has.
    """

    ids_U: np.ndarray
    x_BK: np.ndarray
    index_CB: np.ndarray
    fields_F3: np.ndarray
    lists: tuple[ListEntries, ...]
    cells: int

    @property
    def rows(self) -> int:
        """B."""
        return len(self.x_BK)

    def squared(self) -> Entries:
        """With the squares of all that rows of the table are multiplied by. A row that a list names twice is named by
        two examples, so to speak.
        """
        lists = (replace(e, coefficients_B=np.square(e.coefficients_B)) for e in self.lists)
        return replace(self, x_BK=np.square(self.x_BK), lists=tuple(lists))


@dataclass(frozen=True)
class Batch:
    """A worker's share of a global batch; it may have no rows. embeddings: by width, ascending.

    keys_B: int64, each row's own number in the data set (row_keys); step: the global batch's number in the run;
    group_B: only of a data set that is read with its groups.
    """

    label_B: np.ndarray
    weight_B: np.ndarray
    dense_BN: np.ndarray
    wide: Entries
    embeddings: Mapping[int, Entries]
    keys_B: np.ndarray
    step: int
    group_B: np.ndarray | None = None

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.label_B)


def make_batch(columns: Columns, layout: TableLayout, step: int = 0) -> Batch:
    """Lay rows out for the tables. A missing `weight` column means that every row weighs 1; a missing ROW_KEY, that
    they are the first rows of the data set.
    """
    label_B = _scalars(columns["label"])
    weight_B = _scalars(columns["weight"]) if "weight" in columns else np.ones(len(label_B), dtype=np.float32)
    dense = [slot.column.name for slot in layout.wide if slot.column.role == "dense"]
    x_BK = np.empty((len(label_B), 1 + len(dense)), dtype=np.float32)
    x_BK[:, 0] = 1.0
    for k, name in enumerate(dense, start=1):
        x_BK[:, k] = _scalars(columns[name])
    distinct = _Distinct(columns, [layout.wide, *layout.embeddings.values()])
    wide = distinct.wide(layout.wide, x_BK)
    embeddings = {width: distinct.embeddings(slots) for width, slots in layout.embeddings.items()}
    keys_B = _scalars(columns[ROW_KEY]) if ROW_KEY in columns else row_keys(0, len(label_B))
    group_B = _scalars(columns["group"]) if "group" in columns else None
    return Batch(label_B, weight_B, x_BK[:, 1:], wide, embeddings, keys_B, step, group_B)


class _Distinct:
    """The distinct ids of each column, found once for all tables that the column is in."""

    def __init__(self, columns: Columns, tables: Sequence[Sequence[Slot]]) -> None:
        used = {slot.column.name: slot.column for slots in tables for slot in slots if slot.column.size}
        names = sorted(used, key=lambda name: used[name].multi_valued)  # the single-valued ones first
        self._lists = {name: _lists(columns[name]) for name in names if used[name].multi_valued}
        values = [self._lists[name].values if name in self._lists else _scalars(columns[name]) for name in names]
        self._bounds = offsets_of(np.array([len(v) for v in values], dtype=np.int64))
        ids_M = np.concatenate([np.empty(0, dtype=np.int32), *values])
        self._unique, self._starts, self._index = kernels.deduplicate(ids_M, self._bounds)
        self._counts = np.diff(self._starts)
        self._place = {name: c for c, name in enumerate(names)}
        self._rows = len(_scalars(columns["label"]))
        single = len(names) - len(self._lists)
        self._index_CB = self._index[: single * self._rows].reshape(single, self._rows)

    def wide(self, slots: Sequence[Slot], x_BK: np.ndarray) -> Entries:
        """All columns add to the one cell of a row."""
        always = [BIAS, *(slot.offset for slot in slots if slot.column.role == "dense")]
        ids = [slot for slot in slots if slot.column.role != "dense"]
        return self._entries([(slot, 0, "sum") for slot in ids], 1, np.array(always, dtype=np.int64), x_BK)

    def embeddings(self, slots: Sequence[Slot]) -> Entries:
        """A cell for each column."""
        nothing, x_BK = np.empty(0, dtype=np.int64), np.empty((self._rows, 0), dtype=np.float32)
        members = [(slot, cell, slot.column.pooling) for cell, slot in enumerate(slots)]
        return self._entries(members, len(slots), nothing, x_BK)

    def _entries(
        self, members: Sequence[tuple[Slot, int, Pooling]], cells: int, always_K: np.ndarray, x_BK: np.ndarray
    ) -> Entries:
        """members: each column's slot in the table, its cell, and what a list of it counts as."""
        columns = np.array([self._place[slot.column.name] for slot, _, _ in members], dtype=np.int64)
        offsets = np.array([slot.offset for slot, _, _ in members], dtype=np.int64)
        ids_U = np.empty(len(always_K) + int(self._counts[columns].sum()), dtype=np.int64)
        ids_U[: len(always_K)] = always_K
        shifts = kernels.place_ids(self._unique, self._starts, columns, offsets, len(always_K), ids_U)
        fields, lists = [], []
        for c, shift, (slot, cell, pooling) in zip(columns.tolist(), shifts.tolist(), members, strict=True):
            if slot.column.multi_valued:
                values = self._lists[slot.column.name]
                index_M = self._index[self._bounds[c] : self._bounds[c + 1]]
                coefficients_B = _coefficients(values.lengths, pooling)
                lists.append(ListEntries(cell, index_M, shift, values.offsets, coefficients_B))
            else:
                fields.append((c, shift, cell))
        fields_F3 = np.array(fields, dtype=np.int64).reshape(-1, 3)
        return Entries(ids_U, x_BK, self._index_CB, fields_F3, tuple(lists), cells)


def _coefficients(lengths: np.ndarray, pooling: Pooling) -> np.ndarray:
    """float32[B]: lists of these lengths count as their sum, their mean or their sum over the root of the length."""
    power = {"sum": 0.0, "mean": -1.0, "sqrtn": -0.5}[pooling]
    return np.maximum(lengths, 1).astype(np.float32) ** np.float32(power)


def _scalars(column: np.ndarray | Ragged) -> np.ndarray:
    assert isinstance(column, np.ndarray)
    return column


def _lists(column: np.ndarray | Ragged) -> Ragged:
    assert isinstance(column, Ragged)
    return column
