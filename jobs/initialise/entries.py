"""What a proposal is made of: settings as they go into the YAML, each with the figure that led to it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nightjar.jobs.initialise.columns import LoggedColumn

# The longest name of a feature: a pair's is two of them and a little, and must stay below a hundred.
_NAME = 40


@dataclass(frozen=True)
class Entry:
    """An item of a list such as `fields`. comment: why it is there, on one line."""

    settings: dict[str, Any]
    comment: str

    @property
    def name(self) -> str:
        """The feature's name."""
        return str(self.settings["name"])


@dataclass(frozen=True, eq=False)
class FieldEntry:
    """A proposed field and the column that it reads.

    counts_only: too many of its values are new every day to have weights of their own; it is a key of counts.
    """

    entry: Entry
    column: LoggedColumn
    counts_only: bool = False

    @property
    def name(self) -> str:
        """The field's name."""
        return self.entry.name


def named(column: str, taken: Sequence[str], suffix: str = "") -> dict[str, Any]:
    """`name`, and `column` where it must differ. taken: names of the same kind; Spark takes no notice of case."""
    name = re.sub(r"[^A-Za-z0-9_]+", "_", column).strip("_")[:_NAME]
    name = (name if name[:1].isalpha() else f"column_{name}") + suffix
    used = {other.casefold() for other in taken}
    unique, number = name, 2
    while unique.casefold() in used:
        unique, number = f"{name}_{number}", number + 1
    return {"name": unique} if unique == column else {"name": unique, "column": column}


def power_of_two(least: float, low: int, high: int) -> int:
    """The smallest power of two that is `least` or more, within [low, high], which are powers of two themselves."""
    size = low
    while size < least and size < high:
        size *= 2
    return size
