"""Spark tables in published directories: part files whose names and content depend on the rows alone."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark import TaskContext
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import to_arrow_schema

from features import storage
from features.manifest import FileEntry, Manifest

ROWS_PER_FILE = 1_000_000

Through = Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]

_PART = "table:part"


def for_spark(url: str) -> str:
    """A path or URL as Spark must be given it, so that Hadoop's default file system does not matter."""
    return url if "://" in url else f"file://{os.path.abspath(url)}"


def day_of_file() -> Column:
    """The YYYY-MM-DD of the `date=` folder that a row was read from: int, days since 1970-01-01.

    Not Spark's own partition column, which would shadow a column `date` in the files.
    """
    folder = F.substring_index(F.col("_metadata.file_path"), "/date=", -1)
    return F.unix_date(F.to_date(F.substring(folder, 1, 10)))


def write_table(
    table: DataFrame, directory: str, folder: str, *, through: Through | None = None, schema: pa.Schema | None = None
) -> list[FileEntry]:
    """Write each partition that holds rows as `folder/part-NNNNN.parquet`, one row group each, in order.

    through: applied to a partition's Arrow batches first; `schema` is then that of its result. Returns the entries of
    the files. An empty table is one file without rows.
    """
    target = schema or to_arrow_schema(table.schema)

    def write(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        content = _table(through(batches) if through else batches, target)
        context = TaskContext.get()
        if content.num_rows and context:
            yield _row(0, _write(content, directory, _path(folder, context.partitionId())))

    written = [entry for _, entry in _run(table, write)]
    return written or [_write(target.empty_table(), directory, _path(folder, 0))]


def write_sorted(table: DataFrame, directory: str, folder: str, *, key: str, rows: int) -> list[FileEntry]:
    """`write_table` of at most `rows` rows with a unique bigint `key`: the same rows give the same files."""
    return write_table(table.repartition(_files(rows), F.col(key)).sortWithinPartitions(key), directory, folder)


def write_days(
    table: DataFrame, directories: Mapping[int, str], folder: str, *, key: str, rows: Mapping[int, int]
) -> dict[str, list[FileEntry]]:
    """`write_sorted` of several days in one pass, each day's rows into `folder` of its own directory.

    table: `day` int, `key` bigint, unique in a day, and more. directories, rows (at most): by day. A day's files do not
    depend on the days beside it. Returns the entries of the files by directory; a day without rows has none.
    """
    files = {day: _files(rows[day]) for day in directories}
    files_of_day = F.create_map(*(F.lit(number) for pair in files.items() for number in pair))[F.col("day")]
    parts = table.withColumn(_PART, F.pmod(F.col(key), files_of_day).cast("int"))
    # Many small days share a task: starting one costs more than their rows do.
    tasks = _files(sum(rows[day] for day in directories))
    spread = parts.repartition(tasks, "day", _PART).sortWithinPartitions("day", _PART, key)
    whole = to_arrow_schema(parts.schema)

    def write(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        content = _table(batches, whole)
        day, part = (content.column(name).to_numpy() for name in ("day", _PART))
        starts = [0, *(np.flatnonzero((np.diff(day) != 0) | (np.diff(part) != 0)) + 1), len(day)]
        kept = content.drop_columns(["day", _PART])
        for start, stop in pairwise(starts):
            if stop > start:
                piece = kept.slice(start, stop - start)
                yield _row(day[start], _write(piece, directories[int(day[start])], _path(folder, part[start])))

    written = defaultdict(list)
    for day, entry in _run(spread, write):
        written[directories[day]].append(entry)
    return dict(written)


def read_daily(spark: SparkSession, directories: Mapping[str, Manifest], folder: str, schema: str) -> DataFrame:
    """The table `folder` of several `date=YYYY-MM-DD-<key>` directories as one: `day` int, then `schema`.

    One scan, whatever the number of days.
    """
    urls = [
        for_spark(storage.join(directory, folder))
        for directory, manifest in directories.items()
        if any(entry.path.startswith(f"{folder}/") for entry in manifest.files)
    ]
    if not urls:
        return spark.createDataFrame([], f"day int, {schema}")
    table = spark.read.schema(schema).parquet(*urls)
    return table.select(day_of_file().alias("day"), *table.columns)


def table_rows(directories: Mapping[str, Manifest], folder: str) -> int:
    """Rows of the table `folder` in all `directories` together."""
    return sum(
        entry.rows or 0
        for manifest in directories.values()
        for entry in manifest.files
        if entry.path.startswith(f"{folder}/")
    )


def write_arrow(table: pa.Table, url: str) -> bytes:
    """Write one Parquet file of one row group; its content.

    By Arrow, not by Spark: the bytes of Spark's Parquet writer differ from one JVM to the next (the encodings in its
    footer are listed in the order of identity hash codes), and the same rows must be the same bytes.
    """
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", row_group_size=max(1, table.num_rows))
    content: bytes = sink.getvalue().to_pybytes()
    storage.write_bytes(url, content)
    return content


def _write(table: pa.Table, directory: str, path: str) -> FileEntry:
    content = write_arrow(table, storage.join(directory, path))
    return FileEntry(path=path, bytes=len(content), sha256=hashlib.sha256(content).hexdigest(), rows=table.num_rows)


def _run(table: DataFrame, write: Through) -> list[tuple[int, FileEntry]]:
    """(day, entry) of every file that `write` wrote in Spark's tasks, sorted."""
    rows = table.mapInArrow(write, "day int, entry string").collect()
    return sorted(((row["day"], FileEntry.model_validate_json(row["entry"])) for row in rows), key=_by_path)


def _row(day: int, entry: FileEntry) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays(
        [pa.array([day], pa.int32()), pa.array([entry.model_dump_json()])], names=["day", "entry"]
    )


def _by_path(found: tuple[int, FileEntry]) -> tuple[int, str]:
    return found[0], found[1].path


def _table(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> pa.Table:
    rows = list(batches)
    return pa.Table.from_batches(rows).cast(schema).combine_chunks() if rows else schema.empty_table()


def _path(folder: str, number: int) -> str:
    return f"{folder}/part-{number:05d}.parquet"


def _files(rows: int) -> int:
    return 1 + rows // ROWS_PER_FILE
