"""Encoded Parquet files to the arrays that `score_encoded` takes."""

from __future__ import annotations

import pyarrow as pa

from nightjar.features.encoder.encoder import ColumnValues
from nightjar.features.encoder.ragged import from_arrow


def to_columns(table: pa.Table) -> dict[str, ColumnValues]:
    """Every column of an encoded table by name: an array, or a Ragged where Parquet has a list."""
    return {name: from_arrow(table.column(name).combine_chunks()) for name in table.column_names}
