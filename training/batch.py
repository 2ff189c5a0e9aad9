"""From columns to what a step needs: ids in table coordinates, and where each of them counts.

Shapes: B rows, N dense columns, M entries of a table. An entry is one id of one row, weighted by a
coefficient and summed into a cell: the row itself in the wide table, (row, field) in an embedding table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from features.layout import BIAS, Column, Slot, TableLayout
from features.ragged import Ragged, offsets_of

Columns = Mapping[str, "np.ndarray | Ragged"]


@dataclass(frozen=True)
class Entries:
    """Cell cells_M[i] of the batch takes coefficients_M[i] times row ids_M[i] of the table; each of the rows
    has `fields` cells.
    """

    ids_M: np.ndarray
    cells_M: np.ndarray
    coefficients_M: np.ndarray
    rows: int
    fields: int


@dataclass(frozen=True)
class Batch:
    """A worker's share of a global batch; it may have no rows. embeddings: by width, ascending; group_B: only of a
    data set that is read with its groups.
    """

    label_B: np.ndarray
    weight_B: np.ndarray
    dense_BN: np.ndarray
    wide: Entries
    embeddings: Mapping[int, Entries]
    group_B: np.ndarray | None = None

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.label_B)


def empty_columns(columns: Sequence[Column]) -> Columns:
    """No rows of these columns."""
    nothing: dict[str, np.ndarray | Ragged] = {}
    for column in columns:
        values = np.empty(0, dtype=column.dtype)
        nothing[column.name] = Ragged(values, offsets_of(np.empty(0, np.int64))) if column.multi_valued else values
    return nothing


def take(columns: Columns, rows: np.ndarray) -> Columns:
    """These rows of all columns, in this order."""
    return {name: c.take(rows) if isinstance(c, Ragged) else c[rows] for name, c in columns.items()}


def concatenate(parts: Sequence[tuple[Columns, slice]]) -> Columns:
    """Slices of rows, one below the other."""
    joined: dict[str, np.ndarray | Ragged] = {}
    for name, first in parts[0][0].items():
        if isinstance(first, Ragged):
            joined[name] = _concatenate_lists([(columns[name], rows) for columns, rows in parts])  # type: ignore[misc]
        else:
            joined[name] = np.concatenate([columns[name][rows] for columns, rows in parts])  # type: ignore[index]
    return joined


def _concatenate_lists(parts: Sequence[tuple[Ragged, slice]]) -> Ragged:
    values, lengths = [], []
    for lists, rows in parts:
        bounds = lists.offsets[rows.start : rows.stop + 1]
        values.append(lists.values[bounds[0] : bounds[-1]])
        lengths.append(np.diff(bounds))
    return Ragged(np.concatenate(values), offsets_of(np.concatenate(lengths)))


def make_batch(columns: Columns, layout: TableLayout) -> Batch:
    """Lay rows out for the tables. A missing `weight` column means that every row weighs 1."""
    label_B = _scalars(columns["label"])
    weight_B = _scalars(columns["weight"]) if "weight" in columns else np.ones(len(label_B), dtype=np.float32)
    dense = [slot for slot in layout.wide if slot.column.role == "dense"]
    dense_BN = np.empty((len(label_B), len(dense)), dtype=np.float32)
    for n, slot in enumerate(dense):
        dense_BN[:, n] = _scalars(columns[slot.column.name])
    embeddings = {width: _fields(columns, slots, len(label_B)) for width, slots in layout.embeddings.items()}
    group_B = _scalars(columns["group"]) if "group" in columns else None
    return Batch(label_B, weight_B, dense_BN, _wide(columns, layout.wide, dense_BN), embeddings, group_B)


def _wide(columns: Columns, slots: Sequence[Slot], dense_BN: np.ndarray) -> Entries:
    """The bias, the dense columns as coordinates that count x times, and the ids of wide fields and crosses."""
    rows, width = dense_BN.shape
    dense = [slot.offset for slot in slots if slot.column.role == "dense"]
    single = [slot for slot in slots if slot.column.role != "dense" and not slot.column.multi_valued]
    lists = [slot for slot in slots if slot.column.multi_valued]
    ids_BC = np.empty((rows, 1 + width + len(single)), dtype=np.int64)
    coefficients_BC = np.ones(ids_BC.shape, dtype=np.float32)
    ids_BC[:, 0] = BIAS
    ids_BC[:, 1 : 1 + width] = dense
    coefficients_BC[:, 1 : 1 + width] = dense_BN
    for c, slot in enumerate(single, start=1 + width):
        np.add(_scalars(columns[slot.column.name]), slot.offset, out=ids_BC[:, c], dtype=np.int64)
    parts = [(ids_BC.ravel(), np.repeat(np.arange(rows), ids_BC.shape[1]), coefficients_BC.ravel())]
    for slot in lists:
        values = _lists(columns[slot.column.name])
        parts.append(
            (
                values.values + np.int64(slot.offset),
                values.row_of_value,
                np.ones(len(values.values), np.float32),
            )
        )
    return _entries(parts, rows, 1)


def _fields(columns: Columns, slots: Sequence[Slot], rows: int) -> Entries:
    """The ids of the fields of one width; a list counts as its sum, its mean or its sum over the root of its
    length.
    """
    single = [(f, slot) for f, slot in enumerate(slots) if not slot.column.multi_valued]
    ids_BF = np.empty((rows, len(single)), dtype=np.int64)
    for c, (_, slot) in enumerate(single):
        np.add(_scalars(columns[slot.column.name]), slot.offset, out=ids_BF[:, c], dtype=np.int64)
    cells_BF = np.arange(rows)[:, None] * len(slots) + np.array([f for f, _ in single], dtype=np.int64)
    parts = [(ids_BF.ravel(), cells_BF.ravel(), np.ones(ids_BF.size, np.float32))]
    for f, slot in enumerate(slots):
        if slot.column.multi_valued:
            values = _lists(columns[slot.column.name])
            power = {"sum": 0.0, "mean": -1.0, "sqrtn": -0.5}[slot.column.pooling]
            coefficients = np.repeat(
                np.maximum(values.lengths, 1).astype(np.float32) ** np.float32(power), values.lengths
            )
            parts.append((values.values + np.int64(slot.offset), values.row_of_value * len(slots) + f, coefficients))
    return _entries(parts, rows, len(slots))


def _entries(parts: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]], rows: int, fields: int) -> Entries:
    ids, of_cells, coefficients = (
        np.concatenate(arrays) if len(parts) > 1 else arrays[0] for arrays in zip(*parts, strict=True)
    )
    return Entries(ids, of_cells, coefficients, rows, fields)


def _scalars(column: np.ndarray | Ragged) -> np.ndarray:
    assert isinstance(column, np.ndarray)
    return column


def _lists(column: np.ndarray | Ragged) -> Ragged:
    assert isinstance(column, Ragged)
    return column
