"""Python in Spark's tasks, on Arrow's batches."""

from __future__ import annotations

import zipimport
from collections.abc import Callable, Iterable, Iterator

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql.types import StructType

Through = Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]


def map_arrow(table: DataFrame, function: Through, schema: StructType | str) -> DataFrame:
    """`table.mapInArrow`, whose tasks start in milliseconds.

    Spark's worker invalidates its caches of modules before every task, upon which Python 3.11 reads the list of files
    in pyspark.zip again, in Python: a tenth of a second of a processor, as much as many a task's own work. Archives
    that Spark gave a worker do not change while it lives.
    """

    def run(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        zipimport.zipimporter.invalidate_caches = _keep  # type: ignore[assignment, method-assign]
        return function(batches)

    return table.mapInArrow(run, schema)


def _keep(archive: zipimport.zipimporter) -> None:
    """In place of zipimporter.invalidate_caches."""
