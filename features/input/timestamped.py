"""Logs in one place whose days a timestamp tells apart: a table, or a folder of files of any days."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import to_arrow_type

from nightjar.features.contract import storage
from nightjar.features.contract.errors import DataError, UsageError
from nightjar.features.contract.spec import FeatureSpec
from nightjar.features.contract.strict import digest
from nightjar.features.encoder.arrow_types import as_spark_reads
from nightjar.features.input.bad_rows import REASON, examples, too_many
from nightjar.features.input.config import TABLE, InputConfig
from nightjar.features.input.damage import damage_reported
from nightjar.features.input.days import date_of, day_number
from nightjar.features.input.files import (
    WITHOUT_ROWS,
    column_problems,
    file_problems,
    header_of,
    read_heads,
    schema_of,
    types_read,
)
from nightjar.features.input.folders import (
    NOT_EMPTY,
    DateFolders,
    LogPartition,
    Logs,
    day_of,
    refuse,
    with_day,
    with_empty_days,
)
from nightjar.features.input.reading import columns_to_read, open_log, open_rows, pieces_of
from nightjar.features.input.sides.join import with_sides
from nightjar.features.input.sides.joined import Piece, with_side_kinds
from nightjar.features.input.sides.look import Sides
from nightjar.features.spark.rows import row_hash, source
from nightjar.features.spark.tables import DAY

GetSpark = Callable[[], SparkSession]

log = logging.getLogger(__name__)


def logs_at(config: InputConfig, location: str | None, spark: GetSpark) -> Logs:
    """The config's log, or the one at another `location`. spark: asked where only Spark can tell what a day holds."""
    location = location or config.location
    if location is None and (config.is_files or config.format == TABLE):
        raise UsageError("where is the log? Give --logs, or input.location in the config.")
    place = storage.absolute(location) if location and config.is_files else location or ""
    return DateFolders(place, config, spark) if config.days == "folders" else LogTable(place, config, spark)


@dataclass(frozen=True)
class Content:
    """What one day's rows are: how many, the sum of the hashes of those that can be used, which does not depend on
    their order, and how many of them are left out."""

    rows: int
    hashes: int
    left_out: int = 0

    def day_of(self, whole: LogPartition, day: str) -> LogPartition:
        """The day with these rows. whole: what all days have in common."""
        known = [self.rows, str(self.hashes), *([self.left_out] if self.left_out else [])]
        return replace(whole, date=day, counted=self.rows, fingerprint=digest(known), hashes=self.hashes)


@dataclass(frozen=True, eq=False)
class LogTable:
    """A table, or a folder of files, with rows of many days.

    A day is known by its rows: their number and the sum of the 64-bit hashes of the columns that the spec reads. To
    find it Spark reads every day that is asked for, once for an object's life. So a row that comes late makes its own
    day another one, and a table that is written again, in any order or format, none.
    """

    location: str
    config: InputConfig
    spark: GetSpark
    _contents: dict[tuple[str, ...], dict[str, Content]] = field(default_factory=lambda: defaultdict(dict))

    @cached_property
    def _sides(self) -> Sides:
        return Sides(self.config, self.spark)

    def first_date(self, spec: FeatureSpec) -> str:
        """See Logs."""
        table, _ = self._open(spec, self.config.bounds)
        day, (earliest, latest) = day_of(spec.timestamp), self.config.bounds
        is_dated = day.between(day_number(earliest), day_number(latest))
        with damage_reported(self.config):
            first, misdated = table.agg(F.min(F.when(is_dated, day)), F.count_if(~is_dated)).collect()[0]
        if misdated:
            log.warning("%s: %d rows are of days before %s or after %s", self.location, misdated, earliest, latest)
        if first is None:
            raise DataError(
                f"{self.location} holds no row with a {spec.timestamp} from {earliest} to {latest}. Give a log "
                f"with rows."
            )
        return date_of(first)

    def check(self, dates: Sequence[str], spec: FeatureSpec, may_lack: Container[str] = ()) -> list[LogPartition]:
        """See Logs. Files are looked at before Spark starts."""
        table, whole = self._open(spec, dates, all_rows=True)
        with damage_reported(self.config):
            contents = self._contents_of(table, dates, whole, spec)
        problems = {
            f"there are no rows. {WITHOUT_ROWS}": [
                day for day in dates if not contents[day].rows and not self.config.is_empty(day) and day not in may_lack
            ],
            NOT_EMPTY: [day for day in dates if contents[day].rows and self.config.is_empty(day)],
        }
        refuse(self.location, {problem: days for problem, days in problems.items() if days})
        there = [day for day in dates if contents[day].rows or self.config.is_empty(day)]
        return with_empty_days(
            self.location,
            {day: contents[day].day_of(whole, day) if contents[day].rows else None for day in there},
            others_gone=len(there) < len(dates),
        )

    def _open(
        self, spec: FeatureSpec, dates: Sequence[str], *, all_rows: bool = False
    ) -> tuple[DataFrame, LogPartition]:
        """Rows of all days, and what their days have in common, after a look at what the spec reads.

        dates: the days that side tables are joined to.
        """
        self.config.require_types(spec, lambda: header_of(self.location, self.config))
        sides = self._sides.joined(spec.source_columns(), dates)
        pieces: tuple[Piece, ...] = ()
        if self.config.is_files:
            heads, unreadable = read_heads(self.location, self.config)
            refuse(self.location, dict.fromkeys(unreadable or file_problems(heads, spec, self.config, sides), ()))
            schema, pieces = schema_of(heads, self.config), pieces_of(heads, self.config)
            columns = columns_to_read(schema, spec, self.config)
        else:
            table = open_log(self.spark(), self.config, [self.location])
            made = [*(one.name for one in spec.derive), *(name for side in sides for name, _ in side.kinds)]
            known = {*self.config.columns_of(spec), *made}
            read = [column for column in table.schema if column.name in known]
            schema, columns = pa.schema([(c.name, as_spark_reads(to_arrow_type(c.dataType))) for c in read]), ()
            refuse(self.location, dict.fromkeys(column_problems([schema], spec, self.config, sides), ()))
        whole = LogPartition(
            date="",
            url=self.location,
            counted=None,
            types=types_read(with_side_kinds(schema, sides), spec, self.config),
            fingerprint="",
            input=self.config,
            names=self.config.names_in(schema),
            timestamp=spec.timestamp,
            columns=columns,
            spec=spec,
            pieces=pieces,
            sides=sides,
        )
        pieces = pieces or ((columns, (self.location,)),)
        return open_rows(self.spark(), self.config, pieces, spec, all_rows=all_rows), whole

    def _contents_of(
        self, table: DataFrame, dates: Sequence[str], whole: LogPartition, spec: FeatureSpec
    ) -> dict[str, Content]:
        # What a row is, and what says which rows can be used.
        known = self._contents[(str(spec.label), str(spec.weight), str(spec.truth), *spec.source_columns())]
        new = [day for day in dates if day not in known]
        if new:
            rows = with_sides(self.spark(), with_day(table, spec.timestamp, new), whole.sides)
            left_out = F.col(REASON).isNotNull() if self.config.bad_rows == "drop" else F.lit(False)
            # A decimal, since a sum of many bigint overflows.
            hashes = F.sum(F.when(~left_out, row_hash(spec).cast("decimal(20,0)")))
            counted = rows.groupBy(DAY).agg(
                F.count(F.lit(1)).alias("rows"), hashes.alias("hashes"), F.count_if(left_out).alias("left_out")
            )
            found = {r[DAY]: Content(r["rows"], int(r["hashes"] or 0), r["left_out"]) for r in counted.collect()}
            if None in found:
                self._judge_dayless(found[None].rows, table, rows, spec)
            known.update((day, found.get(day_number(day), Content(0, 0))) for day in new)
        return known

    def _judge_dayless(self, dayless: int, table: DataFrame, rows: DataFrame, spec: FeatureSpec) -> None:
        """Raises DataError for rows without a day, unless so few of the whole table may be left out.

        They are in no day's quarantine; the warning shows some. rows: those of some days, and all without one.
        """
        what = f"{self.location} holds {dayless} row(s) without a {spec.timestamp}, which are of no day"
        if self.config.bad_rows == "fail":
            raise DataError(f"{what}. Correct or remove them, or set input.bad_rows: drop.")
        dated = table.select(F.count(source(spec.timestamp)).alias("rows")).collect()[0]["rows"]
        shown = examples(rows.where(F.col(DAY).isNull()))
        if problem := too_many(dated + dayless, {"null_timestamp": dayless}, self.config.bad_rows_at_most):
            raise DataError(f"{what}: {problem}. Correct or remove them, or raise the bound.{shown}")
        log.warning("%s; they are left out:%s", what, shown)
