"""How far a day's values have moved from those of other days, from daily counts, in Spark: only figures come back.

Divergence is Jensen and Shannon's, in bits: 0 for equal distributions, 1 for disjoint ones (Lin 1991),

    JS(p, q) = sum of [p log2(2p / (p + q)) + q log2(2q / (p + q))] / 2,

over the values that make up a thousandth of all days together, each by itself, and over all the others as one: among
rare values two samples of the same distribution look as different as two distributions.

Numbers are first put together by quantiles of the reference days, and those outside their range on either side: a value
that few rows hold says nothing, and a range that many hold must not be wider than what can move within it. A value with
as many rows as a quantile stays by itself, and so do all where there are no more than quantiles.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
import pyarrow as pa
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from nightjar.features.input.days import day_number
from nightjar.features.spark.arrow_tasks import map_arrow

HEAD_SHARE = 0.001
QUANTILES = 64

# Terms are summed as integers, so that the order in which Spark's tasks end does not matter.
_UNITS = 2.0**40
_SUMS = 4


@dataclass(frozen=True)
class DailyCounts:
    """A feature's values by day.

    table: day int, value bigint, impressions bigint, one row a day and value. sizes: impressions of each day, by date,
    in all. min_count: fewer impressions than that count as none. ordered: values are numbers, or bins of such.
    """

    table: DataFrame
    sizes: Mapping[str, int]
    min_count: int = 1
    ordered: bool = False


@dataclass(frozen=True)
class Drift:
    """A day against the reference days, itself left out. divergence: in bits; unseen: share of its values that the
    others hold less than the minimum count of; None where either side holds no value.
    """

    divergence: float | None
    unseen: float | None


@dataclass(frozen=True)
class _Days:
    """A feature's days. sizes: impressions of each, [days]; others: of the reference days but the day itself, [days];
    is_reference: all but the newest, [days].
    """

    sizes: np.ndarray
    others: np.ndarray
    is_reference: np.ndarray
    min_count: int

    @classmethod
    def of(cls, counts: DailyCounts, newest: str) -> _Days:
        sizes = np.array(list(counts.sizes.values()), np.int64)
        is_reference = np.array([day != newest for day in counts.sizes])
        return cls(sizes, sizes[is_reference].sum() - sizes * is_reference, is_reference, counts.min_count)

    def sums(self, own: np.ndarray) -> np.ndarray:
        """What is added up over all values, [4, days] int64: divergence, own and the others' impressions of the
        frequent values, and impressions of unseen ones. own: impressions, [values, days].
        """
        others = own[:, self.is_reference].sum(axis=1, keepdims=True) - own * self.is_reference
        head = own.sum(axis=1, keepdims=True) >= HEAD_SHARE * self.sizes.sum()
        terms = _terms(own / np.maximum(self.sizes, 1), others / np.maximum(self.others, 1))
        units = np.rint(terms * _UNITS).astype(np.int64)
        parts = (units * head, own * head, others * head, own * (others < self.min_count))
        return np.stack([part.sum(axis=0) for part in parts])

    def drifts(self, sums: np.ndarray) -> Iterator[Drift]:
        """Of each day, from the sums over all values."""
        for size, others, day_sums in zip(self.sizes, self.others, sums.T, strict=True):
            units, own_head, others_head, unseen = day_sums
            if not size or not others:
                yield Drift(None, None)
                continue
            rest = np.array([1.0 - own_head / size, 1.0 - others_head / others])
            tail = _terms(*np.where(rest > 1e-12, rest, 0.0))
            yield Drift(round(max(float(units / _UNITS + tail), 0.0), 9), float(unseen / size))


def drifts(features: Sequence[DailyCounts], newest: str) -> list[dict[str, Drift]]:
    """Of every feature, every day by date against the reference days, which are all but the newest: one job for all."""
    dates = list(features[0].sizes)
    days = [_Days.of(counts, newest) for counts in features]
    numbered = [
        counts.table.select(F.lit(n).alias("feature"), "day", "value", "impressions")
        for n, counts in enumerate(features)
    ]
    of_day = [F.sum(F.when(F.col("day") == day_number(day), F.col("impressions")).otherwise(0)) for day in dates]
    by_value = reduce(DataFrame.unionAll, numbered).groupBy("feature", "value")
    wide = by_value.agg(*(count.alias(f"n{i}") for i, count in enumerate(of_day)))
    ordered = [n for n, counts in enumerate(features) if counts.ordered]
    if ordered:
        is_ordered = F.col("feature").isin(ordered)
        before = [f"n{i}" for i, day in enumerate(dates) if day != newest]
        wide = wide.where(~is_ordered).unionByName(_by_quantile(wide.where(is_ordered), before))
    wide = wide.drop("value")

    def summed(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        sums = np.zeros((len(days), _SUMS, len(dates)), np.int64)
        for batch in batches:
            feature_of, *by_day = (column.to_numpy() for column in batch.columns)
            impressions = np.stack(by_day, axis=1)
            for feature in np.unique(feature_of):
                sums[feature] += days[feature].sums(impressions[feature_of == feature])
        yield pa.RecordBatch.from_pydict({"sums": [sums.ravel()]})

    tasks = map_arrow(wide, summed, "sums array<bigint>").collect()
    total = np.array([task["sums"] for task in tasks], np.int64).sum(axis=0).reshape(len(days), _SUMS, len(dates))
    return [dict(zip(dates, of.drifts(sums), strict=True)) for of, sums in zip(days, total, strict=True)]


def _by_quantile(wide: DataFrame, before: Sequence[str]) -> DataFrame:
    """Put the values of numbers together, in the same columns.

    Args:
        wide: feature, value and the impressions of each day.
        before: names of those of the reference days.
    """
    weight = reduce(Column.__add__, map(F.col, before), F.lit(0))
    of_feature = Window.partitionBy("feature")
    so_far = of_feature.orderBy("value").rowsBetween(Window.unboundedPreceding, Window.currentRow)
    placed = wide.withColumn("weight", weight).withColumns(
        {
            "total": F.sum("weight").over(of_feature),
            "shown": F.count_if(F.col("weight") > 0).over(of_feature),
            "through": F.sum("weight").over(so_far),
        }
    )
    weight, total, through = F.col("weight"), F.col("total"), F.col("through")
    # Twice the middle of a value's rows, so that nothing is rounded: below the range 0, above it 2 * total.
    middle = 2 * through - weight
    quantile = F.when(middle == 0, -1).otherwise(F.floor(F.try_divide(middle * QUANTILES, 2 * total)))
    alone = (weight > 0) & ((F.col("shown") <= QUANTILES) | (weight * QUANTILES >= total))
    counts = [name for name in wide.columns if name not in ("feature", "value")]
    return (
        placed.withColumn("alone", alone)
        .withColumn("value", F.when(F.col("alone"), F.col("value")).otherwise(quantile))
        .groupBy("feature", "alone", "value")
        .agg(*(F.sum(name).alias(name) for name in counts))
        .drop("alone")
    )


def _terms(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """What each pair of shares adds to the divergence."""

    def half(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return x * np.log2(np.where(x > 0, 2 * x / np.where(x > 0, x + y, 1.0), 1.0))

    return (half(p, q) + half(q, p)) / 2
