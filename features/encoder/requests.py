"""The shapes in which rows come to be scored, and each of their columns as one Arrow array.

One rule for mappings, whatever the others bring: a key that is not there is a missing value. Where columns are given,
as a Table, a DataFrame or a mapping of columns, a column that a feature reads must be there. What all rows have in
common may be given once, as the context of the others (`InContext`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache, partial
from itertools import chain
from typing import Any, TypeAlias

import pyarrow as pa

from nightjar.features.contract.errors import DataError
from nightjar.features.encoder.arrow_types import as_spark_reads

log = logging.getLogger(__name__)

Row: TypeAlias = Mapping[str, Any]
PlainRows: TypeAlias = pa.Table | pa.RecordBatch | Iterable[Row] | Row | Mapping[str, Sequence[Any]]


@dataclass(frozen=True)
class InContext:
    """A request's candidates, and what they have in common: user, device, hour, read and encoded once.

    candidates: rows of any shape, which lack the context's columns. Rows that repeat the context give the same scores.
    """

    context: Row
    candidates: PlainRows


Rows: TypeAlias = PlainRows | InContext

_BIG_INTEGER = pa.decimal128(38, 0)


@dataclass(frozen=True)
class Request:
    """Rows as columns. names: in their order, repeats included; read: a column by its name, in any form that
    `array_of` takes; rows: None where only the columns tell; sparse: whether a column that is not there is missing in
    every row; common: columns of one value that stands for every row.
    """

    names: Sequence[Any]
    read: Callable[[str], Any]
    rows: int | None
    sparse: bool = False
    common: Collection[str] = ()


def read_request(rows: Any, wanted: Sequence[str], lists: Collection[str] = ()) -> Request:
    """The columns of a request.

    Args:
        rows: what `score` was given.
        wanted: the columns that features read; those of multi-valued fields are `lists`, too.

    Raises DataError, which shows the right shapes, for anything that is no table of rows.
    """
    if isinstance(rows, InContext):
        return _in_context(rows, wanted, lists)
    if isinstance(rows, pa.RecordBatchReader):
        rows = rows.read_all()
    if isinstance(rows, pa.Table | pa.RecordBatch):
        return Request(rows.schema.names, rows.column, rows.num_rows)
    if isinstance(rows, pa.Array | pa.ChunkedArray):
        rows = rows.to_pylist()
    if _is_series(rows):
        if not any(name in rows.index for name in wanted):
            raise _shapeless("a Series that has none of the columns in its index", wanted)
        return _of_mappings([dict(zip(rows.index, rows, strict=True))])
    if isinstance(rows, Mapping):
        if _is_one_row(rows, wanted, lists):
            return _of_mappings([rows])
        return Request(list(rows), rows.__getitem__, None)
    if hasattr(rows, "columns") and hasattr(rows, "__getitem__"):
        return Request(list(rows.columns), rows.__getitem__, len(rows))
    of_none = getattr(rows, "ndim", 1) == 0  # NumPy's arrays of no dimension say that they can be gone through
    if of_none or isinstance(rows, str | bytes | bytearray | memoryview) or not isinstance(rows, Iterable):
        raise _shapeless(f"{type(rows).__name__} {_short(rows)}", wanted)
    listed = list(rows)
    for number, row in enumerate(listed):
        if type(row) is not dict and not isinstance(row, Mapping):  # the second costs more than the look-ups
            raise _shapeless(f"row {number} is {type(row).__name__} {_short(row)}", wanted)
    return _of_mappings(listed)


def _in_context(rows: InContext, wanted: Sequence[str], lists: Collection[str]) -> Request:
    if not isinstance(rows.context, Mapping):
        raise _shapeless(f"its context is {type(rows.context).__name__} {_short(rows.context)}", wanted)
    context = rows.context
    own = read_request(rows.candidates, [name for name in wanted if name not in context], lists)
    both = sorted(set(own.names) & set(context))
    if both:
        raise DataError(f"context and candidates both bring the columns {both}. Leave each in one of them.")

    def read(name: str) -> Any:
        return [context[name]] if name in context else own.read(name)

    return Request([*own.names, *context], read, own.rows, own.sparse, frozenset(context))


def array_of(values: Any, name: str) -> pa.Array:
    """A column as one array of a type that Spark has, too; of type null if every value is missing.

    Raises DataError for values that no column holds.
    """
    try:
        array = _to_arrow(values, name)
        if isinstance(array, pa.ChunkedArray):
            array = array.chunk(0) if array.num_chunks == 1 else array.combine_chunks()
        if isinstance(array, pa.ExtensionArray):
            array = array.storage
        if array.null_count == len(array):
            return pa.nulls(len(array))
        kind = as_spark_reads(array.type)
        return array if array.type == kind else array.cast(kind)
    except UnicodeEncodeError as error:
        raise DataError(f"column {name!r} holds a string that is not Unicode: {error}. Repair or drop it.") from error
    except pa.ArrowNotImplementedError as error:
        raise DataError(f"column {name!r} holds what no feature reads: {error}. Cast it.") from error
    except (pa.ArrowException, OverflowError, TypeError, ValueError, RecursionError) as error:
        raise DataError(
            f"column {name!r} mixes types, or holds what is no value: {error}. Give every value the same type: a "
            f"string, a number, a boolean, or a list of those."
        ) from error


@cache
def warn_of_absent_keys(absent: tuple[str, ...]) -> None:
    """Once for the same keys: a mapping may lack a key, but a misspelt one is lacking in all."""
    log.warning("no row of a request brings %s, which features read; they count as missing", list(absent))


def _of_mappings(rows: Sequence[Row]) -> Request:
    names = list(dict.fromkeys(chain.from_iterable(rows)))
    return Request(names, partial(_values, rows), len(rows), sparse=True)


def _values(rows: Sequence[Row], name: str) -> list[Any]:
    return [row.get(name) for row in rows]


def _is_one_row(rows: Mapping[Any, Any], wanted: Sequence[str], lists: Collection[str]) -> bool:
    """True for a mapping of values, false for one of columns."""
    present = [name for name in wanted if name in rows]
    single = [name for name in present if name not in lists]
    if any(not _is_column(rows[name]) for name in single or present):
        return True
    return not single and any(len(rows[n]) and not any(_is_column(v) or v is None for v in rows[n]) for n in present)


def _is_column(value: Any) -> bool:
    """True for a sequence of values, false for one value: a string is one."""
    if isinstance(value, str | bytes | bytearray | memoryview | Mapping) or getattr(value, "ndim", 1) == 0:
        return False
    return isinstance(value, Sequence | Iterator) or (hasattr(value, "__len__") and hasattr(value, "__getitem__"))


def _to_arrow(values: Any, name: str) -> pa.Array | pa.ChunkedArray:
    if isinstance(values, pa.Array | pa.ChunkedArray):
        return values
    if getattr(values, "ndim", 1) != 1 or not _is_column(values):
        raise DataError(f"column {name!r} is {type(values).__name__}; it must be one sequence, of one value a row.")
    if isinstance(values, Iterator):
        values = list(values)
    try:
        return pa.array(values, from_pandas=True)
    except (pa.ArrowException, OverflowError):
        # Integers beyond 64 bits: Spark's decimals reach further.
        if not all(value is None or (isinstance(value, int) and not isinstance(value, bool)) for value in values):
            raise
        return pa.array([None if value is None else Decimal(value) for value in values], _BIG_INTEGER)


def _is_series(rows: Any) -> bool:
    """True for pandas' Series, without pandas having to be there."""
    return type(rows).__module__.startswith("pandas.") and hasattr(rows, "index") and not hasattr(rows, "columns")


def _shapeless(found: str, wanted: Sequence[str]) -> DataError:
    names = list(wanted[:2]) or ["column"]
    row, columns = (", ".join(f"{name!r}: {what}" for name in names) for what in ("...", "[...]"))
    return DataError(
        f"the request is no table of rows: {found}. Give a list of mappings [{{{row}}}, ...], one mapping {{{row}}}, "
        f"a mapping of columns {{{columns}}}, a pandas DataFrame, or a pyarrow Table or RecordBatch."
    )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
