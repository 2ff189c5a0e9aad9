"""Rows that are equal in all that the spec reads, told apart.

A log with a timestamp of a day or an hour and no unique id has many of them. Whatever is drawn by a hash of the row's
content would take all copies of a row or none.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from nightjar.features.spark.rows import ROW_HASH, source


def with_unique_hashes(rows: DataFrame) -> DataFrame:
    """Make `ROW_HASH` a hash of the row among its equals: xxhash64(hash, n) for the n-th further copy of a row.

    In:  a table with ROW_HASH. Out: the same; a row without an equal, and one of several, keep the hash they had.

    Which hashes there are does not depend on Spark's partitions, and equal rows are interchangeable. One narrow job
    finds out whether there are copies at all: only then the rows themselves are shuffled.
    """
    most = rows.groupBy(ROW_HASH).agg(F.count(F.lit(1)).alias("copies")).agg(F.max("copies")).first()
    if most is None or (most[0] or 0) < 2:
        return rows
    ties = [_ordered(rows, name) for name in rows.columns if name != ROW_HASH]
    copy = F.row_number().over(Window.partitionBy(ROW_HASH).orderBy(*ties)) - 1
    numbered = rows.withColumn("copy", copy)
    own = F.when(F.col("copy") == 0, F.col(ROW_HASH)).otherwise(F.xxhash64(ROW_HASH, "copy"))
    return numbered.select(*(own.alias(n) if n == ROW_HASH else source(n) for n in rows.columns))


def first_copies(rows: DataFrame) -> DataFrame:
    """One row of each `ROW_HASH`."""
    ties = [_ordered(rows, name) for name in rows.columns if name != ROW_HASH]
    numbered = rows.withColumn("copy", F.row_number().over(Window.partitionBy(ROW_HASH).orderBy(*ties)))
    return numbered.where(F.col("copy") == 1).select(*map(source, rows.columns))


def _ordered(rows: DataFrame, name: str) -> Column:
    """What orders a column's values. As text, since 0 and -0 are equal numbers to Spark and have one hash."""
    is_fractional = rows.schema[name].dataType.typeName() in ("double", "float")
    return source(name).cast("string") if is_fractional else source(name)
