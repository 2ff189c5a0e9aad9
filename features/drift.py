"""How far a day's values have moved from those of other days, from daily counts, in Spark: only figures come back.

Divergence is Jensen and Shannon's, in bits: 0 for equal distributions, 1 for disjoint ones (Lin 1991),

    JS(p, q) = sum of [p log2(2p / (p + q)) + q log2(2q / (p + q))] / 2,

over the values that make up a thousandth of all days together, each by itself, and over all the others as one: among
rare values two samples of the same distribution look as different as two distributions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from features.logs import day_number

HEAD_SHARE = 0.001

# Terms are summed as integers, so that the order in which Spark's tasks end does not matter.
_UNITS = 2.0**40


@dataclass(frozen=True)
class Drift:
    """A day against the reference days, itself left out. divergence: in bits; unseen: share of its values that the
    others hold less than the minimum count of; None where either side holds no value.
    """

    divergence: float | None
    unseen: float | None


def drift(daily: DataFrame, sizes: Mapping[str, int], newest: str, min_count: int = 1) -> dict[str, Drift]:
    """Every day against the reference days, which are all but the newest.

    daily: day int, value bigint, impressions bigint, one row a day and value. sizes: impressions of each day, by date,
    in all.
    """
    dates = list(sizes)
    counts = [F.sum(F.when(F.col("day") == day_number(day), F.col("impressions")).otherwise(0)) for day in dates]
    by_value = daily.groupBy("value").agg(*(count.alias(f"n{i}") for i, count in enumerate(counts)))
    reference = [i for i, day in enumerate(dates) if day != newest]
    referred = sum((F.col(f"n{i}") for i in reference), F.lit(0))
    head = sum((F.col(f"n{i}") for i in range(len(dates))), F.lit(0)) >= HEAD_SHARE * sum(sizes.values())
    all_referred = sum(sizes[dates[i]] for i in reference)
    figures: list[Column] = []
    rest: list[tuple[int, int]] = []
    for i, day in enumerate(dates):
        own = F.col(f"n{i}")
        others = referred - own if i in reference else referred
        rest.append((sizes[day], all_referred - (sizes[day] if i in reference else 0)))
        size, others_size = (max(n, 1) for n in rest[-1])
        term = F.round(_term(own / size, others / others_size) * _UNITS).cast("bigint")
        figures += [
            F.sum(F.when(head, term).otherwise(0)).alias(f"divergence{i}"),
            F.sum(F.when(head, own).otherwise(0)).alias(f"own{i}"),
            F.sum(F.when(head, others).otherwise(0)).alias(f"others{i}"),
            F.sum(F.when(others < min_count, own).otherwise(0)).alias(f"unseen{i}"),
        ]
    row = by_value.agg(*figures).first()
    assert row is not None
    found: dict[str, Drift] = {}
    for i, (day, (size, others_size)) in enumerate(zip(dates, rest, strict=True)):
        if not size or not others_size:
            found[day] = Drift(None, None)
            continue
        tail = _tail(1.0 - row[f"own{i}"] / size, 1.0 - row[f"others{i}"] / others_size)
        divergence = row[f"divergence{i}"] / _UNITS + tail
        found[day] = Drift(round(max(divergence, 0.0), 9), row[f"unseen{i}"] / size)
    return found


def _term(p: Column, q: Column) -> Column:
    def half(x: Column, y: Column) -> Column:
        return F.when(x > 0, x * F.log2(2 * x / (x + y))).otherwise(0.0)

    return (half(p, q) + half(q, p)) / 2


def _tail(p: float, q: float) -> float:
    return sum(x * math.log2(2 * x / (x + y)) for x, y in ((p, q), (q, p)) if x > 1e-12) / 2
