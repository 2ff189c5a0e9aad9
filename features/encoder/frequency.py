"""Frequency statistics: what is known of a row's keys as of a moment, and the numbers that are made of it.

A row has one key, or, where a key field is multi-valued, one for each choice of values; the history of a row with
several keys is pooled from theirs: impressions and positives are summed, rank and age are the largest. A row without a
key, by an empty list, has the history of a key that was never seen: zero everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from nightjar.features.contract.spec import Frequency
from nightjar.features.encoder.hashing import find
from nightjar.features.encoder.ragged import Ragged


@dataclass(frozen=True)
class Counts:
    """Impressions and positives, int64[n] each."""

    impressions: np.ndarray
    positives: np.ndarray

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.impressions + other.impressions, self.positives + other.positives)


@dataclass(frozen=True)
class KeyHistory:
    """What is known of the keys of n rows, as of their moments.

    counts, ranks (count_rank, float64[n]): by window. age: days since the first impression, int64[n], 0 for a key that
    was never seen. Ranks and age only where the frequency has the statistic.
    """

    counts: Mapping[str, Counts]
    ranks: Mapping[str, np.ndarray] = field(default_factory=dict)
    age: np.ndarray | None = None


@dataclass(frozen=True)
class Ranks:
    """Share of the keys shown in a window that were shown at most so often.

    impressions: int64[k], ascending, those that keys have; shares: float64[k + 1], from 0 for less than the least.
    """

    impressions: np.ndarray
    shares: np.ndarray

    @staticmethod
    def of(impressions: np.ndarray) -> Ranks:
        """Of all keys, int64[keys]; those without impressions are not counted."""
        shown, keys = np.unique(impressions[impressions > 0], return_counts=True)
        return Ranks(shown, np.append(0, np.cumsum(keys)) / max(keys.sum(), 1))

    def lookup(self, impressions: np.ndarray) -> np.ndarray:
        """count_rank of keys with so many impressions, float64[n]."""
        return self.shares[np.searchsorted(self.impressions, impressions, side="right")]


@dataclass(frozen=True)
class FrequencyTable:
    """Every key's history as of one day. keys: int64[n], ascending; the rest as in KeyHistory."""

    keys: np.ndarray
    counts: Mapping[str, Counts]
    ranks: Mapping[str, Ranks] = field(default_factory=dict)
    age: np.ndarray | None = None

    def lookup(self, keys: np.ndarray | Ragged) -> KeyHistory:
        """The history of each row: of its key, or pooled from its list of distinct keys."""
        flat = keys.values if isinstance(keys, Ragged) else keys
        position, found = find(self.keys, flat)

        def known(column: np.ndarray) -> np.ndarray:
            values = np.zeros(len(flat), dtype=np.int64)
            values[found] = column[position[found]]
            return values

        def pooled(values: np.ndarray, pool: np.ufunc) -> np.ndarray:
            return Ragged(values, keys.offsets).reduce(pool) if isinstance(keys, Ragged) else values

        counts = {w: Counts(known(of.impressions), known(of.positives)) for w, of in self.counts.items()}
        return KeyHistory(
            {w: Counts(pooled(of.impressions, np.add), pooled(of.positives, np.add)) for w, of in counts.items()},
            {w: pooled(ranks.lookup(counts[w].impressions), np.maximum) for w, ranks in self.ranks.items()},
            None if self.age is None else pooled(known(self.age), np.maximum),
        )


def encode_frequency(frequency: Frequency, history: KeyHistory) -> dict[str, np.ndarray]:
    """Every dense column of a frequency, [rows] each; formulas in features.contract.spec.Frequency."""
    columns: dict[str, np.ndarray] = {}
    of_window = {window: _of_counts(frequency, counts) for window, counts in history.counts.items()}
    for name, window, statistic in frequency.columns():
        if window is None:
            assert history.age is not None
            columns[name] = history.age
        elif statistic == "count_rank":
            columns[name] = history.ranks[window]
        else:
            columns[name] = of_window[window][statistic]()
    return columns


def _of_counts(frequency: Frequency, counts: Counts) -> dict[str, Callable[[], np.ndarray]]:
    impressions, positives = counts.impressions.astype(np.float64), counts.positives.astype(np.float64)
    rate = (positives + frequency.prior * frequency.strength) / (impressions + frequency.strength)
    return {
        "impressions": lambda: impressions,
        "positives": lambda: positives,
        "rate": lambda: rate,
        "log_odds": lambda: np.log(rate / (1.0 - rate)) - np.log(frequency.prior / (1.0 - frequency.prior)),
        "log_count": lambda: np.log1p(impressions),
    }
