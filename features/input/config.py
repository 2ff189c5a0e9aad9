"""The `input` section of a config file: where the impression log is, and how its rows are read. Free of PySpark."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal

from pydantic import Field, model_validator

from nightjar.features.contract.errors import SpecError, did_you_mean
from nightjar.features.contract.spec import FeatureSpec
from nightjar.features.contract.strict import Strict
from nightjar.features.input.sides.config import SideTable
from nightjar.features.input.source_config import FILE_FORMATS, SourceConfig, SparkType

TABLE = "table"
# Microseconds of one, by timestamp_format.
EPOCHS = {"epoch_s": 1_000_000, "epoch_ms": 1_000}


class BadRowLimits(Strict):
    """The largest share of a day's rows that may be left out; beyond it the day is refused."""

    any: float = Field(0.01, ge=0.0, le=1.0)
    """For whatever reason."""
    malformed: float | None = Field(None, ge=0.0, le=1.0)
    """Lines of csv or json that are not as `columns` says. Empty: as `any`."""
    null_label: float | None = Field(None, ge=0.0, le=1.0)
    """Rows without a label. Empty: as `any`."""
    null_timestamp: float | None = Field(None, ge=0.0, le=1.0)
    """Rows without a timestamp. Empty: as `any`."""
    out_of_range: float | None = Field(None, ge=0.0, le=1.0)
    """Rows whose label is not 0 or 1, or whose weight or truth cannot be one. Empty: as `any`."""


class InputConfig(SourceConfig):
    """Where the log is and how it is read: Parquet in `date=YYYY-MM-DD` folders, unless it says otherwise."""

    days: str = Field("folders", pattern=r"^(folders|timestamp|hash\(.+\))$")
    """`folders`: a row's day is that of its `date=` folder, whatever its timestamp. `timestamp`: the day of its
    timestamp, in UTC. `hash(column)`: of a table without time; the column's hash deals its rows to `hash_days` days."""
    hash_days: int = Field(10, ge=2, le=1000)
    """Of `days: hash(column)`: to how many days rows are dealt, from `earliest` on. The last of them is the first that
    a night can judge on all others."""
    earliest: date = date(2000, 1, 1)
    """Rows and folders of days before it, or after tomorrow, are misdated: they are counted, told, and do not begin the
    history."""
    timestamp_format: str | None = Field(None, min_length=1)
    """How the timestamp is written where it is none of Spark's: `epoch_s` or `epoch_ms`, a number of seconds or
    milliseconds since 1970-01-01 UTC; or of a string a pattern of Spark's, such as `dd.MM.yyyy HH:mm:ss`, in UTC unless
    it holds a time zone. What is not written so counts as missing. Empty: it is a timestamp."""
    empty_days: tuple[date, ...] = ()
    """Days without traffic. They count as days of no rows; any other day without rows ends the night."""
    bad_rows: Literal["fail", "drop"] = "fail"
    """What becomes of rows that cannot be used. `fail`: they end the night. `drop`: they are left out everywhere,
    counted by reason, and kept in the day's quarantine."""
    bad_rows_at_most: BadRowLimits = BadRowLimits()
    """Of `bad_rows: drop`: how many may be left out."""
    side_tables: tuple[SideTable, ...] = ()
    """Tables whose columns the rows get by a key, as of their day."""

    @model_validator(mode="after")
    def _check(self) -> InputConfig:
        if self.days == "folders" and not self.is_files:
            raise ValueError(
                f"days: folders needs one of the formats {list(FILE_FORMATS)}; got {self.format!r}. For a table of any "
                f"format give days: timestamp"
            )
        if self._set("hash_days") and not self.dealt_by:
            raise ValueError("hash_days needs days: hash(column)")
        if self.dealt_by and (self.timestamp_format or self.empty_days):
            raise ValueError("days: hash(column) is for a table without time; remove timestamp_format and empty_days")
        if self.dealt_by and (last := self.earliest + timedelta(self.hash_days - 1)) > datetime.now(UTC).date():
            raise ValueError(f"hash_days: the last day, {last}, is yet to come; set an earlier `earliest`")
        if self.bad_rows == "drop" and "mode" in map(str.lower, self.options):
            raise ValueError("options.mode: bad_rows: drop says what becomes of malformed rows; remove one of them")
        if self.dealt_by and (dated := [side.name for side in self.side_tables if side.versions != "none"]):
            raise ValueError(f"side_tables: {dated} have versions by day, and days: {self.days} is no time")
        for what, names in (
            ("name", [side.name for side in self.side_tables]),
            ("column", [name for side in self.side_tables for name in side.brought]),
        ):
            if repeated := sorted({name for name in names if names.count(name) > 1}):
                raise ValueError(f"side_tables: the {what} {repeated} is there more than once; give other names")
        return self

    @property
    def bounds(self) -> tuple[str, str]:
        """The first and the last day that a row may be of, as YYYY-MM-DD."""
        return self.earliest.isoformat(), (datetime.now(UTC).date() + timedelta(1)).isoformat()

    @property
    def dealt_by(self) -> str | None:
        """The column whose hash deals rows to days, if one does. The spec's timestamp is then no column of the log."""
        return self.days[len("hash(") : -1] if self.days.startswith("hash(") else None

    def columns_of(self, spec: FeatureSpec) -> list[str]:
        """The columns of the log itself that `spec` and this input read, without repeats."""
        made = {name for side in self.side_tables for name in side.brought}
        made |= {spec.timestamp} if self.dealt_by else set()
        own = [column for column in spec.source_columns() if column not in made]
        keys = [column for side in self.sides_of(spec.source_columns()) for column in side.keys]
        return list(dict.fromkeys([*own, *keys, *([self.dealt_by] if self.dealt_by else [])]))

    def sides_of(self, columns: Collection[str]) -> list[SideTable]:
        """The side tables that bring one of these columns."""
        return [side for side in self.side_tables if not set(side.brought).isdisjoint(columns)]

    @property
    def is_epoch(self) -> bool:
        """True if the timestamp is a number since 1970-01-01."""
        return self.timestamp_format in EPOCHS

    @property
    def keeps_malformed(self) -> bool:
        """True if Spark hands malformed rows out, with their text as `MALFORMED_ROW`."""
        return self.is_text and self.bad_rows == "drop"

    def is_empty(self, day: str) -> bool:
        """True if a day, YYYY-MM-DD, was declared to be without traffic."""
        return date.fromisoformat(day) in self.empty_days

    def require_types(self, spec: FeatureSpec, header: Callable[[], Sequence[str]] = tuple) -> None:
        """Raises SpecError if a text file's column that `spec` reads has no type, if a feature reads what is made a
        timestamp, or if a side table brings what is the log's own.

        header: the columns that a file names itself, if it does; only asked to tell them.
        """
        if self.timestamp_format and (readers := [f.name for f in spec.reading() if f.source == spec.timestamp]):
            raise SpecError(
                f"input.timestamp_format makes a timestamp of the column {spec.timestamp!r}, which the features "
                f"{readers} read, and which a request would bring as it is. Give the features a column of their own."
            )
        if self.dealt_by:
            self._require_no_time(spec)
        self._require_own_columns(spec)
        lacking = [name for name in self.columns_of(spec) if name not in self.columns]
        if not self.is_text or not lacking:
            return
        names = header()
        absent = [name for name in lacking if names and name not in names]
        if absent:
            raise SpecError(
                f"the features read {absent}, which are neither in input.columns nor in the log's header, "
                f"{list(names)}{did_you_mean(absent, names) or '.'}"
            )
        known = {**{name: _usual_type(name, spec, self) for name in lacking}, **self.columns}
        order = [*(name for name in names if name in known), *(name for name in known if name not in names)]
        lines = [f"    {json.dumps(name, ensure_ascii=False)}: {known[name]}" for name in order]
        raise SpecError(
            f"input.columns lacks the types of {lacking}, which the features read. Put this in its place, with the "
            f"types that the log has:\n  columns:\n" + "\n".join(lines)
        )

    def _require_no_time(self, spec: FeatureSpec) -> None:
        if spec.frequencies:
            raise SpecError(
                f"the frequencies {[one.name for one in spec.frequencies]} count what was before a row, and days: "
                f"{self.days} is no time. Remove them, or give the days of the log."
            )
        if spec.timestamp in (self.dealt_by, *spec.request_columns()):
            raise SpecError(
                f"days: {self.days} makes the timestamp {spec.timestamp!r}, which is no column of the log, and no "
                f"feature may read it. Give features.timestamp a name of its own."
            )

    def _require_own_columns(self, spec: FeatureSpec) -> None:
        brought = {name: side.name for side in self.side_tables for name in side.brought}
        roles = {"label": spec.label_columns, "timestamp": (spec.timestamp,), "days": (self.dealt_by,)}
        roles |= {"weight": (spec.weight,), "truth": (spec.truth,)}
        roles |= {f"key of {side.name}": tuple(side.keys) for side in self.side_tables}
        problems = [
            f"the column {name!r} ({role}) must be the log's own, and the side table {brought[name]!r} brings it"
            for role, names in roles.items()
            for name in names
            if name in brought
        ]
        derived = {one.name for one in spec.derive}
        keys = [name for side in self.side_tables for name in side.keys]
        problems += [
            f"the key {name!r} of a side table is derived; it must be the log's own" for name in keys if name in derived
        ]
        problems += [
            f"the side table {brought[name]!r} brings {name!r}, which features.derive makes"
            for name in brought
            if name in derived
        ]
        if problems:
            raise SpecError(f"input.side_tables: {'; '.join(problems)}. Give these columns other names.")

    @property
    def reading(self) -> list[Any]:
        """What the same files could be read otherwise by: part of a day's identity."""
        # Keys that came later are left out where nobody sets them: what was read before them keeps its identity.
        later = [[name, getattr(self, name)] for name in self._set("bad_rows", "timestamp_format")]
        return [*super().reading, *later]


def _usual_type(column: str, spec: FeatureSpec, config: InputConfig) -> SparkType:
    """The type that a column most often has, by what reads it."""
    if column == spec.timestamp:
        kinds: dict[str | None, SparkType] = {None: "timestamp", "epoch_s": "bigint", "epoch_ms": "bigint"}
        return kinds.get(config.timestamp_format, "string")
    if column in spec.label_columns:
        return "int" if column == spec.label else "double"
    if any(field.source == column and field.multi_valued and not field.split for field in spec.fields):
        return "array<string>"
    numbers = [spec.weight, spec.truth, *(feature.source for feature in spec.dense)]
    numbers += [field.source for field in spec.fields if field.boundaries]
    return "double" if column in numbers else "string"


# What is read where a config says nothing.
PARQUET = InputConfig()
