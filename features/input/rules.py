"""What only labels and logs need may be any expression of Spark's: a label's rule, timestamps as they are written."""

from __future__ import annotations

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import BooleanType, DataType, NumericType

from nightjar.features.contract.errors import DataError
from nightjar.features.contract.spec import FeatureSpec
from nightjar.features.encoder.derived.functions import FIRST_MICROS, LAST_MICROS
from nightjar.features.input.config import EPOCHS, InputConfig
from nightjar.features.input.damage import condition_of
from nightjar.features.spark.rows import hash_value, source


def with_moment(rows: DataFrame, timestamp: str, config: InputConfig) -> DataFrame:
    """Make the timestamp's column one, as `input.timestamp_format` says; null where it is not written so.

    Of a table without time it is the beginning of the day that a row is dealt to, by the hash that fields have, too: of
    an integer it does not depend on its width.
    """
    if config.dealt_by:
        part = F.pmod(hash_value(source(config.dealt_by)), F.lit(config.hash_days)).cast("int")
        return rows.withColumn(timestamp, F.date_add(F.lit(config.earliest), part).cast("timestamp"))
    if config.timestamp_format is None:
        return rows
    written = source(timestamp)
    if config.is_epoch:
        moment = _since_1970(written, rows.schema[timestamp].dataType, EPOCHS[config.timestamp_format])
    else:
        moment = F.try_to_timestamp(written, F.lit(config.timestamp_format))
    return rows.withColumn(timestamp, moment)


def _since_1970(number: Column, kind: DataType, micros: int) -> Column:
    """micros: microseconds of one."""
    if kind.typeName() in ("float", "double"):
        in_range = (number * micros >= FIRST_MICROS) & (number * micros <= LAST_MICROS)
        return F.when(in_range, F.timestamp_micros(F.round(F.when(in_range, number) * micros).cast("bigint")))
    in_range = (number >= FIRST_MICROS // micros) & (number <= LAST_MICROS // micros)
    return F.timestamp_micros(F.when(in_range, number).cast("bigint") * micros)


def require_label(rows: DataFrame, spec: FeatureSpec) -> None:
    """Raises DataError if a rule in SQL is none that gives a label for each row, of the columns that it names."""
    if isinstance(spec.label, str) or not spec.label.sql:
        return
    reads = f"features.label.sql, {spec.label.sql!r}, of the columns {list(spec.label.columns)}"
    try:
        found = rows.select(*map(source, spec.label.columns)).withColumn("rule", F.expr(spec.label.sql))
        kind = found.schema["rule"].dataType
    except (PySparkException, Py4JError) as error:
        raise DataError(f"{reads} cannot be computed: {condition_of(error)}. Correct it.") from error
    if not isinstance(kind, BooleanType | NumericType):
        raise DataError(
            f"{reads} is of the type {kind.simpleString()}; it must be true or false, or 1 or 0. Correct it."
        )
