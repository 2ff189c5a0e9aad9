"""Frequency counts as of a moment: windows over the daily counts, never over a row's own day or label.

Counts of a row of day D and a window of w days cover [D - w - delay, D - delay); `as_of: impression` adds the
rows of day D that are strictly earlier than the row. Daily counts: day int, key, impressions, positives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

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


def counts_schema(frequency: Frequency) -> str:
    """The columns of running counts, `impressions_<window>` and `positives_<window>`, for Spark."""
    return ", ".join(f"{name} bigint" for name in _running(frequency))


def reach(frequency: Frequency) -> list[int]:
    """After how many days a day's counts move the running counts: when it enters the windows, when it leaves one."""
    entry = 1 + frequency.delay_days
    return [entry, *(entry + days for window in frequency.windows if (days := window_days(window)) is not None)]


def changes(daily: DataFrame, frequency: Frequency) -> DataFrame:
    """What a day adds to the running counts once it is in the windows, and takes away when it leaves one.

    In:  daily counts.
    Out: key, day int (as of whose start the change holds), the columns of `counts_schema`.
    """
    entry, *_ = reach(frequency)
    moves = [_move(frequency, entry, dict.fromkeys(frequency.windows, F.col))]
    for window in frequency.windows:
        days = window_days(window)
        if days is not None:
            moves.append(_move(frequency, entry + days, {window: lambda what: -F.col(what)}))
    return daily.select("key", F.inline(F.array(*moves)))


def counts_as_of(changed: DataFrame, before: DataFrame | None, frequency: Frequency) -> DataFrame:
    """Running counts after `changes`, for keys that were ever shown in a window.

    before: key and the running counts that the changes start from, if any.
    Out: key bigint, then `counts_schema`.
    """
    running = changed.drop("day")
    table = running if before is None else running.unionByName(before)
    sums = [F.sum(name).alias(name) for name in _running(frequency)]
    shown = [F.col(name) for name in _running(frequency) if name.startswith("impressions")]
    return table.groupBy("key").agg(*sums).where(sum(shown[1:], shown[0]) > 0)


def counts_by_day(
    shown: DataFrame, changed: DataFrame, before: DataFrame | None, since: int, frequency: Frequency
) -> DataFrame:
    """Every key's counts as of every day on which it was shown.

    shown: daily counts of the days that are asked for. changed: `changes` after the day `since`, as of which the counts
    `before` are (None: nothing was shown before it).
    Out: key, day and `count_column` of each window, bigint, never null; a row for each of `shown`.
    """
    running = _running(frequency)
    nothing = [F.lit(0).cast("bigint").alias(name) for name in running]
    asked = shown.select("key", "day", *nothing, F.lit(True).alias("asked"))
    moves = changed if before is None else changed.unionByName(before.withColumn("day", F.lit(since)))
    so_far = Window.partitionBy("key").orderBy("day").rangeBetween(Window.unboundedPreceding, Window.currentRow)
    names = [count_column(frequency, window, what) for window in frequency.windows for what in COUNTS]
    return (
        asked.unionByName(moves.withColumn("asked", F.lit(False)))
        .select("key", "day", "asked", *(F.sum(c).over(so_far).alias(n) for c, n in zip(running, names, strict=True)))
        .where("asked")
        .drop("asked")
    )


def _running(frequency: Frequency) -> list[str]:
    return [f"{what}_{window}" for window in frequency.windows for what in COUNTS]


def _move(frequency: Frequency, after: int, moved: Mapping[str, Callable[[str], Column]]) -> Column:
    nothing = F.lit(0).cast("bigint")
    counts = [
        (moved[window](what) if window in moved else nothing).alias(f"{what}_{window}")
        for window in frequency.windows
        for what in COUNTS
    ]
    return F.struct((F.col("day") + after).alias("day"), *counts)


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
