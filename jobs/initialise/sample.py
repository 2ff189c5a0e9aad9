"""The sample: some rows of the newest days of a log, with types that Spark will read them by."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nightjar.features.contract.errors import DataError
from nightjar.jobs.initialise.files import FileSample, LogFiles, evenly, find_files, read_file

# Days that a sample is spread over, where one day alone could fill it: a week has every weekday.
SPREAD_DAYS = 7
# Files of a day that are opened, unless the sample needs more.
_FILES_A_DAY = 4
_SPARK_TYPES = {
    pa.bool_(): "boolean",
    pa.int64(): "bigint",
    pa.float64(): "double",
    pa.string(): "string",
    pa.list_(pa.string()): "array<string>",
    pa.list_(pa.int64()): "array<bigint>",
    pa.list_(pa.bool_()): "array<boolean>",
}
_EPOCH = date(1970, 1, 1)


@dataclass(frozen=True)
class Sample:
    """Rows of the newest days, the oldest day first.

    table: [R] rows. day_R: days since 1970-01-01 of the rows' folders; None where days are told by a timestamp.
    days: rows by date, of every day that was sampled, as far as folders tell days. found: dates that there are.
    total: rows of all files that were opened, and of those of their days that were not, estimated by their size.
    """

    files: LogFiles
    table: pa.Table
    day_R: np.ndarray | None
    days: Mapping[str, int]
    found: tuple[str, ...]
    total: int

    @property
    def share(self) -> float:
        """Which part of the rows of its days the sample holds."""
        return len(self.table) / self.total

    def input_section(self, read: Container[str]) -> dict[str, Any]:
        """The config's section `input`; empty for Parquet in date folders. read: the columns that features read."""
        section: dict[str, Any] = {}
        if self.files.format != "parquet":
            section["format"] = self.files.format
        if not self.files.in_folders:
            section["days"] = "timestamp"
        if self.files.format in ("csv", "json"):
            section["columns"] = {
                name: kind
                for name in self.table.column_names
                if name in read and (kind := _spark_type(self.table[name].type))
            }
        if self.files.format == "csv" and self.files.separator != ",":
            section["options"] = {"sep": self.files.separator}
        return section


def take_sample(location: str, rows: int) -> Sample:
    """Read about `rows` rows, at most a file's row group at a time. Raises DataError if there are none."""
    files = find_files(location)
    parts: dict[str, list[FileSample]] = {}
    days: dict[str, int] = {}
    left = rows
    for day in sorted(files.days, reverse=True):
        quota = min(left, -(-rows // SPREAD_DAYS)) if files.in_folders else rows
        if left <= 0:
            break
        parts[day], days[day] = _sample_day(files.days[day], files, quota)
        left -= sum(len(part.table) for part in parts[day])
    tables = {day: [part.table for part in parts[day] if len(part.table)] for day in sorted(parts)}
    if not any(tables.values()):
        raise DataError(f"{location} holds no rows. Give --logs a log with rows.")
    table = _one_table([table for of_day in tables.values() for table in of_day], files, location)
    lengths = {day: sum(map(len, of_day)) for day, of_day in tables.items()}
    day_R = None
    if files.in_folders:
        day_R = np.repeat([_number(day) for day in lengths], list(lengths.values())).astype(np.int64)
    found = tuple(sorted(files.days)) if files.in_folders else ()
    return Sample(
        files, table, day_R, dict(sorted(days.items())) if files.in_folders else {}, found, sum(days.values())
    )


def date_of(number: int) -> str:
    """The date so many days after 1970-01-01."""
    return (_EPOCH + timedelta(int(number))).isoformat()


def _number(day: str) -> int:
    return (date.fromisoformat(day) - _EPOCH).days


def _sample_day(urls: Sequence[str], files: LogFiles, quota: int) -> tuple[list[FileSample], int]:
    """Samples of a day's files, and the day's rows. Files are taken evenly until they fill the quota."""
    order = evenly(len(urls), _FILES_A_DAY).tolist()
    order += [i for i in range(len(urls)) if i not in order]
    parts: list[FileSample] = []
    opened = 0
    wanted = -(-quota // min(len(urls), _FILES_A_DAY))
    for i in order:
        missing = quota - sum(len(part.table) for part in parts)
        if missing <= 0:
            break
        parts.append(read_file(urls[i], files, min(wanted, missing) if opened < _FILES_A_DAY else missing))
        opened += 1
    seen = sum(part.rows for part in parts)
    return parts, round(seen * len(urls) / opened) if opened else 0


def _one_table(tables: Sequence[pa.Table], files: LogFiles, location: str) -> pa.Table:
    """All rows in one table; columns that only some have are null in the others."""
    try:
        # A line of JSON says 1 where another says 1.5; elsewhere a file states its types.
        promote = "permissive" if files.format == "json" else "default"
        schema = pa.unify_schemas([table.schema.remove_metadata() for table in tables], promote_options=promote)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise DataError(f"the files in {location} do not agree: {error}. Write one type for each column.") from error
    aligned = [
        pa.table(
            {f.name: table[f.name] if f.name in table.column_names else pa.nulls(len(table), f.type) for f in schema}
        )
        for table in tables
    ]
    table = pa.concat_tables([one.cast(schema) for one in aligned]).combine_chunks()
    return _typed(table) if files.format in ("csv", "json") else table


def _typed(table: pa.Table) -> pa.Table:
    """Columns of text that are integers, numbers, booleans or timestamps, as those."""
    return pa.table({name: _typed_column(table[name]) for name in table.column_names})


def _typed_column(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_timestamp(column.type):
        return column.cast(pa.timestamp("us", tz="UTC"))
    if not pa.types.is_string(column.type) or column.null_count == len(column):
        return column
    # A code such as 007 is no number: a number would lose its zeros.
    coded = pc.any(pc.match_substring_regex(column, r"^-?0[0-9]")).as_py()
    for kind in (pa.int64(), pa.float64(), pa.bool_(), pa.timestamp("us", tz="UTC"), pa.timestamp("us")):
        if coded and kind in (pa.int64(), pa.float64()):
            continue
        try:
            typed = column.cast(kind)
        except pa.ArrowInvalid:
            continue
        return typed.cast(pa.timestamp("us", tz="UTC")) if pa.types.is_timestamp(kind) else typed
    return column


def _spark_type(kind: pa.DataType) -> str | None:
    return "timestamp" if pa.types.is_timestamp(kind) else _SPARK_TYPES.get(kind)
