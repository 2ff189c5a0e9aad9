"""How often each value of many columns occurs by day, counted in one pass over the rows.

Spark's tasks count pieces of the log column by column, by Arrow's dictionaries; what they hand on is merged where it is
written (features.spark.tables.write_days).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame

from nightjar.features.spark.arrow_tasks import map_arrow

# What a task holds of its rows at a time. More means fewer counts of the same value to merge.
PIECE_BYTES = 128 << 20


def partial_counts(rows: DataFrame, values: str, piece_bytes: int = PIECE_BYTES) -> DataFrame:
    """Counts of some of the rows each, to be added up.

    In:  day int, positive bigint (0 or 1), and a column for every table: a value, or a list of values that count one by
         one; null is none. values: their SQL type.
    Out: table int (the column's place), day int, value, impressions bigint, positives bigint.
    """

    def count(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for piece in _pieces(batches, piece_bytes):
            for day, of_day in _days(piece):
                positive = of_day.column("positive").to_numpy()
                for table, column in enumerate(of_day.columns[2:]):
                    yield _counted(table, day, column.combine_chunks(), positive)

    schema = f"table int not null, day int not null, value {values}, impressions bigint, positives bigint"
    return map_arrow(rows, count, schema)


def _pieces(batches: Iterable[pa.RecordBatch], piece_bytes: int) -> Iterator[pa.Table]:
    held, size = list[pa.RecordBatch](), 0
    for batch in batches:
        held.append(batch)
        size += batch.nbytes
        if size >= piece_bytes:
            yield pa.Table.from_batches(held)
            held, size = [], 0
    if held:
        yield pa.Table.from_batches(held)


def _days(rows: pa.Table) -> Iterator[tuple[int, pa.Table]]:
    """Every day with its rows."""
    days = rows.column("day").to_numpy()
    if len(days) and days.min() != days.max():
        rows = rows.take(pa.array(np.argsort(days, kind="stable")))
        days = np.sort(days)
    for start, stop in pairwise([0, *(np.flatnonzero(np.diff(days)) + 1), len(days)]):
        if start < stop:
            yield int(days[start]), rows.slice(start, stop - start)


def _counted(table: int, day: int, values: pa.Array, positive: np.ndarray) -> pa.RecordBatch:
    """values: [rows], or lists of them; positive: int64[rows]."""
    if pa.types.is_list(values.type):
        positive = np.repeat(positive, pc.fill_null(pc.list_value_length(values), 0).to_numpy())
        values = values.flatten()
    encoded = values.dictionary_encode()
    found = len(encoded.dictionary)
    # The last place is that of the missing ones.
    places = pc.fill_null(encoded.indices, found).to_numpy()
    impressions, positives = (np.bincount(of, minlength=found + 1)[:found] for of in (places, places[positive > 0]))
    return pa.RecordBatch.from_pydict(
        {
            "table": np.full(found, table, np.int32),
            "day": np.full(found, day, np.int32),
            "value": encoded.dictionary,
            "impressions": impressions,
            "positives": positives,
        }
    )
