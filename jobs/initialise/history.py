"""Counts of keys as they were before each row: how much of the newest rows is new, and what a key's history tells.

Shapes: R rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from nightjar.jobs.initialise.additive import LabelledRows

# A value of a vocabulary is known once it was seen so often.
KNOWN_FROM = 3


@dataclass(frozen=True, eq=False)
class Times:
    """When rows were: time_R in microseconds, day_R in days, both since 1970-01-01, int64."""

    time_R: np.ndarray
    day_R: np.ndarray


@dataclass(frozen=True, eq=False)
class PastCounts:
    """Of each row's key, the rows and positives before the row: on earlier days, and up to the moment. float64[R]."""

    rows_by_day_R: np.ndarray
    positives_by_day_R: np.ndarray
    rows_by_moment_R: np.ndarray
    positives_by_moment_R: np.ndarray

    def log_odds(self, prior: float, strength: float, as_of: str) -> np.ndarray:
        """The smoothed log odds, less those of the prior: as a frequency's statistic of all days. float64[R]."""
        by_moment = as_of == "impression"
        rows = self.rows_by_moment_R if by_moment else self.rows_by_day_R
        positives = self.positives_by_moment_R if by_moment else self.positives_by_day_R
        rate = (positives + prior * strength) / (rows + strength)
        return np.log(rate / (1 - rate)) - math.log(prior / (1 - prior))


def history_of(code_R: np.ndarray, rows: LabelledRows, times: Times) -> PastCounts:
    """Running counts of every key, by time; rows of one moment do not see each other."""
    order = np.lexsort((times.time_R, code_R))
    code, label = code_R[order], rows.label_R[order]
    count_before = np.arange(len(code), dtype=np.float64)
    positives_before = np.cumsum(label) - label
    by_unit = []
    for unit in (np.zeros_like(code), times.day_R[order], times.time_R[order]):
        starts = np.r_[True, (code[1:] != code[:-1]) | (unit[1:] != unit[:-1])] if len(code) else np.zeros(0, bool)
        first = np.maximum.accumulate(np.where(starts, np.arange(len(code)), 0))
        by_unit.append((count_before[first], positives_before[first]))
    (key_rows, key_positives), (day_rows, day_positives), (now_rows, now_positives) = by_unit
    back = np.empty(len(order), dtype=np.int64)
    back[order] = np.arange(len(order))
    found = (day_rows - key_rows, day_positives - key_positives, now_rows - key_rows, now_positives - key_positives)
    return PastCounts(*(column[back] for column in found))


def share_unknown(code_R: np.ndarray, rows: LabelledRows, sampled: float) -> float:
    """The share of the newest rows whose key the older rows hold less than three times.

    sampled: the part of all rows that the sample holds; so much less often it sees a key.
    """
    seen = np.bincount(code_R[~rows.newest_R], minlength=int(code_R.max(initial=0)) + 1)
    needed = max(1, round(KNOWN_FROM * sampled))
    return float(np.mean(seen[code_R[rows.newest_R]] < needed))
