"""Rows as columns: what files give, and what batches gather from them.

Shapes: R rows of a file, C scalar columns of one type, B rows of a batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nightjar.features.contract.layout import ColumnSpec
from nightjar.features.encoder.ragged import Ragged, offsets_of
from nightjar.training.kernels import kernels

Columns = Mapping[str, "np.ndarray | Ragged"]
ROW_KEY = "row_key"


def row_keys(file: int, rows: int) -> np.ndarray:
    """int64[rows]: a number for each row of a file that no other row of the data set has."""
    return np.int64(file) << np.int64(32) | np.arange(rows, dtype=np.int64)


def empty_columns(columns: Sequence[ColumnSpec]) -> Columns:
    """No rows of these columns."""
    nothing: dict[str, np.ndarray | Ragged] = {}
    for column in columns:
        values = np.empty(0, dtype=column.dtype)
        nothing[column.name] = Ragged(values, offsets_of(np.empty(0, np.int64))) if column.multi_valued else values
    return nothing


@dataclass(frozen=True)
class ShuffledFile:
    """A file's rows in an epoch's order. scalars: by type, the columns' names and their values [C, R]."""

    scalars: Mapping[np.dtype, tuple[tuple[str, ...], np.ndarray]]
    lists: Mapping[str, Ragged]

    @classmethod
    def of(cls, columns: Columns, order_R: np.ndarray) -> ShuffledFile:
        """Rows order_R of a file's columns."""
        lists: dict[str, Ragged] = {}
        alike: dict[np.dtype, dict[str, np.ndarray]] = {}
        for name, column in columns.items():
            if isinstance(column, Ragged):
                lists[name] = column.take(order_R)
            else:
                alike.setdefault(column.dtype, {})[name] = column
        scalars = {}
        for kind, of_kind in alike.items():
            values_CR = np.empty((len(of_kind), len(order_R)), dtype=kind)
            for column, out_R in zip(of_kind.values(), values_CR, strict=True):
                kernels.take(column, order_R, out_R)
            scalars[kind] = tuple(of_kind), values_CR
        return cls(scalars, lists)


def join(parts: Sequence[tuple[ShuffledFile, slice]]) -> Columns:
    """Rows [start, stop) of each file, one part below the other. One copy moves all columns of a type."""
    first, _ = parts[0]
    joined: dict[str, np.ndarray | Ragged] = {}
    for kind, (names, _) in first.scalars.items():
        values_CB = np.concatenate([file.scalars[kind][1][:, part] for file, part in parts], axis=1)
        joined |= zip(names, values_CB, strict=True)
    for name in first.lists:
        joined[name] = _join_lists([(file.lists[name], part) for file, part in parts])
    return joined


def _join_lists(parts: Sequence[tuple[Ragged, slice]]) -> Ragged:
    values, lengths = [], []
    for lists, rows in parts:
        bounds = lists.offsets[rows.start : rows.stop + 1]
        values.append(lists.values[bounds[0] : bounds[-1]])
        lengths.append(np.diff(bounds))
    return Ragged(np.concatenate(values), offsets_of(np.concatenate(lengths)))
