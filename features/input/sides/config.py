"""A side table as the config has it. Free of PySpark."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field, model_validator

from nightjar.features.contract.categorical import Name
from nightjar.features.input.source_config import FILE_FORMATS, SourceConfig

FOLDERS = "folders"


class SideTable(SourceConfig):
    """A table whose columns a row of the log gets by a key, as of its day. Requests bring these columns."""

    name: Name
    """What messages call it."""
    location: str = Field(min_length=1)
    """A file, a folder of files, or a URL."""
    key: str | Mapping[str, str]
    """The column that both have: one row a value, in each version. Of another name in the table, or of several columns:
    `{column of the log: column of the table}`."""
    brings: tuple[str, ...] | Mapping[str, str] = Field(min_length=1)
    """Its columns that features may read as if they were the log's. Under other names: `{name: column of the table}`.
    """
    versions: str = Field("none", pattern=r"^(none|folders|valid_from\(.+\))$")
    """`none`: one version, for all days. `folders`: a `date=YYYY-MM-DD` folder holds the whole table as it was when
    that day began, and counts until the next. `valid_from(column)`: a row counts from that date or moment on, until the
    next row of its key. A row of the log gets what was valid when its day began, in UTC, and nothing later."""

    @model_validator(mode="after")
    def _check_side(self) -> SideTable:
        if not self.is_files:
            raise ValueError(f"a side table is read from files of {list(FILE_FORMATS)}; got {self.format!r}")
        if not self.keys:
            raise ValueError("key must name a column")
        if len(set(self.brings)) < len(self.brings):
            raise ValueError(f"brings repeats a column: {list(self.brings)}")
        if both := sorted(set(self.keys) & set(self.brought)):
            raise ValueError(f"brings: {both} are its key, which the log has already")
        return self

    @property
    def keys(self) -> dict[str, str]:
        """The table's column by that of the log."""
        return {self.key: self.key} if isinstance(self.key, str) else dict(self.key)

    @property
    def brought(self) -> dict[str, str]:
        """The table's column by the name that features know."""
        return dict(self.brings) if isinstance(self.brings, Mapping) else {name: name for name in self.brings}

    @property
    def valid_from(self) -> str | None:
        """The column that says since when a row is valid, if one does."""
        return self.versions[len("valid_from(") : -1] if self.versions.startswith("valid_from(") else None

    @property
    def joined_by(self) -> list[Any]:
        """What else the same files could be joined by: part of a day's identity."""
        return [self.reading, sorted(self.keys.items()), sorted(self.brought.items()), self.versions]
