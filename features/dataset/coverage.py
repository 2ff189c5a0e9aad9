"""How many rows of a data set hold something that the encoder knows: a known value, or an admitted conjunction."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from nightjar.features.contract.layout import ColumnSpec
from nightjar.features.contract.spec import FeatureSpec
from nightjar.features.encoder.encoder import FIRST_ID, OOV_ID
from nightjar.features.encoder.ragged import Ragged, from_arrow


def covered_rows(encoded: pa.Table, columns: Sequence[ColumnSpec], spec: FeatureSpec) -> list[int]:
    """By column of ids, the number of rows with an id in `known_ids`."""
    return [_covered(encoded.column(column.name), known_ids(column, spec)) for column in id_columns(columns)]


def weighted_rows(encoded: pa.Table) -> int:
    """The number of rows that weigh more than nothing; all of them where rows have no weight."""
    if "weight" not in encoded.column_names:
        return int(encoded.num_rows)
    return int(np.count_nonzero(encoded.column("weight").to_numpy() > 0))


def id_columns(columns: Sequence[ColumnSpec]) -> list[ColumnSpec]:
    """Those of fields and crosses."""
    return [column for column in columns if column.role in ("field", "cross")]


def known_ids(column: ColumnSpec, spec: FeatureSpec) -> range:
    """The ids that stand for a value or a conjunction of its own; of a hashed field or cross, for a bucket."""
    if column.role == "field":
        field = spec.field(column.feature)
        return range(OOV_ID if field.kind == "hashed" else OOV_ID + field.hash_ids, column.size)
    cross = spec.cross(column.feature)
    return range(FIRST_ID, column.size) if cross.vocabulary == "exact" else range(cross.buckets)


def _covered(values: pa.ChunkedArray, known: range) -> int:
    count = 0
    for chunk in values.chunks:
        ids = from_arrow(chunk)
        if isinstance(ids, Ragged):
            count += len(np.unique(ids.row_of_value[_inside(ids.values, known)]))
        else:
            count += np.count_nonzero(_inside(ids, known))
    return count


def _inside(ids: np.ndarray, known: range) -> np.ndarray:
    return (ids >= known.start) & (ids < known.stop)
