"""A column's type as Spark reads it, whatever Arrow, a file or a request calls it: one spelling each.

The log's check, the comparison of days, what Spark is told to read, and a request all go by it.
"""

from __future__ import annotations

from functools import lru_cache

import pyarrow as pa

# Parquet's unsigned integers are the next larger signed type to Spark, and the largest one a decimal.
_SIGNED = {
    pa.uint8(): pa.int16(),
    pa.uint16(): pa.int32(),
    pa.uint32(): pa.int64(),
    pa.uint64(): pa.decimal128(20, 0),
}
_LISTS = ("is_list", "is_large_list", "is_fixed_size_list", "is_list_view", "is_large_list_view")
_STRINGS = ("is_string", "is_large_string", "is_string_view")


@lru_cache(maxsize=1024)
def as_spark_reads(kind: pa.DataType) -> pa.DataType:
    """The one spelling of a type; a type that no feature can read is left as it is.

    Dictionaries and extension types are what they hold, every string is a string, every list a nullable list,
    unsigned integers are the larger signed ones, and a timestamp is in microseconds: with a time zone a moment, which
    UTC stands for, and without one a wall clock's. Nanoseconds are no timestamp to Spark and stay.
    """
    if pa.types.is_dictionary(kind):
        return as_spark_reads(kind.value_type)
    if isinstance(kind, pa.BaseExtensionType):
        return as_spark_reads(kind.storage_type)
    if _is_any(kind, _STRINGS):
        return pa.string()
    if _is_any(kind, _LISTS):
        return pa.list_(pa.field("element", as_spark_reads(kind.value_type)))
    if pa.types.is_timestamp(kind) and kind.unit != "ns":
        return pa.timestamp("us", tz="UTC" if kind.tz else None)
    return _SIGNED.get(kind, kind)


def is_floating(kind: pa.DataType) -> bool:
    """True for the floating-point numbers that Spark reads: of 32 and of 64 bits."""
    return bool(pa.types.is_float32(kind) or pa.types.is_float64(kind))


def is_number(kind: pa.DataType) -> bool:
    """True if a column of this type, after `as_spark_reads`, is a number or a boolean, which counts as one."""
    return bool(
        pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_decimal128(kind) or is_floating(kind)
    )


def is_categorical(kind: pa.DataType) -> bool:
    """True if a column of this type, after `as_spark_reads`, has a canonical string: not if it has fractions."""
    integral = pa.types.is_integer(kind) or (pa.types.is_decimal128(kind) and kind.scale == 0)
    return bool(integral or pa.types.is_string(kind) or pa.types.is_boolean(kind))


def is_categorical_list(kind: pa.DataType) -> bool:
    """True if a column of this type, after `as_spark_reads`, holds lists of categorical values."""
    return bool(pa.types.is_list(kind) and is_categorical(kind.value_type))


def _is_any(kind: pa.DataType, tests: tuple[str, ...]) -> bool:
    # Older versions of Arrow have no views, and no test of them.
    return any(getattr(pa.types, test)(kind) for test in tests if hasattr(pa.types, test))
