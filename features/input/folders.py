"""Impression logs of whatever format, day by day: what a day is made of, and its rows as one DataFrame.

Here days are `date=YYYY-MM-DD` folders, checked before Spark starts; features.input.timestamped has those
that a timestamp tells apart. What comes after knows neither: it is given LogPartitions and reads them by `read_logs`.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import cache
from typing import Protocol

import pyarrow as pa
from pyspark.sql import Column, DataFrame, DataFrameReader, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_type

from nightjar.features.contract import storage
from nightjar.features.contract.errors import DataError, UsageError
from nightjar.features.contract.outputs import DATE_PREFIX, date_folder, date_of_folder
from nightjar.features.contract.spec import FeatureSpec
from nightjar.features.contract.strict import digest
from nightjar.features.input.bad_rows import usable, with_raw, with_reason
from nightjar.features.input.config import MALFORMED_ROW, PARQUET, TABLE, InputConfig
from nightjar.features.input.damage import opening
from nightjar.features.input.files import FileHead, file_problems, read_heads, schema_of, types_read
from nightjar.features.spark.rows import source
from nightjar.features.spark.tables import DAY, day_of_file, for_spark, literal

CASE_SENSITIVE = "spark.sql.caseSensitive"
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
    """

    date: str
    url: str
    counted: int | None
    types: tuple[str, ...]
    fingerprint: str
    input: InputConfig = PARQUET
    names: tuple[str, ...] = ()
    timestamp: str = ""
    columns: tuple[tuple[str, str], ...] = ()
    is_empty: bool = False
    hashes: int | None = None
    spec: FeatureSpec | None = None
    gone: bool = False

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
    read, and changes when one of them is written again."""

    root: str
    config: InputConfig = PARQUET

    def first_date(self, spec: FeatureSpec) -> str:
        """See Logs."""
        names = [name for name in storage.list_folders(self.root) if name.startswith(DATE_PREFIX)]
        dates = [day for name in names if (day := date_of_folder(name)) and _is_date(day)]
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
        """See Logs. Without Spark: of Parquet and ORC the footers, of CSV the headers, of JSON the first lines."""
        self.config.require_types(spec)
        problems: dict[str, list[str]] = defaultdict(list)
        partitions: dict[str, LogPartition | None] = {}
        there = set(storage.list_folders(self.root))
        for day in dates:
            if date_folder(day) not in there and day in may_lack and not self.config.is_empty(day):
                continue
            folder = storage.join(self.root, date_folder(day))
            heads, unreadable = read_heads(folder, self.config)
            if self.config.is_empty(day) and not unreadable and all(head.rows == 0 for head in heads):
                partitions[day] = None
                continue
            found = unreadable or list(file_problems(heads, spec, self.config))
            if self.config.is_empty(day):
                found = [NOT_EMPTY]
            for problem in found:
                problems[problem].append(day)
            if not found:
                partitions[day] = self._partition(day, folder, heads, spec)
        refuse(self.root, problems)
        return with_empty_days(self.root, partitions, others_gone=len(partitions) < len(dates))

    def _partition(self, day: str, folder: str, heads: Sequence[FileHead], spec: FeatureSpec) -> LogPartition:
        schema, counts = schema_of(heads, self.config), [head.rows for head in heads]
        return LogPartition(
            date=day,
            url=folder,
            counted=None if None in counts else sum(count or 0 for count in counts),
            types=types_read(schema, spec),
            fingerprint=fingerprint_of(self.config, heads),
            input=self.config,
            names=self.config.names_in(schema),
            columns=columns_to_read(schema, spec, self.config),
            spec=spec,
        )


def fingerprint_of(config: InputConfig, heads: Sequence[FileHead]) -> str:
    """Stands for the rows of a folder's files: how they are read, and what the files are."""
    return digest([config.reading, sorted(head.identity for head in heads)])


@cache
def _warn_of_folders(root: str, names: tuple[str, ...]) -> None:
    """Once for the same folders."""
    log.warning("%s: left out %d folder(s) whose names are no dates: %s", root, len(names), ", ".join(names[:5]))


def _is_date(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


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
        lines = [f"  {_dates(days)}: {problem}" if days else f"  {problem}" for problem, days in problems.items()]
        raise DataError(f"the logs in {location} have {len(lines)} problem(s):\n" + "\n".join(lines))


def read_logs(spark: SparkSession, partitions: Sequence[LogPartition]) -> list[DataFrame]:
    """Raw rows of several days of one input with their `DAY` (int, days since 1970-01-01): one table a set of types.

    Rows that the input leaves out are not among them, whichever pass reads them. Raises DataError if the log of a day
    is gone.
    """
    return [usable(table, spec, config) for table, spec, config in _tables(spark, partitions)]


def read_all_rows(spark: SparkSession, partitions: Sequence[LogPartition]) -> list[DataFrame]:
    """`read_logs` before any row is left out, with features.input.bad_rows' `REASON` and `RAW`."""
    return [with_reason(with_raw(table), spec, config) for table, spec, config in _tables(spark, partitions)]


def _tables(
    spark: SparkSession, partitions: Sequence[LogPartition]
) -> Iterator[tuple[DataFrame, FeatureSpec, InputConfig]]:
    """All rows, one table a set of types, each with what says which rows can be used."""
    if gone := [partition.date for partition in partitions if partition.gone]:
        raise DataError(
            f"the rows of {_dates(gone)} are needed, and the log they were counted from is gone. Restore it, or choose "
            f"other dates."
        )
    alike: dict[tuple[object, ...], list[LogPartition]] = defaultdict(list)
    for partition in partitions:
        if not partition.is_empty:
            alike[partition.types, partition.names, partition.columns].append(partition)
    for days in list(alike.values()) or [list(partitions[:1])]:
        assert days[0].spec, "a day that was checked has a spec"
        rows = _read(spark, days)
        yield rows if alike else rows.where(F.lit(False)), days[0].spec, days[0].input


def columns_to_read(schema: pa.Schema, spec: FeatureSpec, config: InputConfig) -> tuple[tuple[str, str], ...]:
    """Names and Spark types of what is read from files: all columns of a text file, otherwise what the spec reads.

    So Spark meets no column that it cannot read and that nobody asks for. schema: types as Spark reads them.
    """
    if config.is_text:
        return tuple(config.typed(config.names_in(schema)))
    names = [name for name in spec.source_columns() if name in schema.names]
    return tuple((name, _spark_type(schema.field(name).type, config)) for name in names)


def _spark_type(kind: pa.DataType, config: InputConfig) -> str:
    if config.format == "orc" and pa.types.is_timestamp(kind):
        return "timestamp"  # of an ORC file, Spark takes both kinds for moments
    return from_arrow_type(kind).simpleString()


def open_log(
    spark: SparkSession, config: InputConfig, urls: Sequence[str], columns: Sequence[tuple[str, str]] = ()
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


def _read(spark: SparkSession, days: Sequence[LogPartition]) -> DataFrame:
    first = days[0]
    table = open_log(spark, first.input, list(dict.fromkeys(day.url for day in days)), first.columns)
    if not first.timestamp:
        # A date is cut out of a path and parsed for every row anew, which takes longer than to read a column.
        return table.withColumn(DAY, F.lit(day_number(first.date)) if len(days) == 1 else day_of_file())
    dates = [day.date for day in days]
    return with_day(table, first.timestamp, dates).where(F.col(DAY).isin([day_number(day) for day in dates]))


def dates_between(first: str, last: str) -> list[str]:
    """Every date from `first` through `last`, as YYYY-MM-DD. Raises UsageError on a malformed range."""
    try:
        start, end = date.fromisoformat(first), date.fromisoformat(last)
    except ValueError as error:
        raise UsageError(
            f"{first!r} to {last!r} is not a range of dates: {error}. Write dates as YYYY-MM-DD."
        ) from error
    if end < start:
        raise UsageError(f"the range of dates {first} to {last} is empty: it ends before it starts.")
    return [(start + timedelta(days=n)).isoformat() for n in range((end - start).days + 1)]


def day_after(day: str) -> str:
    """The next date."""
    return (date.fromisoformat(day) + timedelta(days=1)).isoformat()


def day_number(day: str) -> int:
    """Days since 1970-01-01."""
    return (date.fromisoformat(day) - date(1970, 1, 1)).days


def date_of(number: int) -> str:
    """The inverse of `day_number`."""
    return (date(1970, 1, 1) + timedelta(number)).isoformat()


def _dates(days: Sequence[str]) -> str:
    shown = ", ".join(days[:3])
    return f"date {shown}" if len(days) <= 3 else f"date {shown} and {len(days) - 3} more"
