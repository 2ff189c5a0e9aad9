"""How the rates that keys had when a day began compare with the labels of that day, for its summary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import reduce
from operator import itemgetter

from pyspark.sql import Column, DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from nightjar.features.contract.artifact_files import FREQUENCY
from nightjar.features.contract.manifests import AggregateManifest, StateManifest
from nightjar.features.contract.publishing import read_manifest
from nightjar.features.contract.spec import FeatureSpec, Frequency
from nightjar.features.contract.summary import FrequencySummary, RateRange, SeenRange
from nightjar.features.counts.aggregate import FREQUENCY_SCHEMA
from nightjar.features.counts.point_in_time import counts_schema
from nightjar.features.spark.tables import read_daily, read_table

# Keys are put together by steps of the log-odds of their rates.
_LOGIT_STEP = 0.25
# Expected positives are summed as integers, so that the order in which Spark's tasks end does not matter.
_UNITS = 2**20
_SUMMED = ("keys", "impressions", "positives", "units")


def key_rates(
    spark: SparkSession, spec: FeatureSpec, state_dir: str, newest: Mapping[str, AggregateManifest]
) -> Iterator[FrequencySummary]:
    """Of every frequency feature and window: one job for all.

    state_dir: a state through the day before; newest: the day's counts, by directory.
    """
    tables = [_by_rate(spark, n, frequency, state_dir, newest) for n, frequency in enumerate(spec.frequencies)]
    rows = reduce(DataFrame.unionAll, tables).collect() if tables else []
    for n, frequency in enumerate(spec.frequencies):
        for window in frequency.windows:
            of_window = [row for row in rows if (row["feature"], row["window"]) == (n, window)]
            rates, seen = _grouped(of_window, itemgetter("step")), _grouped(of_window, itemgetter("digits"))
            yield FrequencySummary(
                frequency=frequency.name,
                window=window,
                keys=sum(row["keys"] for row in of_window),
                rates=tuple(
                    RateRange(impressions=s["impressions"], positives=s["positives"], expected=s["units"] / _UNITS)
                    for s in rates.values()
                ),
                seen=tuple(
                    SeenRange(least=1 << digits >> 1, impressions=s["impressions"], positives=s["positives"])
                    for digits, s in seen.items()
                ),
            )


def _grouped(rows: Sequence[Row], key: Callable[[Row], int]) -> dict[int, Counter[str]]:
    """Sums by key, in the order of the keys."""
    sums: dict[int, Counter[str]] = {number: Counter() for number in sorted({key(row) for row in rows})}
    for row in rows:
        sums[key(row)].update({name: row[name] for name in _SUMMED})
    return sums


def _by_rate(
    spark: SparkSession, number: int, frequency: Frequency, state_dir: str, newest: Mapping[str, AggregateManifest]
) -> DataFrame:
    """feature, window, step of the rate's log-odds, binary digits of the impressions before; _SUMMED."""
    folder = f"{FREQUENCY}/{frequency.name}"
    state = read_manifest(state_dir, StateManifest)
    before = read_table(spark, state_dir, state, folder, f"key bigint, {counts_schema(frequency)}")
    today = read_daily(spark, newest, folder, FREQUENCY_SCHEMA).join(before, on="key", how="left").na.fill(0)
    windows = F.explode(F.array(*(_in_window(frequency, window) for window in frequency.windows)))
    counted = today.select("impressions", "positives", windows.alias("w")).select("impressions", "positives", "w.*")
    return counted.groupBy(F.lit(number).alias("feature"), "window", "step", "digits").agg(
        F.count(F.lit(1)).alias("keys"),
        F.sum("impressions").alias("impressions"),
        F.sum("positives").alias("positives"),
        F.sum(F.round(F.col("impressions") * F.col("rate") * _UNITS).cast("bigint")).alias("units"),
    )


def _in_window(frequency: Frequency, window: str) -> Column:
    impressions, positives = F.col(f"impressions_{window}"), F.col(f"positives_{window}")
    rate = (positives + frequency.prior * frequency.strength) / (impressions + frequency.strength)
    return F.struct(
        F.lit(window).alias("window"),
        rate.alias("rate"),
        F.floor(F.log(rate / (1.0 - rate)) / _LOGIT_STEP).alias("step"),
        F.when(impressions == 0, 0).otherwise(F.length(F.bin(impressions))).alias("digits"),
    )
