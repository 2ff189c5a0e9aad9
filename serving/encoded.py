"""Encoded Parquet files to the arrays that `score_encoded` takes, and these arrays in pieces."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pyarrow as pa

from nightjar.features.encoder.encoder import ColumnValues
from nightjar.features.encoder.ragged import Ragged, from_arrow


def to_columns(table: pa.Table) -> dict[str, ColumnValues]:
    """Every column of an encoded table by name: an array, or a Ragged where Parquet has a list."""
    return {name: from_arrow(table.column(name).combine_chunks()) for name in table.column_names}


def rows_in(column: ColumnValues) -> int:
    """How many rows a column has."""
    return column.rows if isinstance(column, Ragged) else len(column)


def batches(
    columns: Mapping[str, ColumnValues], rows: int, most: int
) -> Iterator[tuple[int, int, Mapping[str, ColumnValues]]]:
    """(start, stop, the columns' rows from start to stop), piece by piece; a column of one row stands for all of them.

    Args:
        columns: by name.
        rows: of all.
        most: rows of a piece.
    """
    for start in range(0, rows, most):
        stop = min(start + most, rows)
        whole = stop - start == rows
        yield start, stop, columns if whole else {name: _slice(c, start, stop) for name, c in columns.items()}


def _slice(column: ColumnValues, start: int, stop: int) -> ColumnValues:
    if rows_in(column) <= 1:
        return column
    if not isinstance(column, Ragged):
        return column[start:stop]
    offsets = column.offsets[start : stop + 1]
    return Ragged(column.values[offsets[0] : offsets[-1]], offsets - offsets[0])
