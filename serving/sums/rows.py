"""Scored rows of the judged day, wherever they are: what passes over them are told, and what they leave.

A pass is a function from some of the rows to tables of integers (contract.metrics.tally). Rows of one group are always
together. So a host may deal them to as many tasks as it likes: Spark's tasks do it for a night (jobs.judging.passes),
and what is in memory is a single part (`InMemory`). The tables, and all that is read off them, are the same.

Shapes: B rows; P judged rows, i.e. those of positive weight; U units of the bootstrap. A unit is a group, or a row
without one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

import numpy as np

from nightjar.features.contract.errors import DataError
from nightjar.features.contract.metrics.tally import Table, Tally
from nightjar.features.encoder.hashing import MISSING, hash_long

CANDIDATE: Final = "candidate"
CHAMPION: Final = "champion"
REFERENCE: Final = "reference"


@dataclass(frozen=True)
class Observations:
    """What is known of the impressions apart from the models' scores: float64[n] each, group int64[n]."""

    label: np.ndarray
    weight: np.ndarray
    group: np.ndarray | None = None
    truth: np.ndarray | None = None


@dataclass(frozen=True)
class ScoredRows:
    """Rows with every model's scores.

    row_B: int64[B], a hash of each row; only rows without a group need it. scores: float[B] by model. sliced: numbers
    that slices are told by (serving.sums.slices), float64[B] or int64[B] by column.
    """

    observed: Observations
    row_B: np.ndarray
    scores: Mapping[str, np.ndarray]
    sliced: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        columns = {"weight": self.observed.weight, "group": self.observed.group, **self.scores, **self.sliced}
        lengths = {name: len(values) for name, values in columns.items() if values is not None}
        if any(length != len(self.observed.label) for length in lengths.values()):
            raise DataError(f"the gate has {len(self.observed.label)} labels and needs as many of each; got {lengths}.")

    def take(self, rows: np.ndarray) -> ScoredRows:
        """Some of the rows. rows: positions, or bool[B]."""
        observed = self.observed
        group, truth = (None if column is None else column[rows] for column in (observed.group, observed.truth))
        return replace(
            self,
            observed=Observations(observed.label[rows], observed.weight[rows], group, truth),
            row_B=self.row_B[rows],
            scores={name: score_B[rows] for name, score_B in self.scores.items()},
            sliced={name: value_B[rows] for name, value_B in self.sliced.items()},
        )


@dataclass(frozen=True)
class JudgedRows:
    """Rows of positive weight, those of a unit together.

    unit_P: int64[P], positions of the units, ascending; key_U: int64[U], what a unit is drawn by; grouped_U: bool[U],
    whether it is a group.
    """

    rows: ScoredRows
    unit_P: np.ndarray
    key_U: np.ndarray
    grouped_U: np.ndarray

    @classmethod
    def of(cls, scored: ScoredRows) -> JudgedRows:
        """Leave out rows without weight, and find the units."""
        rows = scored.take(scored.observed.weight > 0)
        group = rows.observed.group
        grouped_P = np.zeros(len(rows.row_B), bool) if group is None else group != MISSING
        key_P = _told_apart(rows, ~grouped_P)
        if group is not None:
            key_P[grouped_P] = group[grouped_P]
        order_P = np.lexsort((key_P, grouped_P))
        key_P, grouped_P = key_P[order_P], grouped_P[order_P]
        begins_P = np.ones(len(key_P), bool)
        begins_P[1:] = (key_P[1:] != key_P[:-1]) | (grouped_P[1:] != grouped_P[:-1])
        return cls(rows.take(order_P), np.cumsum(begins_P) - 1, key_P[begins_P], grouped_P[begins_P])


def _told_apart(rows: ScoredRows, alone_P: np.ndarray) -> np.ndarray:
    """Hashes of rows; the n-th further row of those `alone` that share a hash has a hash of its own. Rows that share
    one are numbered by all that is known of them, so that their own order does not matter.
    """
    key_P = rows.row_B.copy()
    [place_n] = np.nonzero(alone_P)
    hash_n = key_P[place_n]
    if len(np.unique(hash_n)) == len(hash_n):
        return key_P
    known = [rows.observed.label, rows.observed.weight, rows.observed.truth, *rows.scores.values()]
    known += rows.sliced.values()
    place_n = place_n[np.lexsort([*(c[place_n] for c in known if c is not None), hash_n])]
    hash_n = key_P[place_n]
    begins_n = np.flatnonzero(np.diff(hash_n, prepend=hash_n[0] - 1))
    number_n = np.arange(len(hash_n)) - np.repeat(begins_n, np.diff(begins_n, append=len(hash_n)))
    key_P[place_n] = np.where(number_n > 0, hash_long(number_n, hash_n), hash_n)
    return key_P


Pass = Callable[[ScoredRows], Tally]
"""A function of some of the rows. It is sent to tasks, so it must be picklable."""


class Host(Protocol):
    """Where the rows are."""

    @property
    def models(self) -> tuple[str, ...]:
        """Whose scores they have; of as_served scores, serving.raw_scores.AS_SERVED and the model's name."""

    def tally(self, over: Pass) -> Mapping[str, Table]:
        """Take a pass over all rows. Rows of a group, and rows without a group that share a hash, are together."""


@dataclass(frozen=True)
class InMemory:
    """Rows of this process."""

    rows: ScoredRows

    @classmethod
    def of(
        cls, observed: Observations, scores: Mapping[str, np.ndarray], sliced: Mapping[str, np.ndarray] | None = None
    ) -> InMemory:
        """Rows in an order that tells them apart: a row without a group is drawn by its position.

        Args:
            observed: what is known of them.
            scores: by model.
            sliced: what slices are told by.
        """
        return cls(ScoredRows(observed, hash_long(np.arange(len(observed.label))), scores, sliced or {}))

    @property
    def models(self) -> tuple[str, ...]:
        """Whose scores they have."""
        return tuple(self.rows.scores)

    def tally(self, over: Pass) -> Mapping[str, Table]:
        """Take a pass over all rows."""
        return over(self.rows)
