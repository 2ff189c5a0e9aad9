"""Frequency counts as of a moment: windows over the daily counts, never over a row's own day or label.

Counts of a row of day D and a window of w days cover [D - w - delay, D - delay); `as_of: impression` adds the
rows of day D that are strictly earlier than the row. Daily counts: day int, key, impressions, positives.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from features.logs import DAY
from features.rows import so_far_columns
from features.spark_rows import LABEL, MICROS, key_of_frequency, source
from features.spec import Frequency, window_days

COUNTS = ("impressions", "positives")


def count_column(frequency: Frequency, window: str, what: str) -> str:
    """Name of a row's `what` (impressions or positives) in `window`."""
    return f"c:{frequency.name}:{window}:{what}"


def counts_by_day(daily: DataFrame, frequency: Frequency) -> DataFrame:
    """Every key's counts as of every day on which it was shown.

    In:  daily counts.
    Out: key, day and `count_column` of each window, bigint, never null. Row count unchanged.
    """
    by_day = Window.partitionBy("key").orderBy("day")
    columns = []
    for window in frequency.windows:
        days = window_days(window)
        start = Window.unboundedPreceding if days is None else -(days + frequency.delay_days)
        span = by_day.rangeBetween(start, -(1 + frequency.delay_days))
        columns += [
            F.coalesce(F.sum(what).over(span), F.lit(0)).alias(count_column(frequency, window, what)) for what in COUNTS
        ]
    return daily.select("key", "day", *columns)


def counts_as_of(daily: DataFrame, frequency: Frequency, day: int) -> DataFrame:
    """Counts as of the start of `day`, for keys that were ever shown in a window.

    Out: key bigint, then impressions_<window>, positives_<window> bigint, never null.
    """
    before = F.col("day") < day - frequency.delay_days
    columns = []
    for window in frequency.windows:
        days = window_days(window)
        inside = before if days is None else before & (F.col("day") >= day - frequency.delay_days - days)
        columns += [F.sum(F.when(inside, F.col(what)).otherwise(0)).alias(f"{what}_{window}") for what in COUNTS]
    shown = [F.col(f"impressions_{window}") for window in frequency.windows]
    return daily.where(before).groupBy("key").agg(*columns).where(sum(shown[1:], shown[0]) > 0)


def with_so_far(rows: DataFrame, frequency: Frequency) -> DataFrame:
    """Append today's impressions and positives of the row's key before its own timestamp; ties do not count.

    In:  a hashed table.
    Out: rows; with `as_of: impression` + so_far_columns (bigint, never null). Row count unchanged.
    """
    if frequency.as_of == "day":
        return rows
    today = Window.partitionBy(key_of_frequency(frequency), DAY).orderBy(MICROS)
    earlier = today.rangeBetween(Window.unboundedPreceding, -1)
    values = (F.lit(1), F.col(LABEL).cast("bigint"))
    return rows.select(
        *map(source, rows.columns),
        *(
            F.coalesce(F.sum(value).over(earlier), F.lit(0)).alias(name)
            for name, value in zip(so_far_columns(frequency), values, strict=True)
        ),
    )


def with_counts(rows: DataFrame, frequency: Frequency, counts: DataFrame) -> DataFrame:
    """Append each row's counts, today's earlier ones included.

    In:  a hashed table after `with_so_far`; counts from `counts_by_day`.
    Out: rows + `count_column` of each window (bigint, never null). Row count unchanged.
    """
    right = counts.withColumnsRenamed({"key": "right:key", "day": "right:day"})
    matches = (key_of_frequency(frequency) == F.col("right:key")) & (F.col(DAY) == F.col("right:day"))
    return rows.join(right, on=matches, how="left").select(
        *map(source, rows.columns),
        *(
            (F.coalesce(F.col(name), F.lit(0)) + _so_far(frequency, what)).alias(name)
            for window in frequency.windows
            for what in COUNTS
            for name in [count_column(frequency, window, what)]
        ),
    )


def _so_far(frequency: Frequency, what: str) -> Column:
    if frequency.as_of == "day":
        return F.lit(0)
    return F.col(so_far_columns(frequency)[COUNTS.index(what)])
