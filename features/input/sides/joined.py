"""A side table that was looked at, and what it must have in common with the log. Free of PySpark."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import pyarrow as pa

from nightjar.features.encoder.arrow_types import is_categorical
from nightjar.features.input.sides.config import SideTable

Kinds: TypeAlias = "tuple[tuple[str, pa.DataType], ...]"
"""Names and types, as Spark reads them."""
Columns: TypeAlias = "tuple[tuple[str, str], ...]"
"""Names and Spark types."""
Piece: TypeAlias = "tuple[Columns, tuple[str, ...]]"
"""What is read, and the folders or files to read it from."""


@dataclass(frozen=True)
class JoinedSide:
    """A side table, for some days of a log.

    kinds: of the columns that it brings and that are read, by the names that features know; key_kinds: of its key, by
    the log's names. pieces: where its rows are. dates: of the folders among them, ascending, where versions are
    folders. files: what the files are known by, of each of these folders, or of all together.
    """

    side: SideTable
    kinds: Kinds
    key_kinds: Kinds
    pieces: tuple[Piece, ...]
    dates: tuple[str, ...]
    files: tuple[str, ...]

    def version_on(self, day: str) -> str | None:
        """Of versions that are folders: the last that is not later than a day."""
        return max((date for date in self.dates if date <= day), default=None)

    def __str__(self) -> str:
        return f"the side table {self.side.name!r} in {self.side.location}"


def together(sides: Sequence[JoinedSide], more: Sequence[JoinedSide]) -> tuple[JoinedSide, ...]:
    """The same tables of the same files, with the columns that either reads."""
    found = {joined.side.name: joined for joined in sides}
    for joined in more:
        known = found.setdefault(joined.side.name, joined)
        pieces = [
            (tuple({**dict(columns), **dict(others)}.items()), urls)
            for (columns, urls), (others, _) in zip(known.pieces, joined.pieces, strict=True)
        ]
        kinds = {**dict(known.kinds), **dict(joined.kinds)}
        found[joined.side.name] = replace(known, kinds=tuple(kinds.items()), pieces=tuple(pieces))
    return tuple(found.values())


def with_side_kinds(schema: pa.Schema, sides: Sequence[JoinedSide]) -> pa.Schema:
    """A log's schema and the columns that side tables bring."""
    fields = [pa.field(name, kind) for side in sides for name, kind in side.kinds]
    return pa.schema([*schema, *fields])


def side_problems(schemas: Sequence[pa.Schema], sides: Sequence[JoinedSide]) -> Iterator[str]:
    """Columns that the log and a side table both have, and keys that can never be equal."""
    for side in sides:
        if taken := [name for name, _ in side.kinds if any(name in schema.names for schema in schemas)]:
            yield (
                f"the log has the columns {taken}, which {side} brings. Bring them under other names: "
                f"brings: {{name: column}}."
            )
        for name, kind in side.key_kinds:
            if schemas[0].names.count(name) != 1:
                continue  # told as missing, or as repeated
            there = schemas[0].field(name).type
            if not is_categorical(there) or _family(there) != _family(kind):
                yield (
                    f"the key {name!r} has the type {there} in the log and {kind} in {side}. Both must be strings, "
                    f"integers or booleans. Cast one of them where it is written."
                )


def _family(kind: pa.DataType) -> str:
    return "string" if pa.types.is_string(kind) else "boolean" if pa.types.is_boolean(kind) else "integer"
