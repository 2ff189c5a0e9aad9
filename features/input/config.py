"""The `input` section of a config file: where the impression log is, and how its rows are read. Free of PySpark."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal

import pyarrow as pa
from pydantic import Field, model_validator

from nightjar.features.contract.errors import SpecError, did_you_mean
from nightjar.features.contract.spec import FeatureSpec
from nightjar.features.contract.strict import Strict, digest

# What a column of a csv or json file may be: Spark's names, in lower case, for those of the types that
# features.input.files.column_problems accepts which Spark can convert text to. Other formats have types of their own,
# among them some without a name here (unsigned integers, timestamps in milliseconds).
SparkType = Literal[
    "boolean",
    "tinyint",
    "smallint",
    "int",
    "bigint",
    "float",
    "double",
    "string",
    "timestamp",
    "array<boolean>",
    "array<tinyint>",
    "array<smallint>",
    "array<int>",
    "array<bigint>",
    "array<string>",
]
_ARROW = {
    "boolean": pa.bool_(),
    "tinyint": pa.int8(),
    "smallint": pa.int16(),
    "int": pa.int32(),
    "bigint": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "string": pa.string(),
    "timestamp": pa.timestamp("us", tz="UTC"),
}
FILE_FORMATS = ("parquet", "orc", "csv", "json")
TABLE = "table"
# Microseconds of one, by timestamp_format.
EPOCHS = {"epoch_s": 1_000_000, "epoch_ms": 1_000}

# Where Spark puts the text of a row that is not as the columns say.
MALFORMED_ROW = "row:malformed"

# A short or long row is only seen by a reader that splits all of it: Spark leaves columns out otherwise, and with them
# the test. In check, not in speed: a column that is not asked for is not converted either way.
_TEXT_OPTIONS: dict[str, dict[str, str]] = {
    "csv": {"mode": "FAILFAST", "header": "true", "columnPruning": "false"},
    "json": {"mode": "FAILFAST"},
}


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


class InputConfig(Strict):
    """Where the log is and how it is read: Parquet in `date=YYYY-MM-DD` folders, unless it says otherwise."""

    format: str = Field("parquet", pattern=r"^[A-Za-z][A-Za-z0-9_.\-]*$")
    """`parquet`, `orc`, `csv` or `json` (an object a line) are read from files. `table` is a name in Spark's catalog.
    Any other that Spark has a reader for (`delta`, `iceberg`, `jdbc`) does without the checks of files."""
    location: str | None = Field(None, min_length=1)
    """A folder, a file, a URL, or a table's name. `--logs` takes its place."""
    days: str = Field("folders", pattern=r"^(folders|timestamp|hash\(.+\))$")
    """`folders`: a row's day is that of its `date=` folder, whatever its timestamp. `timestamp`: the day of its
    timestamp, in UTC. `hash(column)`: of a table without time; the column's hash deals its rows to `hash_days` days."""
    hash_days: int = Field(10, ge=2, le=1000)
    """Of `days: hash(column)`: to how many days rows are dealt, from `earliest` on. The last of them is the first that
    a night can judge on all others."""
    earliest: date = date(2000, 1, 1)
    """Rows and folders of days before it, or after tomorrow, are misdated: they are counted, told, and do not begin the
    history."""
    columns: Mapping[str, SparkType] = {}
    """Of csv and json: the Spark type of each column that the spec reads; types are never guessed. In a csv they are
    found by the names of each file's header; without a header these are all columns in their order. A line of JSON may
    lack any of them, and then holds null."""
    timestamp_format: str | None = Field(None, min_length=1)
    """How the timestamp is written where it is none of Spark's: `epoch_s` or `epoch_ms`, a number of seconds or
    milliseconds since 1970-01-01 UTC; or of a string a pattern of Spark's, such as `dd.MM.yyyy HH:mm:ss`, in UTC unless
    it holds a time zone. What is not written so counts as missing. Empty: it is a timestamp."""
    empty_days: tuple[date, ...] = ()
    """Days without traffic. They count as days of no rows; any other day without rows ends the night."""
    options: Mapping[str, bool | int | float | str] = {}
    """For `spark.read.options`. csv and json fail on a malformed row unless `mode` is another."""
    bad_rows: Literal["fail", "drop"] = "fail"
    """What becomes of rows that cannot be used. `fail`: they end the night. `drop`: they are left out everywhere,
    counted by reason, and kept in the day's quarantine."""
    bad_rows_at_most: BadRowLimits = BadRowLimits()
    """Of `bad_rows: drop`: how many may be left out."""

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
        if self.columns and not self.is_text:
            raise ValueError(f"columns: {self.format} has types of its own; cast them where the log is written")
        if self.format == "csv":
            if lists := [name for name, kind in self.columns.items() if kind.startswith("array")]:
                raise ValueError(
                    f"columns: {lists} are lists, which a csv cannot hold; use string and the field's split, or json, "
                    f"parquet or orc"
                )
            if not self.option("sep"):
                raise ValueError("options.sep must be one character or more")
            if len(quote := self.option("quote")) > 1:
                raise ValueError(f"options.quote must be one character, or none for no quotes; got {quote!r}")
        if self.bad_rows == "drop" and "mode" in map(str.lower, self.options):
            raise ValueError("options.mode: bad_rows: drop says what becomes of malformed rows; remove one of them")
        if self.format == "json" and self.is_on("multiLine"):
            raise ValueError("options.multiLine: a row of json must be a line")
        return self

    def __hash__(self) -> int:
        return hash(digest(self.model_dump(mode="json")))

    @property
    def bounds(self) -> tuple[str, str]:
        """The first and the last day that a row may be of, as YYYY-MM-DD."""
        return self.earliest.isoformat(), (datetime.now(UTC).date() + timedelta(1)).isoformat()

    @property
    def is_files(self) -> bool:
        """True if the files can be looked at before Spark starts."""
        return self.format in FILE_FORMATS

    @property
    def dealt_by(self) -> str | None:
        """The column whose hash deals rows to days, if one does. The spec's timestamp is then no column of the log."""
        return self.days[len("hash(") : -1] if self.days.startswith("hash(") else None

    def columns_of(self, spec: FeatureSpec) -> list[str]:
        """The columns of the log itself that `spec` and this input read, without repeats."""
        if not self.dealt_by:
            return spec.source_columns()
        return list(dict.fromkeys([*(c for c in spec.source_columns() if c != spec.timestamp), self.dealt_by]))

    @property
    def is_text(self) -> bool:
        """True if the files do not say of what types they are."""
        return self.format in _TEXT_OPTIONS

    @property
    def is_epoch(self) -> bool:
        """True if the timestamp is a number since 1970-01-01."""
        return self.timestamp_format in EPOCHS

    @property
    def keeps_malformed(self) -> bool:
        """True if Spark hands malformed rows out, with their text as `MALFORMED_ROW`."""
        return self.is_text and self.bad_rows == "drop"

    @property
    def pattern(self) -> str:
        """Which files of a folder are read: of Parquet those called so, otherwise all but the hidden ones."""
        return str(self.options.get("pathGlobFilter", "*.parquet" if self.format == "parquet" else "*"))

    @property
    def reader_options(self) -> dict[str, str]:
        """What Spark's reader is told, names in lower case: Spark ignores case."""
        given = {name: str(value).lower() if isinstance(value, bool) else value for name, value in self.options.items()}
        merged = _TEXT_OPTIONS.get(self.format, {}) | {"pathGlobFilter": self.pattern} if self.is_files else {}
        if self.keeps_malformed:
            merged |= {"mode": "PERMISSIVE", "columnNameOfCorruptRecord": MALFORMED_ROW}
        return {name.lower(): str(value) for name, value in {**merged, **given}.items()}

    def option(self, name: str) -> str:
        """What a csv or json reader uses for an option, by Spark's own name and default."""
        synonyms = {"sep": "delimiter", "encoding": "charset"}
        defaults = {"sep": ",", "quote": '"', "encoding": "UTF-8"}
        options = self.reader_options
        return options.get(name.lower(), options.get(synonyms.get(name, ""), defaults.get(name, "")))

    def is_on(self, name: str) -> bool:
        """True if an option is `true`."""
        return self.option(name).lower() == "true"

    def is_empty(self, day: str) -> bool:
        """True if a day, YYYY-MM-DD, was declared to be without traffic."""
        return date.fromisoformat(day) in self.empty_days

    def arrow_type(self, column: str) -> pa.DataType:
        """A text column's; string where none is given, since it is not read then."""
        kind = self.columns.get(column, "string")
        item = kind.removeprefix("array<").rstrip(">")
        return _ARROW[kind] if item == kind else pa.list_(_ARROW[item])

    def names_in(self, schema: pa.Schema) -> tuple[str, ...]:
        """What Spark must be told of a text file that has these columns: of a csv all of them, in their order."""
        return () if not self.is_text else tuple(schema.names) if self.format == "csv" else tuple(self.columns)

    def typed(self, names: Sequence[str]) -> list[tuple[str, str]]:
        """Names and Spark types of a text file's columns; one that is not read gets a name that no other has."""
        known = {name for name in self.columns if names.count(name) == 1}
        return [(n, self.columns[n]) if n in known else (f"unread:{i}", "string") for i, n in enumerate(names)]

    def require_types(self, spec: FeatureSpec, header: Callable[[], Sequence[str]] = tuple) -> None:
        """Raises SpecError if a text file's column that `spec` reads has no type, or if a feature reads what is made a
        timestamp.

        header: the columns that a file names itself, if it does; only asked to tell them.
        """
        if self.timestamp_format and (readers := [f.name for f in spec.reading() if f.source == spec.timestamp]):
            raise SpecError(
                f"input.timestamp_format makes a timestamp of the column {spec.timestamp!r}, which the features "
                f"{readers} read, and which a request would bring as it is. Give the features a column of their own."
            )
        if self.dealt_by:
            self._require_no_time(spec)
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

    @property
    def reading(self) -> list[Any]:
        """What the same files could be read otherwise by: part of a day's identity."""
        # Keys that came later are left out where nobody sets them: what was read before them keeps its identity.
        later = [[name, getattr(self, name)] for name in self._set("bad_rows", "timestamp_format")]
        return [self.format, list(self.columns.items()), self.reader_options, *later]


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
