"""How many rows of a data set hold something that the encoder knows: a known value, or an admitted conjunction."""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import Column as SparkColumn
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from features.encoder import FIRST_ID, OOV_ID
from features.layout import Column
from features.spark_rows import source
from features.spec import FeatureSpec
from features.tables import for_spark


def coverage(
    spark: SparkSession, urls: Sequence[str], columns: Sequence[Column], spec: FeatureSpec
) -> dict[str, float]:
    """By column of ids, the share of rows with an id in `known_ids`.

    urls: of the encoded files, of which only the columns of ids are read.
    """
    of_ids = [column for column in columns if column.role in ("field", "cross")]
    kinds = ", ".join(f"`{c.name}` {'array<int>' if c.multi_valued else 'int'}" for c in of_ids)
    table = spark.read.schema(kinds).parquet(*map(for_spark, urls))
    held = table.agg(F.count(F.lit(1)), *(F.count_if(_is_known(column, spec)) for column in of_ids)).first()
    assert held is not None
    rows, *counts = held
    return {column.name: count / rows for column, count in zip(of_ids, counts, strict=True)} if rows else {}


def known_ids(column: Column, spec: FeatureSpec) -> range:
    """The ids that stand for a value or a conjunction of its own; of a hashed field or cross, for a bucket."""
    if column.role == "field":
        field = spec.field(column.feature)
        return range(OOV_ID if field.kind == "hashed" else OOV_ID + field.hash_ids, column.size)
    cross = spec.cross(column.feature)
    return range(FIRST_ID, column.size) if cross.vocabulary == "exact" else range(cross.buckets)


def _is_known(column: Column, spec: FeatureSpec) -> SparkColumn:
    ids = known_ids(column, spec)

    def inside(value: SparkColumn) -> SparkColumn:
        return value.between(ids.start, ids.stop - 1)

    return F.exists(source(column.name), inside) if column.multi_valued else inside(source(column.name))
