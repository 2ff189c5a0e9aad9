"""Spark tables in published directories: part files whose names and content depend on the rows alone."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import pyarrow.parquet as pq
from pyspark.sql import Column, DataFrame, DataFrameWriter, SparkSession
from pyspark.sql import functions as F

from features import storage
from features.errors import UsageError
from features.manifest import Manifest

ROWS_PER_FILE = 1_000_000
# Large enough for one row group a file, small enough for a few writers in a 1 GiB executor.
_ROW_GROUP_BYTES = 1 << 28
_THREADS = 8


def for_spark(url: str) -> str:
    """A path or URL as Spark must be given it, so that Hadoop's default file system does not matter."""
    return url if "://" in url else f"file://{os.path.abspath(url)}"


def day_of_file() -> Column:
    """The YYYY-MM-DD of the `date=` folder that a row was read from: int, days since 1970-01-01.

    Not Spark's own partition column, which would shadow a column `date` in the files.
    """
    folder = F.substring_index(F.col("_metadata.file_path"), "/date=", -1)
    return F.unix_date(F.to_date(F.substring(folder, 1, 10)))


def write_table(table: DataFrame, directory: str, folder: str) -> dict[str, int]:
    """Write each partition that holds rows as `folder/part-NNNNN.parquet`, one row group each, in order.

    Returns the rows of each file by its path in `directory`. An empty table is one file without rows.
    """
    scratch = storage.join(directory, folder, "_spark")
    _writer(table).parquet(for_spark(scratch))
    urls = [storage.join(scratch, name) for name in storage.list_files(scratch, ".parquet")]
    with ThreadPoolExecutor(_THREADS) as pool:
        counted = list(zip(urls, pool.map(_row_count, urls), strict=True))
    kept = dict([(url, rows) for url, rows in counted if rows] or counted[:1])
    moved = _move_parts(list(kept), directory, folder)
    storage.remove(scratch)
    return dict(zip(moved, kept.values(), strict=True))


def write_sorted(table: DataFrame, directory: str, folder: str, *, key: str, rows: int) -> dict[str, int]:
    """`write_table` of at most `rows` rows with a unique bigint `key`: the same rows give the same files."""
    files = 1 + rows // ROWS_PER_FILE
    return write_table(table.repartition(files, F.col(key)).sortWithinPartitions(key), directory, folder)


def write_days(
    table: DataFrame, directories: Mapping[int, str], folder: str, *, key: str, rows: int
) -> dict[str, dict[str, int]]:
    """`write_sorted` of several days in one pass, each day's rows into `folder` of its own directory.

    table: `day` int, `key` bigint, unique in a day, and more. directories: by day. rows: at most, of a day.
    Returns the rows of each file by directory and path; a day without rows has no file.
    """
    files = 1 + rows // ROWS_PER_FILE
    scratch = storage.join(next(iter(directories.values())), folder, "_spark")
    spread = table.repartition(len(directories) * files, F.col("day"), F.pmod(key, F.lit(files)))
    _writer(spread.sortWithinPartitions("day", key)).partitionBy("day").parquet(for_spark(scratch))
    urls: dict[str, list[str]] = defaultdict(list)
    for name in storage.list_files(scratch, ".parquet"):
        day = name.partition("/")[0].removeprefix("day=")
        urls[directories[int(day)]].append(storage.join(scratch, name))
    written = {}
    with ThreadPoolExecutor(_THREADS) as pool:
        for directory, parts in urls.items():
            counts = list(pool.map(_row_count, parts))
            written[directory] = dict(zip(_move_parts(parts, directory, folder), counts, strict=True))
    storage.remove(scratch)
    return written


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


def _writer(table: DataFrame) -> DataFrameWriter:
    return table.write.option("parquet.block.size", _ROW_GROUP_BYTES)


def _move_parts(urls: list[str], directory: str, folder: str) -> list[str]:
    paths = [f"{folder}/part-{n:05d}.parquet" for n in range(len(urls))]
    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(storage.move, urls, [storage.join(directory, path) for path in paths]))
    return paths


def _row_count(url: str) -> int:
    with storage.open_binary(url) as stream:
        footer = pq.ParquetFile(stream).metadata
    if footer.num_row_groups > 1:
        raise UsageError(
            f"{footer.num_rows} rows take {footer.num_row_groups} row groups of {_ROW_GROUP_BYTES} bytes, but "
            f"a file must be one row group. Lower --rows-per-file."
        )
    return int(footer.num_rows)
