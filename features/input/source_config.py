"""How rows are read from files or tables: what a log and the tables beside it have in common. Free of PySpark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import pyarrow as pa
from pydantic import Field, model_validator

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

# Where Spark puts the text of a row that is not as the columns say.
MALFORMED_ROW = "row:malformed"

# A short or long row is only seen by a reader that splits all of it: Spark leaves columns out otherwise, and with them
# the test. In check, not in speed: a column that is not asked for is not converted either way.
_TEXT_OPTIONS: dict[str, dict[str, str]] = {
    "csv": {"mode": "FAILFAST", "header": "true", "columnPruning": "false"},
    "json": {"mode": "FAILFAST"},
}


class SourceConfig(Strict):
    """Where rows are, and how Spark reads them."""

    format: str = Field("parquet", pattern=r"^[A-Za-z][A-Za-z0-9_.\-]*$")
    """`parquet`, `orc`, `csv` or `json` (an object a line) are read from files. `table` is a name in Spark's catalog.
    Any other that Spark has a reader for (`delta`, `iceberg`, `jdbc`) does without the checks of files."""
    location: str | None = Field(None, min_length=1)
    """A folder, a file, a URL, or a table's name. `--logs` takes its place."""
    columns: Mapping[str, SparkType] = {}
    """Of csv and json: the Spark type of each column that the spec reads; types are never guessed. In a csv they are
    found by the names of each file's header; without a header these are all columns in their order. A line of JSON may
    lack any of them, and then holds null."""
    options: Mapping[str, bool | int | float | str] = {}
    """For `spark.read.options`. csv and json fail on a malformed row unless `mode` is another."""

    @model_validator(mode="after")
    def _check_reading(self) -> SourceConfig:
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
        if self.format == "json" and self.is_on("multiLine"):
            raise ValueError("options.multiLine: a row of json must be a line")
        return self

    def __hash__(self) -> int:
        return hash(digest(self.model_dump(mode="json")))

    @property
    def is_files(self) -> bool:
        """True if the files can be looked at before Spark starts."""
        return self.format in FILE_FORMATS

    @property
    def is_text(self) -> bool:
        """True if the files do not say of what types they are."""
        return self.format in _TEXT_OPTIONS

    @property
    def keeps_malformed(self) -> bool:
        """True if Spark hands malformed rows out, with their text as `MALFORMED_ROW`."""
        return False

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

    @property
    def reading(self) -> list[Any]:
        """What the same files could be read otherwise by: part of their identity."""
        return [self.format, list(self.columns.items()), self.reader_options]
