"""Columns that are computed of others, in the log and in requests alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Annotated

from pydantic import AfterValidator, Field

from nightjar.features.contract.categorical import Name
from nightjar.features.contract.expressions.parse import Node, columns_of, parse
from nightjar.features.contract.strict import Strict


def _parseable(text: str) -> str:
    parsed(text)
    return text


class DerivedColumn(Strict):
    """A column that is computed of others, in the log and in requests by the same code."""

    name: Name
    """What features call it in `column`. No column of the log may have the name."""
    expression: Annotated[str, AfterValidator(_parseable), Field(min_length=1)]
    """How it is computed of columns of the log, and of other derived ones: see [features](features.md#derived-columns).
    """

    @property
    def node(self) -> Node:
        """The expression, parsed."""
        return parsed(self.expression)

    @property
    def columns(self) -> tuple[str, ...]:
        """What it is computed of: columns of the log, and other derived ones."""
        return _columns(self.expression)


# A request asks for them every time.
parsed = lru_cache(maxsize=1024)(parse)


@lru_cache(maxsize=1024)
def _columns(expression: str) -> tuple[str, ...]:
    return columns_of(parsed(expression))


def in_order(derived: Sequence[DerivedColumn], wanted: Sequence[str]) -> list[DerivedColumn]:
    """Those that the `wanted` columns need, each after what it reads itself. They read each other in no circle."""
    by_name = {one.name: one for one in derived}
    found: dict[str, DerivedColumn] = {}

    def visit(name: str) -> None:
        if name in by_name and name not in found:
            for read in by_name[name].columns:
                visit(read)
            found[name] = by_name[name]

    for name in wanted:
        visit(name)
    return list(found.values())


def log_columns(derived: Sequence[DerivedColumn], column: str) -> tuple[str, ...]:
    """The columns of the log that a column is made of: itself, if it is not derived."""
    if all(one.name != column for one in derived):  # as of most columns of a request, every time
        return (column,)
    needed = in_order(derived, [column])
    made = {one.name for one in needed}
    read = [name for one in needed for name in one.columns]
    return tuple(dict.fromkeys(name for name in read if name not in made))


def meaning(derived: Sequence[DerivedColumn], column: str) -> str:
    """What a column holds: its name in the log, or how it is computed, whatever it is called and however written."""
    if not (needed := in_order(derived, [column])):
        return column
    *below, last = needed
    return "; ".join([str(last.node), *(f"{one.name} = {one.node}" for one in below)])


def problems_of(derived: Sequence[DerivedColumn], roles: Mapping[str, str]) -> Iterator[str]:
    """What is wrong with derived columns taken together. roles: columns that the spec itself names, with what for."""
    names = [one.name for one in derived]
    yield from (
        f"derive: the name {name!r} is used {names.count(name)} times"
        for name in dict.fromkeys(names)
        if names.count(name) > 1
    )
    for one in derived:
        if one.name in roles:
            yield f"derive.{one.name}: the {roles[one.name]} is a column of the log; give the derived one another name"
    yield from (f"derive.{name}: it is computed of itself" for name in circular(derived))


def circular(derived: Sequence[DerivedColumn]) -> list[str]:
    """Names of derived columns that are computed of themselves, be it by others."""
    reads = {one.name: set(one.columns) for one in derived}
    reached = {name: set(read) for name, read in reads.items()}
    for _ in reads:
        for name, read in reached.items():
            reached[name] = read.union(*(reads[other] for other in read if other in reads))
    return [name for name, read in reached.items() if name in read]
