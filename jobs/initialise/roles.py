"""Which columns are the label, the row's timestamp and the user: told by types, values and names.

Where the look cannot tell, the error lists the candidates and the option that settles it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nightjar.features.contract.errors import DataError, UsageError
from nightjar.jobs.initialise.columns import LoggedColumn
from nightjar.jobs.initialise.sample import Sample

_LABEL_WORDS = frozenset(
    (
        *("label", "target", "y", "response", "click", "clicked", "clicks", "convert", "converted", "conversion"),
        *("install", "installed", "purchase", "purchased", "buy", "bought", "order", "ordered", "book", "booked"),
        *("like", "liked", "subscribe", "subscribed", "churn", "churned", "engaged"),
    )
)
_TIMESTAMP_WORDS = frozenset(("timestamp", "ts", "time", "at", "datetime", "shown", "impression"))
# The first that the log has is the user: a session or a device may change hands.
_USER_WORDS = ("user", "uid", "userid", "member", "customer", "viewer", "visitor", "account", "person", "device")
_ID_WORDS = frozenset(("id", "uid", "key", "hash", "userid", "itemid", "adid", "docid", "productid"))
# A timestamp is the row's own where so many of the rows lie in their day's folder; a late row may not.
_IN_FOLDER = 0.9


@dataclass(frozen=True)
class Roles:
    """Names of columns; group is None if no column names the user."""

    label: str
    timestamp: str
    group: str | None


def choose_roles(
    columns: Mapping[str, LoggedColumn], sample: Sample, label: str | None, timestamp: str | None, group: str | None
) -> Roles:
    """The given columns, checked, and the others as the look tells them.

    Args:
        columns: of the sample.
        sample: where the days are compared with timestamps.
        label, timestamp, group: what the command line says; None where it does not.

    Raises UsageError if a given column cannot be it, or if there is not exactly one candidate for the others.
    """
    for option, name in (("--label", label), ("--timestamp", timestamp), ("--group", group)):
        if name is not None and name not in columns:
            raise UsageError(f"{option}: there is no column {name!r}; the log has {list(columns)}.")
    if group is not None and columns[group].kind not in ("string", "integer", "boolean"):
        raise UsageError(f"--group: {group!r} has the type {columns[group].type}; it must be string or integral.")
    time = timestamp or _choose_timestamp(columns, sample)
    if not _is_usable_timestamp(columns[time].type):
        raise UsageError(
            f"--timestamp: {time!r} has the type {columns[time].type}; a row's timestamp must be one in milliseconds "
            f"or microseconds. Cast it where the log is written."
        )
    return Roles(_choose_label(columns, label), time, group or _choose_group(columns))


def is_id(column: LoggedColumn) -> bool:
    """True if the name says that the values name something, such as user_id or itemId."""
    return bool(column.words) and column.words[-1] in _ID_WORDS


def is_user(column: LoggedColumn) -> bool:
    """True if the name says that the values name users: user, userId, member_key."""
    rest = [word for word in column.words if word not in _ID_WORDS - {"uid", "userid"}]
    return len(rest) == 1 and rest[0] in _USER_WORDS and column.kind in ("string", "integer")


def _choose_label(columns: Mapping[str, LoggedColumn], given: str | None) -> str:
    binary = [name for name, column in columns.items() if _is_binary(column)]
    if given is not None:
        return _checked_label(columns[given], binary)
    named = [name for name in binary if set(columns[name].words) & _LABEL_WORDS]
    candidates = named or binary
    if len(candidates) == 1:
        return _checked_label(columns[candidates[0]], binary)
    if candidates:
        raise UsageError(f"which column is the label? {candidates} hold only 0 and 1. Give --label with one of them.")
    raise UsageError(
        f"no column can be the label: none of {list(columns)} holds 0 and 1 in every row (integers, numbers or "
        f"booleans). Write the label into the log, 1 for a positive and 0 for the others."
    )


def _checked_label(column: LoggedColumn, binary: Sequence[str]) -> str:
    values = column.number_R
    if values is None or column.missing or not np.isin(values, (0.0, 1.0)).all():
        raise UsageError(
            f"--label: {column.name!r} ({column.type}, {column.figures}) must hold 0 or 1 in every row. "
            f"Columns that do: {list(binary)}."
        )
    if len(np.unique(values)) < 2:
        raise DataError(
            f"the label {column.name!r} is {values[0]:g} in all {column.rows:,} rows of the sample. Give more --rows, "
            f"or another --label."
        )
    return column.name


def _is_binary(column: LoggedColumn) -> bool:
    return (
        column.number_R is not None
        and column.distinct == 2
        and not column.missing
        and bool(np.isin(column.number_R, (0.0, 1.0)).all())
    )


def _choose_timestamp(columns: Mapping[str, LoggedColumn], sample: Sample) -> str:
    candidates = [name for name, column in columns.items() if _is_usable_timestamp(column.type)]
    complete = [name for name in candidates if not columns[name].missing and _agrees(sample, name)]
    if len(complete) > 1:
        named = [name for name in complete if set(columns[name].words) & _TIMESTAMP_WORDS]
        complete = named if len(named) == 1 else complete
    if len(complete) == 1:
        return complete[0]
    if complete:
        raise UsageError(
            f"which timestamp is the row's own, the moment it was shown? {complete} could be. Give --timestamp with "
            f"one of them."
        )
    others = [f"{n} ({c.type})" for n, c in columns.items() if set(c.words) & _TIMESTAMP_WORDS or n in candidates]
    raise UsageError(
        f"no column can be the row's timestamp: it must be a timestamp in milliseconds or microseconds, in every row, "
        f"and in the day of the row's folder. {'Close to it: ' + ', '.join(others) if others else 'There is none'}. "
        f"Give --timestamp, or write one into the log."
    )


def _is_usable_timestamp(kind: pa.DataType) -> bool:
    return bool(pa.types.is_timestamp(kind) and kind.unit in ("ms", "us"))


def _agrees(sample: Sample, name: str) -> bool:
    if sample.day_R is None:
        return True
    return float(np.mean(day_numbers(sample.table[name]) == sample.day_R)) >= _IN_FOLDER


def day_numbers(timestamps: pa.ChunkedArray) -> np.ndarray:
    """The UTC day of each timestamp, in days since 1970-01-01: int64[R]; 0 where missing."""
    micros = timestamps.cast(pa.timestamp("us", tz=timestamps.type.tz)).cast(pa.int64())
    return pc.fill_null(micros, 0).to_numpy().astype(np.int64) // 86_400_000_000


def _choose_group(columns: Mapping[str, LoggedColumn]) -> str | None:
    users = [column for column in columns.values() if is_user(column) and not column.is_constant]
    for word in _USER_WORDS:
        named = [column.name for column in users if word in column.words]
        if len(named) == 1:
            return named[0]
        if named:
            raise UsageError(f"which column names the user? {named} could. Give --group with one of them.")
    return None
