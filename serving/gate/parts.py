"""The parts of the impressions that the gate looks at: all of them, and slices of them.

Shapes: B impressions; U units that the bootstrap draws; P impressions and S units of a part, i.e. of all rows or of one
slice. Weights and labels are float64.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from pydantic import Field

from nightjar.features.contract.spec import Strict
from nightjar.features.encoder.hashing import MISSING
from nightjar.serving.evaluation.metrics import Observations


class Support(Strict):
    """The least that a part must hold to be judged."""

    rows: int = Field(default=1000, ge=1)
    """The fewest rows."""
    positives: int = Field(default=50, ge=1)
    """The fewest positives, and the fewest negatives."""
    groups: int = Field(default=30, ge=2)
    """The fewest groups, where impressions have them: a bootstrap over a handful is too sure of itself."""


@dataclass(frozen=True)
class Slices:
    """Which slice every impression is in. code_B: int64[B]; names: by code."""

    code_B: np.ndarray
    names: Mapping[int, str]

    @staticmethod
    def of(value_B: np.ndarray) -> Slices:
        """A slice for each distinct value."""
        values, code_B = np.unique(value_B, return_inverse=True)
        return Slices(code_B, {code: str(value) for code, value in enumerate(values.tolist())})


@dataclass(frozen=True)
class Part:
    """All rows (name None), or those of a slice.

    units_S: the units that have impressions here; unit_P: positions in units_S; grouped_S: which units are groups.
    """

    name: str | None
    rows_P: np.ndarray
    label_P: np.ndarray
    weight_P: np.ndarray
    unit_P: np.ndarray
    units_S: np.ndarray
    grouped_S: np.ndarray

    def by_unit(self, value_P: np.ndarray) -> np.ndarray:
        """Sums over the impressions of each unit: float64[S]."""
        return np.bincount(self.unit_P, value_P, minlength=len(self.units_S))

    @cached_property
    def unit_weight(self) -> np.ndarray:
        """Weight of each unit's impressions: float64[S]."""
        return self.by_unit(self.weight_P)

    @cached_property
    def unit_positive(self) -> np.ndarray:
        """Weight of each unit's positive impressions: float64[S]."""
        return self.by_unit(self.weight_P * self.label_P)

    def lacks(self, support: Support) -> str | None:
        """What is missing for the part to be judged, in words; None if nothing is."""
        positives = int(self.label_P.sum())
        held = {
            "rows": (len(self.label_P), support.rows),
            "positives": (positives, support.positives),
            "negatives": (len(self.label_P) - positives, support.positives),
        }
        if self.grouped_S.any():
            held["groups"] = (len(self.units_S), support.groups)
        lacking = [f"{n} {what}, {least} needed" for what, (n, least) in held.items() if n < least]
        return "; ".join(lacking) or None

    def slice(self, name: str, chosen_P: np.ndarray) -> Part:
        """The part of this one where `chosen_P` (bool) holds."""
        units_S, unit_P = np.unique(self.unit_P[chosen_P], return_inverse=True)
        rows_P, label_P, weight_P = (column[chosen_P] for column in (self.rows_P, self.label_P, self.weight_P))
        return Part(name, rows_P, label_P, weight_P, unit_P, units_S, self.grouped_S[units_S])


def whole_of(observed: Observations) -> Part:
    """All impressions of positive weight. The units are their groups, then each impression without a group."""
    rows_P = np.flatnonzero(observed.weight > 0)
    group_P = np.full(len(rows_P), MISSING) if observed.group is None else observed.group[rows_P]
    known_P = group_P != MISSING
    groups, unit_of_known = np.unique(group_P[known_P], return_inverse=True)
    unit_P = len(groups) + np.cumsum(~known_P) - 1
    unit_P[known_P] = unit_of_known
    units_S = np.arange(len(groups) + np.count_nonzero(~known_P))
    label_P, weight_P = (column[rows_P].astype(np.float64) for column in (observed.label, observed.weight))
    return Part(None, rows_P, label_P, weight_P, unit_P, units_S, units_S < len(groups))


def parts_of(whole: Part, column: str, slices: Slices, support: Support) -> Iterator[Part]:
    """A part for each slice with enough support, in the names' order, then one of all the others, if any.

    Args:
        whole: all impressions.
        column: name of the field or dense feature that the slices are of.
        slices: of all B impressions.
        support: what a slice must hold to be a part of its own.
    """
    codes, code_P, counts = np.unique(slices.code_B[whole.rows_P], return_inverse=True, return_counts=True)
    rest_P = np.ones(len(code_P), dtype=bool)
    frequent = np.flatnonzero(counts >= support.rows).tolist()
    for name, code in sorted((slices.names[int(codes[code])], code) for code in frequent):
        chosen_P = code_P == code
        part = whole.slice(f"{column}={name}", chosen_P)
        if part.lacks(support) is None:
            rest_P &= ~chosen_P
            yield part
    if rest_P.any():
        yield whole.slice(f"{column}: all others", rest_P)
