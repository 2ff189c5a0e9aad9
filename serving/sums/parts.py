"""The parts of the rows that the gate looks at: all of them, and slices of them.

Shapes: P judged rows, U units of the bootstrap (serving.sums.rows), K slices of a column.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from pydantic import Field

from nightjar.features.contract.errors import DataError
from nightjar.features.contract.metrics.fixed_point import FixedPoint
from nightjar.features.contract.metrics.tally import Table, Tally
from nightjar.features.contract.spec import Strict
from nightjar.serving.sums.rows import JudgedRows, ScoredRows
from nightjar.serving.sums.slices import Coding, Slices


class Support(Strict):
    """The least that a part must hold to be judged."""

    rows: int = Field(default=1000, ge=1)
    """The fewest rows."""
    positives: int = Field(default=50, ge=1)
    """The fewest positives, and the fewest negatives."""
    groups: int = Field(default=30, ge=2)
    """The fewest groups, where impressions have them: a bootstrap over a handful is too sure of itself."""


@dataclass(frozen=True)
class Part:
    """All judged rows (name None), or those of a slice, counted. units: of the bootstrap; groups: among these."""

    name: str | None
    rows: int
    positives: int
    units: int
    groups: int

    @classmethod
    def of(cls, name: str | None, counts: np.ndarray) -> Part:
        """counts: int64[4], in the order of `count`."""
        return cls(name, *counts.tolist())

    def lacks(self, support: Support) -> str | None:
        """What is missing for the part to be judged, in words; None if nothing is."""
        held = {
            "rows": (self.rows, support.rows),
            "positives": (self.positives, support.positives),
            "negatives": (self.rows - self.positives, support.positives),
        }
        if self.groups:
            held["groups"] = (self.units, support.groups)
        lacking = [f"{n} {what}, {least} needed" for what, (n, least) in held.items() if n < least]
        return "; ".join(lacking) or None


@dataclass(frozen=True)
class Cut:
    """The judged rows cut into parts, each row in one. column: that slices are told by; None for a single part of all.

    code_K: codes of slices, ascending; part_K: the part that each is in.
    """

    column: str | None
    names: tuple[str | None, ...]
    coding: Coding
    code_K: np.ndarray
    part_K: np.ndarray

    @classmethod
    def whole(cls) -> Cut:
        """A single part."""
        return cls(None, (None,), Coding(), np.empty(0, np.int64), np.empty(0, np.int64))

    @classmethod
    def by(cls, column: str, slices: Slices, found: Table, support: Support) -> Cut:
        """A part for each slice with enough support, in the names' order, then one of all the others, if any.

        Args:
            column: name of the field or dense feature that the slices are of.
            slices: by its codes.
            found: `count` of every code.
            support: what a slice must hold to be a part of its own.
        """
        named = sorted((slices.names[code], n) for n, code in enumerate(found.keys.tolist()))
        own = [n for name, n in named if Part.of(name, found.values[n]).lacks(support) is None]
        part_K = np.full(len(named), len(own))
        part_K[own] = np.arange(len(own))
        names = [f"{column}={slices.names[int(found.keys[n])]}" for n in own]
        if len(own) < len(named):
            names.append(f"{column}: all others")
        return cls(column, tuple(names), slices.coding, found.keys, part_K)

    def parts_of(self, rows: ScoredRows) -> np.ndarray:
        """The part that each row is in: int64[P]."""
        if self.column is None:
            return np.zeros(len(rows.row_B), np.int64)
        code_P = self.coding.codes(rows.sliced[self.column])
        found: np.ndarray = self.part_K[np.searchsorted(self.code_K, code_P)]
        return found


@dataclass(frozen=True)
class Sight:
    """What a first look at the rows has found.

    rows, positives: of all rows, those without weight too; whole: the judged ones; fixed: how their weights are written
    as integers; models: whose scores there are; improbable: by model, what is wrong with them; by_code: `count` of
    every slice, by column.
    """

    rows: int
    positives: int
    has_groups: bool
    models: tuple[str, ...]
    whole: Part
    fixed: FixedPoint
    improbable: Mapping[str, str]
    by_code: Mapping[str, Table]

    @classmethod
    def of(cls, models: tuple[str, ...], found: Tally) -> Sight:
        """Of what `look` has left. Raises DataError for labels and weights that cannot be used.

        models: whose scores there are, in the order of decisions.
        """
        if len(odd := found["odd labels"].keys):
            raise DataError(f"the gate needs labels 0 or 1; got also {odd.view(np.float64)[:5].tolist()}.")
        if len(odd := found["odd weights"].keys):
            said = odd.view(np.float64)[:5].tolist()
            raise DataError(f"the gate needs finite weights of 0 or more; got also {said}.")
        [[rows, positives, grouped]] = found["rows"].values.tolist()
        faults = {name: found[_SCORES + name].values[0].tolist() for name in models}
        return cls(
            rows=rows,
            positives=positives,
            has_groups=grouped > 0,
            models=models,
            whole=Part.of(None, found["whole"].values[0]),
            fixed=FixedPoint(int(found["exponent"].values[0, 0]) if "exponent" in found else 0),
            improbable={
                name: f"{unreal} NaN or infinite, {outside} outside [0, 1]"
                for name, (unreal, outside) in faults.items()
                if unreal or outside
            },
            by_code={name.removeprefix(_CODES): t for name, t in found.items() if name.startswith(_CODES)},
        )


_SCORES, _CODES = "scores ", "codes of "
_FEW = 5


def look(sliced: Mapping[str, Coding], scored: ScoredRows) -> Tally:
    """A pass: is what the rows hold usable, and how much is there of every slice?

    Args:
        sliced: columns that slices are told by.
        scored: some of the rows.
    """
    label, weight = scored.observed.label, scored.observed.weight
    found = {
        "rows": Table.one(len(label), np.count_nonzero(label == 1), len(label) * (scored.observed.group is not None)),
        "odd labels": _values(label[~np.isin(label, (0, 1))]),
        "odd weights": _values(weight[~(np.isfinite(weight) & (weight >= 0))]),
    }
    for name, score_B in scored.scores.items():
        unreal = ~np.isfinite(score_B)
        outside = ~unreal & ((score_B < 0) | (score_B > 1))
        found[_SCORES + name] = Table.one(np.count_nonzero(unreal), np.count_nonzero(outside))
    judged = JudgedRows.of(scored)
    [counts] = count(judged, np.zeros(len(judged.unit_P), np.int64), 1)
    found["whole"] = Table.one(*counts)
    if len(judged.key_U):
        found["exponent"] = Table.one(FixedPoint.exponent_of(judged.rows.observed.weight), largest=True)
    for column, coding in sliced.items():
        codes, code_P = np.unique(coding.codes(judged.rows.sliced[column]), return_inverse=True)
        found[_CODES + column] = Table(codes, count(judged, code_P, len(codes)))
    return found


def count(judged: JudgedRows, part_P: np.ndarray, parts: int) -> np.ndarray:
    """Rows, positives, units and groups of each part: int64[parts, 4].

    Args:
        judged: rows.
        part_P: the part of each.
        parts: how many there are.
    """
    units = len(judged.key_U)
    pair_n = np.unique(part_P * units + judged.unit_P)
    part_n, unit_n = np.divmod(pair_n, max(units, 1))
    columns = (
        np.bincount(part_P, minlength=parts),
        np.bincount(part_P, judged.rows.observed.label, minlength=parts),
        np.bincount(part_n, minlength=parts),
        np.bincount(part_n, judged.grouped_U[unit_n], minlength=parts),
    )
    return np.stack(columns, axis=1).astype(np.int64)


def _values(odd: np.ndarray) -> Table:
    """A few numbers, as keys."""
    few = np.unique(odd.astype(np.float64).view(np.int64))[:_FEW]
    return Table.of(few, np.ones((len(few), 1), np.int64))
