"""How often each value of many features was shown by day: the most frequent ones, and all others together, in one job.

Tasks keep the most frequent values that they hold and add up the others, so that what comes back to the driver grows
neither with the logs nor with a vocabulary.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from nightjar.features.input.days import day_number
from nightjar.features.spark.arrow_tasks import map_arrow

EVERYTHING = sys.maxsize


@dataclass(frozen=True)
class Tally:
    """A feature's values. values: int64[n]; known: bool[n]; counts: int64[n, days + 1], impressions by day and then the
    positives of the last day. rest: int64[2, days + 1], of all other values, those not known and those known.
    """

    values: np.ndarray
    known: np.ndarray
    counts: np.ndarray
    rest: np.ndarray

    @classmethod
    def empty(cls, days: int) -> Tally:
        """Of no value."""
        counts = np.zeros((2, days + 1), np.int64)
        return cls(np.zeros(0, np.int64), np.zeros(0, bool), counts[:0], counts)

    def __add__(self, other: Tally) -> Tally:
        """Of two tallies that share no value."""
        return Tally(
            np.concatenate([self.values, other.values]),
            np.concatenate([self.known, other.known]),
            np.concatenate([self.counts, other.counts]),
            self.rest + other.rest,
        )

    def head(self, sizes: np.ndarray, most: int) -> Tally:
        """The `most` values with the largest sum of their shares of the last day and of the days before. Values that
        none of the days shows are not among them.

        sizes: what the shares are of, int64[days].
        """
        shown = self.counts[:, -2] / max(sizes[-1], 1) + self.counts[:, :-2].sum(axis=1) / max(sizes[:-1].sum(), 1)
        order = np.lexsort((self.values, -shown))
        most = min(most, np.count_nonzero(shown))
        kept, others = order[:most], order[most:]
        known = self.known[others]
        rest = [self.counts[others][known == which].sum(axis=0) for which in (False, True)]
        return Tally(self.values[kept], self.known[kept], self.counts[kept], self.rest + np.stack(rest))


def tallies(counts: DataFrame, days: Sequence[str], sizes: np.ndarray, most: Sequence[int]) -> list[Tally]:
    """The tally of every feature, in one job.

    Args:
        counts: feature int, day int, value bigint, known boolean, impressions bigint, positives bigint: one row a
            feature, day and value, and one without a day for every known value.
        days: those of the table that are counted.
        sizes: what a feature's shares are of, int64[features, days].
        most: how many values to keep, by feature.
    """
    numbers = [day_number(day) for day in days]
    wide = counts.groupBy("feature", "value").agg(
        F.bool_or("known").alias("known"),
        *(F.sum(F.when(F.col("day") == n, F.col("impressions")).otherwise(0)).alias(f"n{n}") for n in numbers),
        F.sum(F.when(F.col("day") == numbers[-1], F.col("positives")).otherwise(0)).alias("positives"),
    )
    limits = list(zip(sizes, most, strict=True))

    def tallied(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        held = [Tally.empty(len(days))] * len(limits)
        for batch in batches:
            feature_of, values, known, *by_day = (column.to_numpy(zero_copy_only=False) for column in batch.columns)
            found = np.stack(by_day, axis=1)
            for n in np.unique(feature_of):
                rows = feature_of == n
                more = Tally(values[rows], known[rows], found[rows], np.zeros_like(held[n].rest))
                held[n] = (held[n] + more).head(*limits[n])
        yield pa.RecordBatch.from_pydict({"held": [pickle.dumps(held)]})

    total = [Tally.empty(len(days))] * len(limits)
    for row in map_arrow(wide, tallied, "held binary").collect():
        total = [before + held for before, held in zip(total, pickle.loads(row["held"]), strict=True)]
    return [tally.head(*limit) for tally, limit in zip(total, limits, strict=True)]
