"""Python in Spark's tasks, on Arrow's batches."""

from __future__ import annotations

import gc
import zipimport
from collections.abc import Callable, Iterable, Iterator
from functools import cache

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql.types import StructType

Through = Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]


def map_arrow(table: DataFrame, function: Through, schema: StructType | str) -> DataFrame:
    """`table.mapInArrow`, whose tasks begin and end in milliseconds."""

    def run(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        _prepare_worker()
        return function(batches)

    return table.mapInArrow(run, schema)


@cache
def _prepare_worker() -> None:
    """Once in a process that is Spark's: leave out what Spark's worker does around every task.

    Before it, the worker invalidates its caches of modules, upon which Python 3.11 reads the list of what is in
    pyspark.zip again, in Python: 0.16 s of a processor. Archives that Spark gave a worker do not change while it lives.
    After it, the worker collects garbage among all the objects of its modules: 0.02 s. Those never are garbage.
    """
    zipimport.zipimporter.invalidate_caches = _keep  # type: ignore[assignment, method-assign]
    gc.freeze()


def _keep(archive: zipimport.zipimporter) -> None:
    """In place of zipimporter.invalidate_caches."""
