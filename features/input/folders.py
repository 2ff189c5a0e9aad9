"""Impression logs of whatever format, day by day: what a day is made of, and its rows as one DataFrame.

Here days are `date=YYYY-MM-DD` folders, checked before Spark starts; features.input.timestamped has those
that a timestamp tells apart. What comes after knows neither: it is given LogPartitions and reads them by `read_logs`.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from typing import Protocol

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from nightjar.features.contract import storage
from nightjar.features.contract.errors import DataError
from nightjar.features.contract.outputs import DATE_PREFIX, date_folder, date_of_folder
from nightjar.features.contract.spec import FeatureSpec
from nightjar.features.contract.strict import digest
from nightjar.features.input.config import PARQUET, InputConfig
from nightjar.features.input.days import day_after, day_number, is_date, listed
from nightjar.features.input.files import (
    FileHead,
    Known,
    file_problems,
    header_of,
    read_heads,
    schema_of,
    types_read,
)
from nightjar.features.input.reading import columns_to_read, open_rows, pieces_of
from nightjar.features.input.sides.join import with_sides
from nightjar.features.input.sides.joined import Columns, JoinedSide, Piece, with_side_kinds
from nightjar.features.input.sides.look import Sides
from nightjar.features.spark.derived import with_derived
from nightjar.features.spark.rows import source
from nightjar.features.spark.tables import DAY, day_of_file

NOT_EMPTY = "the day is listed under input.empty_days, but holds rows. Take it off the list."

log = logging.getLogger(__name__)

SKIPPED = "skipped"
"""The fingerprint of a day that has no log and counts as one without rows."""
WITHOUT_TRAFFIC = digest("a day without traffic")
"""The fingerprint of a day that has no rows, as was declared."""


@dataclass(frozen=True)
class LogPartition:
    """One day of the log, checked.

    url: of its folder, or of the whole table. counted: its rows, None where only reading tells; those that are left out
    are among them until features.dataset.build.counted. types: of the columns that the spec reads. fingerprint: stands
    for the day's rows. names: all columns of a text file, in their order. timestamp: the column that gives the day if
    no folder does. columns: names and Spark types that Spark is told to read from files; none of a table. is_empty: a
    day without traffic; all but its date, rows and fingerprint is that of another day. hashes: the sum of the hashes of
    the rows that can be used, where a timestamp gives the day. spec: says which rows can be used. gone: there is no log
    to be read, as the log of an old day may be removed once it is counted, or that of a skipped day has never come.
    pieces: of csv files whose headers differ, those that have the same. files: what the files of a folder are known by.
    sides: what is joined to the rows.
    """

    date: str
    url: str
    counted: int | None
    types: tuple[str, ...]
    fingerprint: str
    input: InputConfig = PARQUET
    names: tuple[str, ...] = ()
    timestamp: str = ""
    columns: Columns = ()
    is_empty: bool = False
    hashes: int | None = None
    spec: FeatureSpec | None = None
    gone: bool = False
    pieces: tuple[Piece, ...] = ()
    files: str = ""
    sides: tuple[JoinedSide, ...] = ()

    @classmethod
    def without_log(cls, day: str, fingerprint: str | None = None) -> LogPartition:
        """A day whose log is gone and had this fingerprint, or was declared to be without traffic; or one that is
        skipped, and counts as one without rows."""
        known = cls(day, url="", counted=0, types=(), fingerprint=fingerprint or SKIPPED)
        if fingerprint == WITHOUT_TRAFFIC:
            return replace(known, is_empty=True)
        return replace(known, counted=0 if known.is_skipped else None, gone=True)

    @property
    def is_skipped(self) -> bool:
        """True if there never was a log of the day."""
        return self.fingerprint == SKIPPED

    @property
    def leaves_out(self) -> bool:
        """True if rows that cannot be used are left out."""
        return self.input.bad_rows == "drop"

    @property
    def rows(self) -> int:
        """How many there are; of a text file that is known once it was read (features.dataset.build.counted)."""
        assert self.counted is not None, f"the rows of {self.date} have not been counted yet"
        return self.counted


class Logs(Protocol):
    """All days of an input."""

    def first_date(self, spec: FeatureSpec) -> str:
        """The first day, as YYYY-MM-DD. Raises DataError if there is none."""

    def check(self, dates: Sequence[str], spec: FeatureSpec, may_lack: Container[str] = ()) -> list[LogPartition]:
        """Check that every date has rows and every column that `spec` reads, with a type that it allows.

        Args:
            dates: the days.
            spec: the features.
            may_lack: dates that may be without a log, and are left out then.

        Raises one DataError that lists every problem.
        """


@dataclass(frozen=True)
class DateFolders:
    """`<root>/date=YYYY-MM-DD/` with files. A day's rows are its folder's; it is known by its files and how they are
    read, and changes when one of them is written again. A run, which has one of these, reads a file's head once.
    """

    root: str
    config: InputConfig = PARQUET
    spark: Callable[[], SparkSession] | None = field(default=None, compare=False, repr=False)
    _known: Known = field(default_factory=dict, compare=False, repr=False)

    @cached_property
    def _sides(self) -> Sides:
        return Sides(self.config, self.spark)

    def first_date(self, spec: FeatureSpec) -> str:
        """See Logs."""
        names = [name for name in storage.list_folders(self.root) if name.startswith(DATE_PREFIX)]
        dates = [day for name in names if (day := date_of_folder(name)) and is_date(day)]
        if others := tuple(name for name in names if date_of_folder(name) not in dates):
            _warn_of_folders(self.root, others)
        earliest, latest = self.config.bounds
        dated = [day for day in dates if earliest <= day <= latest]
        if len(dated) < len(dates):
            misdated = len(dates) - len(dated)
            log.warning("%s: %d folders are of days before %s or after %s", self.root, misdated, earliest, latest)
        if not dated:
            raise DataError(
                f"{self.root} holds no {date_folder('YYYY-MM-DD')} folder of a day from {earliest} to {latest}. Give "
                f"the folder of date-partitioned logs."
            )
        return min(dated)

    def check(self, dates: Sequence[str], spec: FeatureSpec, may_lack: Container[str] = ()) -> list[LogPartition]:
        """See Logs. Of Parquet and ORC it reads the footers, of CSV the headers, of JSON the first lines; Spark is only
        asked what a side table's rows are valid from.
        """
        self.config.require_types(spec, lambda: header_of(storage.join(self.root, date_folder(dates[0])), self.config))
        sides = self._sides.joined(spec.source_columns(), dates)
        problems: dict[str, list[str]] = defaultdict(list)
        partitions: dict[str, LogPartition | None] = {}
        there = set(storage.list_folders(self.root))
        for day in dates:
            if date_folder(day) not in there and day in may_lack and not self.config.is_empty(day):
                continue
            folder = storage.join(self.root, date_folder(day))
            heads, unreadable = read_heads(folder, self.config, self._known)
            if self.config.is_empty(day) and not unreadable and all(head.rows == 0 for head in heads):
                partitions[day] = None
                continue
            found = unreadable or list(file_problems(heads, spec, self.config, sides))
            if self.config.is_empty(day):
                found = [NOT_EMPTY]
            for problem in found:
                problems[problem].append(day)
            if not found:
                partitions[day] = self._partition(day, folder, heads, spec, sides)
        refuse(self.root, problems)
        return with_empty_days(self.root, partitions, others_gone=len(partitions) < len(dates))

    def _partition(
        self, day: str, folder: str, heads: Sequence[FileHead], spec: FeatureSpec, sides: tuple[JoinedSide, ...]
    ) -> LogPartition:
        schema, counts = schema_of(heads, self.config), [head.rows for head in heads]
        files = fingerprint_of(self.config, heads)
        return LogPartition(
            date=day,
            url=folder,
            counted=None if None in counts else sum(count or 0 for count in counts),
            types=types_read(with_side_kinds(schema, sides), spec, self.config),
            fingerprint=self._sides.fingerprint(files, sides, day),
            input=self.config,
            names=self.config.names_in(schema),
            columns=columns_to_read(schema, spec, self.config),
            spec=spec,
            pieces=pieces_of(heads, self.config),
            files=files,
            sides=sides,
        )


def fingerprint_of(config: InputConfig, heads: Sequence[FileHead]) -> str:
    """Stands for the rows of a folder's files: how they are read, and what the files are."""
    return digest([config.reading, sorted(head.identity for head in heads)])


@cache
def _warn_of_folders(root: str, names: tuple[str, ...]) -> None:
    """Once for the same folders."""
    log.warning("%s: left out %d folder(s) whose names are no dates: %s", root, len(names), ", ".join(names[:5]))


def with_empty_days(
    location: str, partitions: Mapping[str, LogPartition | None], *, others_gone: bool = False
) -> list[LogPartition]:
    """The days in their order; in place of None a day without traffic, which Spark reads as another day without rows.

    Args:
        location: of the log, for people.
        partitions: the days that are there, by date.
        others_gone: there are more days, whose logs are gone; so no day with rows need be there.

    Raises DataError if no day has rows.
    """
    example = next((partition for partition in partitions.values() if partition), None)
    if example is None and not others_gone:
        refuse(location, {"no day holds rows: all are listed under input.empty_days.": list(partitions)})
    hashes = None if example is None or example.hashes is None else 0
    example = example or LogPartition.without_log("", WITHOUT_TRAFFIC)
    nothing = replace(example, counted=0, fingerprint=WITHOUT_TRAFFIC, is_empty=True, hashes=hashes)
    empty = {day: replace(nothing, date=day) for day in partitions}
    return [partition or empty[day] for day, partition in partitions.items()]


def check_logs(
    logs: Logs | str, dates: Sequence[str], spec: FeatureSpec, may_lack: Container[str] = ()
) -> list[LogPartition]:
    """`logs.check`; a path or URL is that of Parquet files in date folders."""
    if isinstance(logs, str):
        logs = DateFolders(storage.absolute(logs))
    return logs.check(dates, spec, may_lack)


def refuse(location: str, problems: Mapping[str, Sequence[str]]) -> None:
    """Raise a DataError that lists the problems, each with the days that have it, if there are any."""
    if problems:
        lines = [f"  date {listed(days)}: {problem}" if days else f"  {problem}" for problem, days in problems.items()]
        raise DataError(f"the logs in {location} have {len(lines)} problem(s):\n" + "\n".join(lines))


def read_logs(spark: SparkSession, partitions: Sequence[LogPartition], *, derived: bool = True) -> list[DataFrame]:
    """Raw rows of several days of one input with their `DAY` (int, days since 1970-01-01): one table a set of types.

    Rows that the input leaves out are not among them, whichever pass reads them. derived: with the spec's derived
    columns; there are then no others than those that it reads. Raises DataError if the log of a day is gone.
    """
    tables = [(_read(spark, days), days[0].spec) for days in _alike(partitions)]
    if not derived:
        return [table for table, _ in tables]
    return [_with_derived(table, spec) if spec and spec.derived_sources() else table for table, spec in tables]


def _with_derived(table: DataFrame, spec: FeatureSpec) -> DataFrame:
    """A table may have columns that Arrow does not know; only what the spec reads goes through Python."""
    return with_derived(table.select(*map(source, spec.source_columns()), DAY), spec)


def read_all_rows(spark: SparkSession, partitions: Sequence[LogPartition]) -> list[DataFrame]:
    """`read_logs` before any row is left out, with features.input.bad_rows' `REASON` and `RAW`, and sides.join's
    `WITHOUT` of each side table."""
    return [_read(spark, days, all_rows=True) for days in _alike(partitions)]


def _alike(partitions: Sequence[LogPartition]) -> list[list[LogPartition]]:
    """Days that are read together; a day without traffic only where there is no other."""
    if gone := [partition.date for partition in partitions if partition.gone]:
        raise DataError(
            f"the rows of date {listed(gone)} are needed, and the log they were counted from is gone. Restore it, or "
            f"choose other dates."
        )
    alike: dict[tuple[object, ...], list[LogPartition]] = defaultdict(list)
    for partition in partitions:
        if not partition.is_empty:
            alike[partition.types, partition.names, partition.columns, partition.sides].append(partition)
    return list(alike.values()) or [list(partitions[:1])]


def with_day(table: DataFrame, timestamp: str, dates: Sequence[str]) -> DataFrame:
    """Rows from the first through the last of `dates` and those without a timestamp, with their `DAY`: in UTC, the
    time zone of every session."""
    moment = source(timestamp).cast("timestamp")
    begin, end = (F.lit(day).cast("timestamp") for day in (min(dates), day_after(max(dates))))
    # A plain range of the column itself is what a table's own statistics can answer.
    return table.where(((moment >= begin) & (moment < end)) | moment.isNull()).withColumn(DAY, day_of(timestamp))


def day_of(timestamp: str) -> Column:
    """The UTC day of a timestamp column: int, days since 1970-01-01."""
    return F.unix_date(F.to_date(source(timestamp).cast("timestamp")))


def _read(spark: SparkSession, days: Sequence[LogPartition], *, all_rows: bool = False) -> DataFrame:
    first = days[0]
    if first.is_empty:
        return _read(spark, [replace(first, is_empty=False)], all_rows=all_rows).where(F.lit(False))
    urls: dict[Columns, dict[str, None]] = defaultdict(dict)
    for day in days:
        for columns, of_piece in day.pieces or ((first.columns, (day.url,)),):
            urls[columns] |= dict.fromkeys(of_piece)
    pieces = tuple((columns, tuple(of_piece)) for columns, of_piece in urls.items())
    assert first.spec, "a day that was checked has a spec"
    if not first.timestamp:
        # A date is cut out of a path and parsed for every row anew, which takes longer than to read a column.
        of_day = F.lit(day_number(first.date)) if len(days) == 1 else day_of_file()
        table = open_rows(spark, first.input, pieces, first.spec, of_day, all_rows=all_rows)
        return with_sides(spark, table, first.sides, marked=all_rows)
    table = open_rows(spark, first.input, pieces, first.spec, all_rows=all_rows)
    dates = [day.date for day in days]
    table = with_day(table, first.timestamp, dates).where(F.col(DAY).isin([day_number(day) for day in dates]))
    return with_sides(spark, table, first.sides, marked=all_rows)
