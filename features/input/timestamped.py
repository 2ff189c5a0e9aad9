"""Logs in one place whose days a timestamp tells apart: a table, or a folder of files of any days."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import to_arrow_type

from nightjar.features.contract import storage
from nightjar.features.contract.errors import DataError, UsageError
from nightjar.features.contract.spec import FeatureSpec
from nightjar.features.contract.strict import digest
from nightjar.features.input.config import TABLE, InputConfig
from nightjar.features.input.damage import damage_reported
from nightjar.features.input.files import (
    column_problems,
    file_problems,
    read_heads,
    schema_of,
    types_read,
)
from nightjar.features.input.folders import (
    DateFolders,
    LogPartition,
    Logs,
    day_number,
    day_of,
    open_log,
    refuse,
    with_day,
)
from nightjar.features.spark.rows import row_hash
from nightjar.features.spark.tables import DAY

GetSpark = Callable[[], SparkSession]


def logs_at(config: InputConfig, location: str | None, spark: GetSpark) -> Logs:
    """The config's log, or the one at another `location`. spark: asked where only Spark can tell what a day holds."""
    location = location or config.location
    if location is None and (config.is_files or config.format == TABLE):
        raise UsageError("where is the log? Give --logs, or input.location in the config.")
    place = storage.absolute(location) if location and config.is_files else location or ""
    return DateFolders(place, config) if config.days == "folders" else LogTable(place, config, spark)


@dataclass(frozen=True)
class Content:
    """What one day's rows are: how many, and the sum of their hashes, which does not depend on their order."""

    rows: int
    hashes: int


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

    def first_date(self, spec: FeatureSpec) -> str:
        """See Logs."""
        table, _ = self._open(spec)
        with damage_reported():
            first = table.agg(F.min(day_of(spec.timestamp))).collect()[0][0]
        if first is None:
            raise DataError(f"{self.location} holds no row with a {spec.timestamp}. Give a log with rows.")
        return (date(1970, 1, 1) + timedelta(first)).isoformat()

    def check(self, dates: Sequence[str], spec: FeatureSpec) -> list[LogPartition]:
        """See Logs. Files are looked at before Spark starts."""
        table, schema = self._open(spec)
        with damage_reported():
            contents = self._contents_of(table, dates, spec)
        empty = [day for day in dates if not contents[day].rows]
        if empty:
            refuse(self.location, {"there are no rows. Write the log of that day, or choose other dates.": empty})
        return [
            LogPartition(
                date=day,
                url=self.location,
                counted=contents[day].rows,
                types=types_read(schema, spec),
                fingerprint=digest([contents[day].rows, str(contents[day].hashes)]),
                input=self.config,
                names=self.config.names_in(schema),
                timestamp=spec.timestamp,
                hashes=contents[day].hashes,
            )
            for day in dates
        ]

    def _open(self, spec: FeatureSpec) -> tuple[DataFrame, pa.Schema]:
        """All rows, and the columns' names and types, after a look at what the spec reads."""
        self.config.require_types(spec)
        if self.config.is_files:
            heads, unreadable = read_heads(self.location, self.config)
            refuse(self.location, dict.fromkeys(unreadable or file_problems(heads, spec, self.config), ()))
            schema = schema_of(heads, self.config)
            return open_log(self.spark(), self.config, [self.location], self.config.names_in(schema)), schema
        table = open_log(self.spark(), self.config, [self.location])
        read = [column for column in table.schema if column.name in spec.source_columns()]
        schema = pa.schema([(column.name, to_arrow_type(column.dataType)) for column in read])
        refuse(self.location, dict.fromkeys(column_problems([schema], spec), ()))
        return table, schema

    def _contents_of(self, table: DataFrame, dates: Sequence[str], spec: FeatureSpec) -> dict[str, Content]:
        known = self._contents[tuple(spec.source_columns())]
        new = [day for day in dates if day not in known]
        if new:
            rows = with_day(table, spec.timestamp, new)
            # A decimal, since a sum of many bigint overflows.
            hashes = F.sum(row_hash(spec).cast("decimal(20,0)"))
            counted = rows.groupBy(DAY).agg(F.count(F.lit(1)).alias("rows"), hashes.alias("hashes")).collect()
            found = {row[DAY]: Content(row["rows"], int(row["hashes"])) for row in counted}
            if None in found:
                raise DataError(
                    f"{self.location} holds {found[None].rows} row(s) without a {spec.timestamp}, which are of no day. "
                    f"Correct or remove them."
                )
            known.update((day, found.get(day_number(day), Content(0, 0))) for day in new)
        return known
