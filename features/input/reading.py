"""Files and tables as Spark reads them: the columns that are asked for, the timestamp made one, bad rows left out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import reduce

import pyarrow as pa
from pyspark.sql import Column, DataFrame, DataFrameReader, SparkSession
from pyspark.sql.pandas.types import from_arrow_type

from nightjar.features.contract.spec import FeatureSpec
from nightjar.features.input.bad_rows import usable, with_raw, with_reason
from nightjar.features.input.config import TABLE, InputConfig
from nightjar.features.input.damage import opening
from nightjar.features.input.files import FileHead
from nightjar.features.input.rules import require_label, with_moment
from nightjar.features.input.sides.joined import Columns, Piece
from nightjar.features.input.source_config import MALFORMED_ROW, SourceConfig
from nightjar.features.spark.rows import source
from nightjar.features.spark.tables import DAY, for_spark, literal

CASE_SENSITIVE = "spark.sql.caseSensitive"


def pieces_of(heads: Sequence[FileHead], config: SourceConfig) -> tuple[Piece, ...]:
    """Of csv files whose headers differ, those that have the same; otherwise none."""
    urls: dict[Columns, list[str]] = defaultdict(list)
    for head in heads:
        if config.format == "csv" and len(head.schema):
            urls[tuple(config.typed(head.schema.names))].append(head.url)
    return tuple((columns, tuple(of_piece)) for columns, of_piece in urls.items()) if len(urls) > 1 else ()


def columns_to_read(schema: pa.Schema, spec: FeatureSpec, config: InputConfig) -> Columns:
    """Names and Spark types of what is read from files: all columns of a text file, otherwise what the spec reads.

    So Spark meets no column that it cannot read and that nobody asks for. schema: types as Spark reads them.
    """
    return named_columns(schema, [name for name in config.columns_of(spec) if name in schema.names], config)


def named_columns(schema: pa.Schema, names: Sequence[str], config: SourceConfig) -> Columns:
    """`columns_to_read` for these columns of the schema."""
    if config.is_text:
        return tuple(config.typed(config.names_in(schema)))
    return tuple((name, _spark_type(schema.field(name).type, config)) for name in names)


def _spark_type(kind: pa.DataType, config: SourceConfig) -> str:
    if config.format == "orc" and pa.types.is_timestamp(kind):
        return "timestamp"  # of an ORC file, Spark takes both kinds for moments
    return from_arrow_type(kind).simpleString()


def open_rows(
    spark: SparkSession,
    config: InputConfig,
    pieces: Sequence[Piece],
    spec: FeatureSpec,
    day: Column | None = None,
    *,
    all_rows: bool = False,
) -> DataFrame:
    """Rows of files or of a table, the timestamp made one, without those that the input leaves out.

    Args:
        spark: the session.
        config: says how they are read, and what is left out.
        pieces: what has the same columns; or the one table.
        spec: says which rows can be used.
        day: what their `DAY` is, if files tell.
        all_rows: leave none out, and append features.input.bad_rows' `REASON` and `RAW`.
    """
    tables = []
    for columns, urls in pieces:
        table = open_log(spark, config, urls, columns)
        if day is not None:
            table = table.withColumn(DAY, day)
        if all_rows:
            table = with_raw(table, spec, config)
        table = with_moment(table, spec.timestamp, config)
        require_label(table, spec)
        tables.append(with_reason(table, spec, config) if all_rows else usable(table, spec, config))
    # Which columns beside those that the spec reads are there depends on the file.
    common = [name for name in tables[0].columns if all(name in table.columns for table in tables)]
    return reduce(DataFrame.unionAll, [t.select(*map(source, common)) if len(tables) > 1 else t for t in tables])


def open_log(
    spark: SparkSession, config: SourceConfig, urls: Sequence[str], columns: Sequence[tuple[str, str]] = ()
) -> DataFrame:
    """All rows of some files, or of one table.

    Args:
        spark: the session.
        config: says how they are read.
        urls: of files or folders; or the one table.
        columns: names and Spark types to read from files.
    """
    reader = spark.read.options(**config.reader_options)
    if columns:
        columns = [*columns, (MALFORMED_ROW, "string")] if config.keeps_malformed else columns
        reader = reader.schema(", ".join(f"`{n.replace('`', '``')}` {kind}" for n, kind in columns))
    with opening(urls[0], config.format):
        if config.format == TABLE:
            return _table(spark, reader, urls[0])
        if config.is_files:
            return reader.format(config.format).load([literal(for_spark(url)) for url in urls])
        return reader.format(config.format).load(urls[0] or None)


def _table(spark: SparkSession, reader: DataFrameReader, name: str) -> DataFrame:
    """A catalog's table. Catalogs ignore the case of names, unlike the columns of files (jobs.common.spark_session)."""
    before = spark.conf.get(CASE_SENSITIVE)
    spark.conf.set(CASE_SENSITIVE, "false")
    try:
        return reader.table(name)
    finally:
        spark.conf.set(CASE_SENSITIVE, str(before))
