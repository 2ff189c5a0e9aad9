"""What can be known of side tables before their rows are read, and what a day's version of them is known by."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
from pyspark.sql import SparkSession

from nightjar.features.contract import storage
from nightjar.features.contract.errors import DataError, SpecError, did_you_mean
from nightjar.features.contract.outputs import date_folder, date_of_folder
from nightjar.features.contract.strict import digest
from nightjar.features.encoder.arrow_types import is_categorical
from nightjar.features.input.config import InputConfig
from nightjar.features.input.damage import damage_reported
from nightjar.features.input.days import day_number, is_date
from nightjar.features.input.files import FileHead, Known, read_heads, schema_of
from nightjar.features.input.reading import named_columns, pieces_of
from nightjar.features.input.sides.config import FOLDERS, SideTable
from nightjar.features.input.sides.join import contents_by_day
from nightjar.features.input.sides.joined import JoinedSide


@dataclass(frozen=True, eq=False)
class Sides:
    """The side tables of an input. A run, which has one of these, looks at a file once.

    spark: asked where only a table's rows tell what was known on a day.
    """

    config: InputConfig
    spark: Callable[[], SparkSession] | None
    _heads: dict[str, Known] = field(default_factory=dict)
    _contents: dict[JoinedSide, dict[int, list[str]]] = field(default_factory=dict)

    def joined(self, wanted: Collection[str], dates: Sequence[str]) -> tuple[JoinedSide, ...]:
        """Those that bring one of the columns `wanted`, for the rows of some days.

        Without Spark: of Parquet and ORC the footers, of text the headers. Raises a DataError for each table's
        problems.
        """
        return tuple(
            _joined(side, wanted, dates, self._heads.setdefault(side.name, {})) for side in self.config.sides_of(wanted)
        )

    def fingerprint(self, rows: str, sides: Sequence[JoinedSide], day: str) -> str:
        """Stands for a day's rows with what side tables bring: what is valid later changes nothing.

        rows: what the rows themselves are known by.
        """
        return digest([rows, [[one.side.joined_by, self._identity(one, day)] for one in sides]]) if sides else rows

    def _identity(self, joined: JoinedSide, day: str) -> list[object]:
        if joined.side.versions == FOLDERS:
            version = joined.version_on(day)
            return [joined.files[joined.dates.index(version)] if version else None]
        if joined.side.valid_from is None:
            return [*joined.files]
        if joined not in self._contents:
            assert self.spark, "only rows tell what was valid on a day"
            with damage_reported(self.config):
                self._contents[joined] = contents_by_day(self.spark(), joined)
        return [[n, *known] for n, known in sorted(self._contents[joined].items()) if n <= day_number(day)]


def changed_sides(days: Iterable[tuple[JoinedSide, str]]) -> Iterator[str]:
    """Which side tables were written since they were looked at, for people, a line each.

    days: each with what is joined to it; of versions that are folders only theirs are looked at again.
    """
    for joined, version in dict.fromkeys((joined, joined.version_on(day)) for joined, day in days):
        known = dict(zip(joined.dates, joined.files, strict=True)) if joined.dates else {}
        before = [known[version]] if version else [] if known else list(joined.files)
        urls = _urls(joined.side, [version] if version else [])
        if _identities(joined.side, urls, {}) != before:
            yield f"  {joined}"


def _urls(side: SideTable, dates: Sequence[str]) -> list[str]:
    location = storage.absolute(side.location)
    return [storage.join(location, date_folder(day)) for day in dates] if side.versions == FOLDERS else [location]


def _identities(side: SideTable, urls: Sequence[str], known: Known) -> list[str]:
    return [digest(sorted(head.identity for head in read_heads(url, side, known)[0])) for url in urls]


def _joined(side: SideTable, wanted: Collection[str], dates: Sequence[str], known: Known) -> JoinedSide:
    read = {name: column for name, column in side.brought.items() if name in wanted}
    columns = list(
        dict.fromkeys([*side.keys.values(), *read.values(), *([side.valid_from] if side.valid_from else [])])
    )
    if side.is_text and (untyped := [name for name in columns if name not in side.columns]):
        raise SpecError(
            f"the columns of the side table {side.name!r} lack the types of {untyped}, which are read. Add, with the "
            f"types that its files have:\n  columns:" + "".join(f"\n    {json.dumps(name)}: string" for name in untyped)
        )
    folders = _folders_for(side, dates)
    urls, heads, problems = _urls(side, folders), [], []
    for url in urls:
        found, unreadable = read_heads(url, side, known)
        heads += found
        problems += unreadable or ([] if any(len(head.schema) for head in found) else [f"{url} holds no rows"])
    problems = problems or list(_column_problems(heads, columns, side))
    if problems:
        raise DataError(
            f"the side table {side.name!r} in {side.location} has {len(problems)} problem(s):"
            + "".join(f"\n  {problem}" for problem in problems)
        )
    schema = schema_of(heads, side)
    return JoinedSide(
        side,
        kinds=tuple((name, schema.field(column).type) for name, column in read.items()),
        key_kinds=tuple((name, schema.field(column).type) for name, column in side.keys.items()),
        pieces=pieces_of(heads, side) or ((named_columns(schema, columns, side), tuple(urls)),),
        dates=tuple(folders),
        files=tuple(_identities(side, urls, known)),
    )


def _folders_for(side: SideTable, dates: Sequence[str]) -> list[str]:
    """Dates of the folders that some days need, where versions are folders. Raises DataError if there are none."""
    if side.versions != FOLDERS:
        return []
    names = map(date_of_folder, storage.list_folders(storage.absolute(side.location)))
    there = sorted(name for name in names if name and is_date(name))
    newest = {max((one for one in there if one <= day), default=None) for day in dates}
    if found := sorted(one for one in newest if one):
        return found
    raise DataError(
        f"the side table {side.name!r} in {side.location} has no {date_folder('YYYY-MM-DD')} folder of a day up to "
        f"{max(dates)}; it has {there[:3]}. A version counts from the day that its folder is called by."
    )


def _column_problems(heads: Sequence[FileHead], columns: Sequence[str], side: SideTable) -> Iterator[str]:
    schemas = [schema_of(heads, side)] if side.format == "json" else [h.schema for h in heads if len(h.schema)]
    for column in columns:
        counts = [schema.names.count(column) for schema in schemas]
        if 0 in counts:
            names = schemas[counts.index(0)].names
            yield f"the column {column!r} is missing; it has {names}{did_you_mean([column], names) or '.'}"
        elif set(counts) != {1}:
            yield f"the column {column!r} is there more than once. Rename one of them."
        elif len(kinds := sorted({str(schema.field(column).type) for schema in schemas})) > 1:
            yield f"column {column!r} has several types: {kinds}. Write one type."
        elif column in side.keys.values() and not is_categorical(kind := schemas[0].field(column).type):
            yield f"the key {column!r} has the type {kind}; it must be string, integral or boolean."
        elif column == side.valid_from and not _is_moment(kind := schemas[0].field(column).type):
            yield f"valid_from({column}) has the type {kind}; it must be a date, or a timestamp in microseconds."


def _is_moment(kind: pa.DataType) -> bool:
    return bool(pa.types.is_date32(kind) or (pa.types.is_timestamp(kind) and kind.unit == "us"))
