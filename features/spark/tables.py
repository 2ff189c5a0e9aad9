"""Spark tables in published directories: part files whose names and content depend on the rows alone."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash
from pyspark import TaskContext
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import to_arrow_schema

from nightjar.features.contract import storage
from nightjar.features.contract.artifact_files import part_file
from nightjar.features.contract.errors import DataError, UsageError
from nightjar.features.contract.manifests import FileEntry, Manifest
from nightjar.features.contract.outputs import DATE_PREFIX
from nightjar.features.contract.verified import verify_files
from nightjar.features.spark.arrow_tasks import Through, map_arrow

DAY = "row:day"
ROWS_PER_FILE = 1_000_000

PART = "table:part"
# A task of so many rows is worth starting; more tasks than files are idle.
_ROWS_PER_TASK = 250_000
# Spark reads whatever matches a path; a backslash makes these a part of the name.
_PATTERN = re.compile(r"[\[\]{}?*\\]")
_HADOOP_SCHEMES = {"s3": "s3a", "s3n": "s3a", "gcs": "gs"}


def for_spark(url: str) -> str:
    """A path or URL as Spark must be given it, so that Hadoop's default file system does not matter.

    fsspec knows more names for an object store than Hadoop has a file system for.
    """
    if "://" not in url:
        return f"file://{os.path.abspath(url)}"
    scheme, _, rest = url.partition("://")
    return f"{_HADOOP_SCHEMES.get(scheme, scheme)}://{rest}"


def literal(path: str) -> str:
    """A path that Spark reads, of which no character is a pattern.

    Raises UsageError where Hadoop cannot read it: a colon beside such a character.
    """
    if _PATTERN.search(path) and ":" in path.rpartition("://")[2].partition("/")[2]:
        raise UsageError(f"Spark cannot read {path}: it holds a colon and one of [ ] {{ }} ? * \\. Rename the folder.")
    return _PATTERN.sub(r"\\\g<0>", path)


def read_parquet(
    spark: SparkSession, urls: Iterable[str], schema: str | None = None, *, recursively: bool = False
) -> DataFrame:
    """Parquet files of our own in these folders. recursively: in those below, too. schema: Spark's, if it is known."""
    reader = spark.read.option("recursiveFileLookup", str(recursively).lower())
    return (reader.schema(schema) if schema else reader).parquet(*(literal(for_spark(url)) for url in urls))


def day_of_file() -> Column:
    """The YYYY-MM-DD of the `date=` folder that a row was read from: int, days since 1970-01-01.

    Not Spark's own partition column, which would shadow a column `date` in the files.
    """
    folder = F.substring_index(F.col("_metadata.file_path"), f"/{DATE_PREFIX}", -1)
    return F.unix_date(F.to_date(F.substring(folder, 1, 10)))


def write_table(
    table: DataFrame,
    directory: str,
    folder: str,
    *,
    through: Through,
    schema: pa.Schema,
    count: Callable[[pa.Table], Sequence[int]],
) -> tuple[list[FileEntry], list[int]]:
    """Write each partition that holds rows as `folder/part-NNNNN.parquet`, one row group each, in order.

    Args:
        table: the rows, in their partitions.
        directory: that is being published.
        folder: of the table, in the directory.
        through: applied to a partition's Arrow batches first.
        schema: of what `through` gives.
        count: figures of such a part.

    Returns the entries of the files, and the sums of the figures. An empty table is one file without rows.
    """

    def write(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        content = _table(through(batches), schema)
        context = TaskContext.get()
        if content.num_rows and context:
            yield _row(0, _write(content, directory, part_file(folder, context.partitionId())), count(content))

    written = _run(table, write)
    sums = [sum(of_files) for of_files in zip(count(schema.empty_table()), *(of for _, _, of in written), strict=True)]
    entries = [entry for _, entry, _ in written]
    return entries or [_write(schema.empty_table(), directory, part_file(folder, 0))], sums


@dataclass(frozen=True)
class Destination:
    """Where a table goes: a folder of a directory that is being published. rows: that the table has at most."""

    directory: str
    folder: str
    rows: int


def dealt(tables: DataFrame, places: Sequence[Destination], key: str) -> DataFrame:
    """The rows of several tables, dealt to tasks: all rows of a table's part meet in one.

    In:  table int (a position in `places`) and more, among it `key`, bigint: a hash, if the table is large.
    Out: the same + PART int, in [0, files of the table), ascending with `key`.

    The number of tasks follows the number of rows, whatever spark.sql.shuffle.partitions says.
    """
    files = F.array(*(F.lit(_files(place.rows)).cast("bigint") for place in places))[F.col("table")]
    part = F.shiftright((F.shiftright(F.col(key), 32) + F.lit(1 << 31)) * files, 32).cast("int")
    parts = sum(_files(place.rows) for place in places)
    tasks = min(parts, 1 + sum(place.rows for place in places) // _ROWS_PER_TASK)
    return tables.withColumn(PART, part).repartition(tasks, "table", PART)


def write_tables(tables: DataFrame, places: Sequence[Destination], key: str) -> list[list[FileEntry]]:
    """Write several tables in one pass: the same rows give the same files.

    Args:
        tables: what `dealt` gives.
        places: where each goes.
        key: the column that rows are sorted by; unique in each table.

    Returns the entries of each place's files. An empty table is one file without rows.
    """
    whole = to_arrow_schema(tables.schema)
    content = pa.schema([field for field in whole if field.name not in ("table", PART)])

    def write(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for (number, part), piece in _pieces(batches):
            place = places[number]
            table = pa.Table.from_batches(piece).drop_columns(["table", PART]).cast(content).combine_chunks()
            yield _row(number, _write(table, place.directory, part_file(place.folder, part)))

    written: list[list[FileEntry]] = [[] for _ in places]
    for number, entry, _ in _run(tables.sortWithinPartitions("table", PART, key), write):
        written[number].append(entry)
    return [
        found or [_write(content.empty_table(), place.directory, part_file(place.folder, 0))]
        for found, place in zip(written, places, strict=True)
    ]


def write_merged(tables: DataFrame, places: Sequence[Destination], key: str) -> list[list[FileEntry]]:
    """`write_tables` of merged rows, which may be many fewer than `places` say: there are as many files as the rows
    themselves ask for, so that the same rows give the same files, whatever they were merged from.
    """
    if all(_files(place.rows) == 1 for place in places):
        return write_tables(tables, places, key)
    merged = tables.persist()
    try:
        counts = {row["table"]: row["count"] for row in merged.groupBy("table").count().collect()}
        counted = [replace(place, rows=counts.get(number, 0)) for number, place in enumerate(places)]
        return write_tables(dealt(merged.drop(PART), counted, key), counted, key)
    finally:
        merged.unpersist()


def write_days(
    counts: DataFrame, directories: Mapping[int, str], folders: Mapping[str, Mapping[int, int]], key: str
) -> dict[str, list[FileEntry]]:
    """Add up partial counts and `write_tables` of several days in one pass, each day's into its own directory.

    Args:
        counts: `table` int, the position of the rows' folder, `day` int, `key` bigint and more, of which `impressions`
            and `positives` are added up where all others are equal.
        directories: by day.
        folders: by name, how many rows a day's table has at most, by day.
        key: the column that rows are sorted by.

    A day's files do not depend on the days and tables beside it. Returns the entries of the files by directory.
    """
    places = [
        Destination(url, folder, rows[day]) for folder, rows in folders.items() for day, url in directories.items()
    ]
    place = F.col("table") * len(directories) + position(F.col("day"), list(directories))
    dealt_counts = dealt(counts.withColumn("table", place).drop("day"), places, key)
    # The files say that impressions are never null, which Spark does not know of a sum.
    sums = {"impressions": F.coalesce(F.sum("impressions"), F.lit(0)), "positives": F.sum("positives")}
    groups = [name for name in dealt_counts.columns if name not in sums]
    merged = dealt_counts.groupBy(*groups).agg(*(sums[n].alias(n) for n in counts.columns if n in sums))
    written = write_tables(merged, places, key)
    by_directory: dict[str, list[FileEntry]] = {url: [] for url in directories.values()}
    for there, entries in zip(places, written, strict=True):
        by_directory[there.directory] += entries
    return by_directory


def position(value: Column, known: Sequence[int] | Sequence[str]) -> Column:
    """The position of `value` in a list that holds it: int."""
    return F.create_map(*(F.lit(item) for pair in zip(known, range(len(known)), strict=True) for item in pair))[value]


def read_table(spark: SparkSession, directory: str, manifest: Manifest, folder: str, schema: str) -> DataFrame:
    """The table `folder` of one directory. Raises DataError if a file of it differs from the manifest."""
    [url] = _verified({directory: manifest}, folder)
    return read_parquet(spark, [url], schema)


def read_daily(spark: SparkSession, directories: Mapping[str, Manifest], folder: str, schema: str) -> DataFrame:
    """The tables of several days as one: `day` int, then `schema`. One scan, whatever the number of days.

    Raises DataError if a file of it differs from its manifest.

    Args:
        spark: the session.
        directories: `date=YYYY-MM-DD-<key>` each (features.contract.outputs.DailyName), with their manifests.
        folder: of the table, in each directory.
        schema: of the table, as Spark's DDL.
    """
    if not directories:
        return spark.createDataFrame([], f"day int, {schema}")
    table = read_parquet(spark, _verified(directories, folder), schema)
    return table.select(day_of_file().alias("day"), *table.columns)


def read_tables(
    spark: SparkSession, directories: Mapping[str, Manifest], folder: str, names: Sequence[str], schema: str
) -> DataFrame:
    """Tables of several directories as one: `table` int (a position in `names`), then `schema`, and `_metadata`.

    One scan, whatever the number of tables and directories. `_metadata` is for `day_of_file`.

    Args:
        spark: the session.
        directories: that hold the tables.
        folder: of the tables, in each directory.
        names: of the tables, in the folder.
        schema: of every table, as Spark's DDL.
    """
    table = read_parquet(spark, _verified(directories, folder), schema, recursively=True)
    name = F.substring_index(F.substring_index(F.col("_metadata.file_path"), "/", -2), "/", 1)
    return table.select(position(name, names).alias("table"), *table.columns, "_metadata").where(name.isin(list(names)))


def _verified(directories: Mapping[str, Manifest], folder: str) -> list[str]:
    """Where the table `folder` of each directory is, once the driver has compared its files with the manifest, and
    found no others: Spark reads whatever lies in a folder.

    Spark reads pieces of files, which have no checksum. To read them as a whole first costs a fraction of the scan.
    """
    for directory, manifest in directories.items():
        entries = {entry.path: entry for entry in manifest.files if entry.path.startswith(f"{folder}/")}
        verify_files(directory, entries.values())
        there = (f"{folder}/{name}" for name in storage.list_files(storage.join(directory, folder)))
        strange = [path for path in there if path not in entries]
        if strange:
            raise DataError(f"{directory} holds {strange[:5]}, which its manifest does not list. Remove them.")
    return [storage.join(directory, folder) for directory in directories]


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
    digests = {"sha256": hashlib.sha256(content).hexdigest(), "xxh3": xxhash.xxh3_128_hexdigest(content)}
    return FileEntry(path=path, bytes=len(content), rows=table.num_rows, **digests)


def _run(table: DataFrame, write: Through) -> list[tuple[int, FileEntry, list[int]]]:
    """(table, entry, figures) of every file that `write` wrote in Spark's tasks, sorted."""
    rows = map_arrow(table, write, "table int, entry string, figures array<bigint>").collect()
    written = [(row["table"], FileEntry.model_validate_json(row["entry"]), row["figures"]) for row in rows]
    return sorted(written, key=_by_path)


def _row(number: int, entry: FileEntry, figures: Sequence[int] = ()) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays(
        [
            pa.array([number], pa.int32()),
            pa.array([entry.model_dump_json()]),
            pa.array([figures], pa.list_(pa.int64())),
        ],
        names=["table", "entry", "figures"],
    )


def _pieces(batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[tuple[int, int], list[pa.RecordBatch]]]:
    """Sorted batches cut where the table or the part changes: ((table, part), its batches), one piece at a time."""
    current, piece = (0, 0), list[pa.RecordBatch]()
    for batch in batches:
        table, part = (batch.column(name).to_numpy() for name in ("table", PART))
        cuts = [0, *(np.flatnonzero((np.diff(table) != 0) | (np.diff(part) != 0)) + 1), len(table)]
        for start, stop in pairwise(cuts):
            if start == stop:
                continue
            if piece and (table[start], part[start]) != current:
                yield current, piece
                piece = []
            current = int(table[start]), int(part[start])
            piece.append(batch.slice(start, stop - start))
    if piece:
        yield current, piece


def _by_path(found: tuple[int, FileEntry, list[int]]) -> tuple[int, str]:
    return found[0], found[1].path


def _table(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> pa.Table:
    rows = list(batches)
    return pa.Table.from_batches(rows).cast(schema).combine_chunks() if rows else schema.empty_table()


def _files(rows: int) -> int:
    return 1 + rows // ROWS_PER_FILE
