"""Encoded Parquet files to the arrays that `score_encoded` takes."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from features.encoder import Column
from features.ragged import Ragged


def to_columns(table: pa.Table) -> dict[str, Column]:
    """Every column of an encoded table by name: an array, or a Ragged where Parquet has a list."""
    return {name: _to_column(table.column(name).combine_chunks()) for name in table.column_names}


def _to_column(array: pa.Array) -> Column:
    if not pa.types.is_list(array.type) and not pa.types.is_large_list(array.type):
        return array.to_numpy(zero_copy_only=False)
    offsets = array.offsets.to_numpy().astype(np.int64)
    return Ragged(array.flatten().to_numpy(zero_copy_only=False), offsets - offsets[0])
