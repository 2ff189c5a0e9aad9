"""What a Python task of Spark's costs before it begins."""

from __future__ import annotations

import gc
import os
import zipimport
from collections.abc import Iterable, Iterator

import pyarrow as pa
from pyspark.sql import SparkSession

from nightjar.features.spark.arrow_tasks import map_arrow

MOST_JOBS = 50


def test_a_worker_reads_archives_and_looks_through_its_modules_objects_once(spark: SparkSession) -> None:
    def readings(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The process, how often it has read an archive's list of files since it first was asked, and how many objects
        its garbage collector leaves alone."""
        list(batches)
        if not hasattr(zipimport, "readings"):
            zipimport.readings = []
            read = zipimport._read_directory
            zipimport._read_directory = lambda path: zipimport.readings.append(path) or read(path)
        yield pa.RecordBatch.from_pydict(
            {"process": [os.getpid()], "count": [len(zipimport.readings)], "frozen": [gc.get_freeze_count()]}
        )

    table = spark.range(1).coalesce(1)
    seen: set[int] = set()
    for _ in range(MOST_JOBS):
        [row] = map_arrow(table, readings, "process bigint, count bigint, frozen bigint").collect()
        assert row["count"] == 0
        assert row["frozen"] > 10_000
        if row["process"] in seen:
            return
        seen.add(row["process"])
    raise AssertionError("no worker was given a second task")
