"""What a replay finds, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from nightjar.features.contract.strict import Strict

Kind = Literal[
    # Of the answers.
    "changed score",
    "refused request",
    "other model",
    "other counters",
    "stale counters",
    # Of a column, held against the model's inputs and golden rows.
    "missing column",
    "other type",
    "unseen values",
    # Of a column, held against the day's log.
    "renamed column",
    "swapped columns",
    "values of another column",
    "values of another row",
    "missing instead of a value",
    "default instead of missing",
    "constant",
    "white space",
    "letter case",
    "Unicode form",
    "text encoding",
    "cut short",
    "prefix",
    "suffix",
    "leading zeros",
    "number format",
    "time zone",
    "shifted",
    "other unit",
    "inverted",
    "rounded",
    "clipped",
    "list order",
    "list duplicates",
    "list cut short",
    "other values",
]


class Difference(Strict):
    """Something that is otherwise in the requests than it should be.

    column: None if it is of whole rows. rows: how many have it, of `of` that could. said: what, with values.
    """

    kind: Kind
    column: str | None = None
    rows: int
    of: int
    said: str


class Replayed(Strict):
    """The outcome. rows: scored again; reproduced: with the score that was answered, within the tolerance.

    largest: the largest difference of a score. joined: rows found in the day's log; None if none was given. models:
    rows by version and counters.
    """

    requests: int
    rows: int
    reproduced: int
    largest: float
    joined: int | None = None
    models: Mapping[str, int]
    differences: tuple[Difference, ...]

    def lines(self) -> list[str]:
        """The outcome for people."""
        lines = [
            f"{self.requests:,} requests, {self.rows:,} rows; {self.reproduced:,} scores reproduced, "
            f"the largest difference is {self.largest:.1e}"
        ]
        lines += [f"  {rows:,} rows under {model}" for model, rows in self.models.items()]
        if self.joined is not None:
            lines.append(f"  {self.joined:,} rows found in the day's log")
        for one in self.differences:
            column = f" {one.column}" if one.column else ""
            lines.append(f"{one.kind}:{column}: {one.rows:,} of {one.of:,} rows: {one.said}")
        return lines if self.differences else [*lines, "no differences"]
