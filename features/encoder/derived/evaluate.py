"""Derived columns of Arrow arrays. Spark's tasks call this on a log's batches and serving on a request's columns.

Values are of five kinds, whatever types hold them: numbers, integers among them (int64 or float64), strings, booleans
and moments (microseconds since 1970 UTC). Types of a log and of a request differ (int32 and Python's int, float32 and
float64, null where all are missing), so what they hold is brought to these first, and a function gives the same for an
integer as for the floating-point number that equals it. NaN is missing, and so is what cannot be computed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nightjar.features.contract.errors import DataError
from nightjar.features.contract.expressions.derived import DerivedColumn, in_order, log_columns
from nightjar.features.contract.expressions.parse import Call, Column, Literal, Node
from nightjar.features.encoder.arrow_types import as_spark_reads, is_floating
from nightjar.features.encoder.derived.functions import DAY_MICROS, FUNCTIONS, KindError, kind_of, moments
from nightjar.features.encoder.raw_columns import numbers


def with_derived(
    columns: Mapping[str, pa.Array], derived: Sequence[DerivedColumn], wanted: Iterable[str]
) -> dict[str, pa.Array]:
    """The columns, and those of `wanted` that are derived: int64, float64 without NaN, string or bool; of type null if
    nothing tells a type.

    Args:
        columns: of the log or a request, by name; one value, which stands for every row, or one a row.
        derived: how they are computed.
        wanted: names of columns, derived or not.

    Raises DataError for columns of types that an expression cannot be computed of.
    """
    wanted = list(wanted)
    needed = in_order(derived, wanted)
    made = {one.name for one in needed}
    read = {name for one in needed for name in one.columns} - made
    values = {name: _values(columns[name], name) for name in read}
    for one in needed:
        values[one.name] = _derived(one, values)
    for one in needed:
        if one.name in wanted and kind_of(values[one.name]) == "moment":
            raise DataError(
                f"the derived column {one.name!r}, {one.expression!r}, is a moment, which no feature reads. Take a "
                f"part of it, such as hour(...), or days_between(...)."
            )
    return {**columns, **{one.name: values[one.name] for one in needed if one.name in wanted}}


def types_of(schema: pa.Schema, derived: Sequence[DerivedColumn], wanted: Iterable[str]) -> dict[str, pa.DataType]:
    """The types of derived columns in Spark, of a log's types; a string where nothing tells. Raises DataError as
    `with_derived`."""
    wanted = list(wanted)
    read = [name for column in wanted for name in log_columns(derived, column)]
    columns = {name: pa.nulls(0, schema.field(name).type if name in schema.names else pa.null()) for name in read}
    found = with_derived(columns, derived, wanted)
    kinds = {name: array.type for name, array in found.items() if name not in columns}
    return {name: pa.string() if pa.types.is_null(kind) else kind for name, kind in kinds.items()}


def _derived(one: DerivedColumn, values: Mapping[str, pa.Array]) -> pa.Array:
    node = one.node
    lengths = {len(values[name]) for name in one.columns}
    rows = next((length for length in lengths if length != 1), 1)
    spread = {name: _spread(values[name], rows) for name in one.columns}
    try:
        return _evaluate(node, spread, rows)
    except KindError as error:
        raise DataError(f"the derived column {one.name!r}, {one.expression!r}, cannot be computed: {error}.") from error


def _evaluate(node: Node, columns: Mapping[str, pa.Array], rows: int) -> pa.Array:
    if isinstance(node, Literal):
        return pa.nulls(rows) if node.value is None else pa.repeat(node.value, rows)
    if isinstance(node, Column):
        return columns[node.name]
    return _call(node, [_evaluate(argument, columns, rows) for argument in node.arguments])


def _call(node: Call, arguments: Sequence[pa.Array]) -> pa.Array:
    literals = [argument.value if isinstance(argument, Literal) else None for argument in node.arguments]
    try:
        return FUNCTIONS[node.function](arguments, literals)
    except KindError as error:
        raise KindError(error.reason, str(node) if not error.where else error.where) from error


def _spread(array: pa.Array, rows: int) -> pa.Array:
    """One value, as often as there are rows."""
    return array if len(array) == rows else array.take(pa.repeat(0, rows))


def _values(array: pa.Array, name: str) -> pa.Array:
    """A column of one of the kinds. Raises DataError for a type that has none."""
    kind = as_spark_reads(array.type)
    array = array if array.type == kind else array.cast(kind)
    if pa.types.is_null(kind) or pa.types.is_boolean(kind):
        return array
    if pa.types.is_integer(kind):
        return array.cast(pa.int64())
    if is_floating(kind) or pa.types.is_decimal(kind):
        return pa.array(numbers(array, name), from_pandas=True)
    if pa.types.is_string(kind):
        return _unicode(array)
    if pa.types.is_date32(kind):
        return moments(pc.multiply(array.cast(pa.int32()).cast(pa.int64()), DAY_MICROS))
    if pa.types.is_timestamp(kind):
        return moments(_micros(array.cast(pa.int64()), kind.unit))
    raise DataError(
        f"column {name!r} has the type {kind}; derived columns are computed of numbers, strings, booleans, dates and "
        f"timestamps."
    )


def _micros(ticks: pa.Array, unit: str) -> pa.Array:
    """pandas counts nanoseconds; no log that Spark reads does."""
    if unit == "us":
        return ticks
    micros = np.floor_divide(ticks.fill_null(0).to_numpy(), 1000)
    return pa.array(micros, mask=ticks.is_null().to_numpy(zero_copy_only=False))


def _unicode(strings: pa.Array) -> pa.Array:
    """Strings that are not Unicode are missing."""
    try:
        strings.validate(full=True)
    except pa.ArrowInvalid:
        return pa.array([_decoded(value) for value in pc.cast(strings, pa.binary()).to_pylist()], pa.string())
    return strings


def _decoded(value: bytes | None) -> str | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return None
