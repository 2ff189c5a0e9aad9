"""Mean and standard deviation of columns at scale: exact sums of integers, so that no order of rows can move them.

Sums of floating-point numbers depend on how Spark cuts the log. Here every value becomes a multiple of 2^-40 of its
column's range, whose sums and sums of squares are exact. Rounding moves the mean by at most 2^-41 of the range, and the
deviation, which n values with that range cannot have smaller than the range / sqrt(2 n), by a share of
sqrt(2 n) 2^-41 at most: 2e-8 for 10^9 rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from functools import reduce

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from nightjar.features.contract.spec import DenseFeature, FeatureSpec
from nightjar.features.encoder.dense import Moments
from nightjar.features.input.folders import LogPartition, read_logs
from nightjar.features.spark.rows import source

_STEPS = 2**40


def fit_moments(spark: SparkSession, spec: FeatureSpec, partitions: Sequence[LogPartition]) -> dict[str, Moments]:
    """Moments of each `standardise` feature over the finite values of these days: two scans for all."""
    features = [feature for feature in spec.dense if feature.transform == "standardise"]
    if not features:
        return {}
    finite = [_finite(feature).alias(feature.name) for feature in features]
    rows = reduce(DataFrame.unionAll, [raw.select(*finite) for raw in read_logs(spark, partitions)])
    ends = rows.agg(*(end(f.name).alias(f"{name}:{f.name}") for f in features for name, end in _ENDS.items())).first()
    assert ends is not None
    ranges = {f.name: (ends[f"low:{f.name}"], ends[f"high:{f.name}"]) for f in features}
    sums = rows.agg(*(column for name, (low, high) in ranges.items() for column in _sums(name, low, high))).first()
    assert sums is not None
    return {
        name: _moments(low, high, sums[f"n:{name}"], int(sums[f"sum:{name}"]), int(sums[f"squares:{name}"]))
        if sums[f"n:{name}"]
        else Moments(0.0, 0.0)
        for name, (low, high) in ranges.items()
    }


_ENDS = {"low": F.min, "high": F.max}


def _finite(feature: DenseFeature) -> Column:
    value = source(feature.source).cast("double")
    return F.when(F.abs(value) < float("inf"), value)


def _sums(name: str, low: float | None, high: float | None) -> list[Column]:
    """Number, sum and sum of squares of the values in steps above `low`. Halves, since a range may overflow."""
    share = F.lit(0.0)
    if low is not None and high is not None and high / 2 > low / 2:
        share = (source(name) / 2 - low / 2) / (high / 2 - low / 2)
    steps = F.when(source(name).isNotNull(), F.rint(share * _STEPS).cast("decimal(13,0)"))
    return [
        F.count(name).alias(f"n:{name}"),
        F.sum(steps).alias(f"sum:{name}"),
        F.sum(steps * steps).alias(f"squares:{name}"),
    ]


def _moments(low: float, high: float, n: int, total: int, squares: int) -> Moments:
    span = Fraction(high) - Fraction(low)
    mean = Fraction(low) + span * Fraction(total, n * _STEPS)
    variance = Fraction(n * squares - total**2, (n * _STEPS) ** 2)
    # The range itself may be more than a float can hold; the deviation is at most half of it.
    return Moments(float(mean), float(span / 2) * (2 * math.sqrt(variance)))
