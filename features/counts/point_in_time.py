"""What is known of a key as of a moment: running sums of daily counts, never of a row's own day or label.

Counts of a row of day D and a window of w days cover [D - w - delay, D - delay); `as_of: impression` adds the
rows of day D that are strictly earlier than the row. Daily counts: day int, key, impressions, positives.

Where a row has several keys, the counts of each distinct list of keys are pooled from those of its keys
(features.encoder.frequency says how), and then joined as if the list were one key.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from nightjar.features.contract.spec import FeatureSpec, Frequency, window_days
from nightjar.features.counts.ranks import ranks_by_day
from nightjar.features.encoder.rows import so_far_columns
from nightjar.features.input.folders import DAY
from nightjar.features.spark.rows import LABEL, MICROS, all_keys, each_key, source

COUNTS = ("impressions", "positives")
FIRST = "first"


def count_column(frequency: Frequency, window: str, what: str) -> str:
    """Name of a row's `what` (impressions, positives or rank) in `window`."""
    return f"c:{frequency.name}:{window}:{what}"


def age_column(frequency: Frequency) -> str:
    """Name of the days since a row's key was first shown."""
    return f"age:{frequency.name}"


def counts_schema(frequency: Frequency) -> str:
    """The columns of running counts, for Spark: `impressions_<window>` and `positives_<window>`; with
    days_since_first_seen `first`, the first day on which the key was shown.
    """
    return ", ".join(f"{name} {'int' if name == FIRST else 'bigint'}" for name in _running(frequency))


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
    """Running counts after `changes`, for keys shown in a window; for all keys, if their first day is asked for.

    Args:
        changed: what `changes` gives.
        before: key and the running counts that the changes start from; None if they start from nothing.
        frequency: whose counts they are.

    Out: key bigint, then `counts_schema`.
    """
    running = changed.drop("day")
    table = running if before is None else running.unionByName(before)
    counts = table.groupBy("key").agg(*(column.alias(name) for name, column in _running(frequency).items()))
    if frequency.is_dated:
        return counts
    shown = [F.col(f"impressions_{window}") for window in frequency.windows]
    return counts.where(sum(shown[1:], shown[0]) > 0)


def counts_by_day(
    shown: DataFrame,
    changed: DataFrame,
    before: DataFrame | None,
    since: int,
    frequency: Frequency,
    days: Sequence[int],
) -> DataFrame:
    """Every key's counts as of every day on which it was shown.

    Args:
        shown: daily counts of `days`.
        changed: `changes` after the day `since`.
        before: running counts as of `since`; None if nothing was shown before it.
        since: days since 1970-01-01.
        frequency: whose counts they are.
        days: those that are asked for, as `since`.

    Out: key, day and `count_column` of each window, bigint, ranks double, `age_column` int, never null; a row for each
    of `shown`.
    """
    moves = changed if before is None else changed.unionByName(before.withColumn("day", F.lit(since)))
    asked = shown.select("key", "day", F.lit(True).alias("asked"))
    so_far = Window.partitionBy("key").orderBy("day").rangeBetween(Window.unboundedPreceding, Window.currentRow)
    running = _running(frequency)
    counts = {
        count_column(frequency, window, what): F.coalesce(running[f"{what}_{window}"].over(so_far), F.lit(0))
        for window in frequency.windows
        for what in COUNTS
    }
    if frequency.is_dated:
        counts[age_column(frequency)] = F.coalesce(F.col("day") - running[FIRST].over(so_far), F.lit(0))
    table = (
        moves.withColumn("asked", F.lit(False))
        .unionByName(asked, allowMissingColumns=True)
        .select("key", "day", "asked", *(column.alias(name) for name, column in counts.items()))
        .where("asked")
        .drop("asked")
    )
    if frequency.is_ranked:
        for window in frequency.windows:
            impressions = F.col(f"impressions_{window}").alias("impressions")
            ranks = ranks_by_day(moves.select("key", "day", impressions), days)
            table = _with_rank(table, ranks, frequency, window)
    return table


def _running(frequency: Frequency) -> dict[str, Column]:
    """How each running count is merged, by name."""
    counts = {f"{what}_{window}": F.sum(f"{what}_{window}") for window in frequency.windows for what in COUNTS}
    return counts | ({FIRST: F.min(FIRST)} if frequency.is_dated else {})


def _with_rank(counts: DataFrame, ranks: DataFrame, frequency: Frequency, window: str) -> DataFrame:
    right = ranks.withColumnsRenamed({name: f"right:{name}" for name in ranks.columns})
    impressions = F.col(count_column(frequency, window, "impressions"))
    matches = (F.col("day") == F.col("right:day")) & (impressions == F.col("right:impressions"))
    rank = F.coalesce(F.col("right:rank"), F.lit(0.0)).alias(count_column(frequency, window, "rank"))
    return counts.join(F.broadcast(right), on=matches, how="left").select(*map(source, counts.columns), rank)


def _move(frequency: Frequency, after: int, moved: Mapping[str, Callable[[str], Column]]) -> Column:
    nothing = F.lit(0).cast("bigint")
    counts = [
        (moved[window](what) if window in moved else nothing).alias(f"{what}_{window}")
        for window in frequency.windows
        for what in COUNTS
    ]
    if frequency.is_dated:
        enters = after == reach(frequency)[0]
        counts.append((F.col("day") if enters else F.lit(None).cast("int")).alias(FIRST))
    return F.struct((F.col("day") + after).alias("day"), *counts)


def with_so_far(rows: DataFrame, frequency: Frequency, spec: FeatureSpec) -> DataFrame:
    """Append today's impressions and positives of the row's keys before its own timestamp; ties do not count.

    In:  a hashed table.
    Out: rows; with `as_of: impression` + so_far_columns (bigint, never null). Row count unchanged.
    """
    if frequency.as_of == "day":
        return rows
    names = so_far_columns(frequency)
    if not spec.has_key_lists(frequency):
        return rows.select(*map(source, rows.columns), *_so_far(all_keys(frequency, spec), names))
    moment = [all_keys(frequency, spec).alias("right:keys"), F.col(DAY).alias("right:day")]
    shown = rows.select(*moment, MICROS, LABEL, DAY, each_key(frequency, spec).alias("key"))
    # A count depends on the key and the moment alone, so that rows with the same ones need no telling apart.
    by_key = shown.select("right:keys", "right:day", F.col(MICROS).alias("right:micros"), "key", *_so_far("key", names))
    pooled = (
        by_key.distinct().groupBy("right:keys", "right:day", "right:micros").agg(*(F.sum(n).alias(n) for n in names))
    )
    matches = (
        (all_keys(frequency, spec) == F.col("right:keys"))
        & (F.col(DAY) == F.col("right:day"))
        & (F.col(MICROS) == F.col("right:micros"))
    )
    return rows.join(pooled, on=matches, how="left").select(
        *map(source, rows.columns), *(F.coalesce(F.col(name), F.lit(0)).alias(name) for name in names)
    )


def with_counts(rows: DataFrame, frequency: Frequency, spec: FeatureSpec, counts: DataFrame) -> DataFrame:
    """Append each row's counts, today's earlier ones included.

    In:  a hashed table after `with_so_far`; counts of its days, from `counts_of_rows`.
    Out: rows + the columns of `counts_by_day` (never null). Row count unchanged.
    """
    names = [name for name in counts.columns if name not in ("key", "day")]
    right = counts.withColumnsRenamed({"key": "right:key", "day": "right:day"})
    matches = (all_keys(frequency, spec) == F.col("right:key")) & (F.col(DAY) == F.col("right:day"))
    known = {name: F.coalesce(F.col(name), F.lit(0)) for name in names}
    if frequency.as_of == "impression":
        for window in frequency.windows:
            for what, so_far in zip(COUNTS, so_far_columns(frequency), strict=True):
                known[count_column(frequency, window, what)] += F.col(so_far)
    return rows.join(right, on=matches, how="left").select(
        *map(source, rows.columns), *(column.alias(name) for name, column in known.items())
    )


def counts_of_rows(rows: DataFrame, frequency: Frequency, spec: FeatureSpec, counts: DataFrame) -> DataFrame:
    """`counts_by_day` by what `all_keys` gives: where rows have several keys, every list of them that a day holds."""
    if not spec.has_key_lists(frequency):
        return counts
    lists = rows.select(
        all_keys(frequency, spec).alias("keys"), F.col(DAY).alias("day"), each_key(frequency, spec).alias("key")
    )
    of_list = lists.distinct().join(counts, on=["key", "day"], how="inner").groupBy(F.col("keys").alias("key"), "day")
    summed = {count_column(frequency, window, what) for window in frequency.windows for what in COUNTS}
    names = [name for name in counts.columns if name not in ("key", "day")]
    return of_list.agg(*((F.sum(name) if name in summed else F.max(name)).alias(name) for name in names))


def _so_far(key: Column | str, names: Sequence[str]) -> list[Column]:
    """Impressions and positives of a key on a day before a moment."""
    today = Window.partitionBy(key, DAY).orderBy(MICROS)
    earlier = today.rangeBetween(Window.unboundedPreceding, -1)
    values = (F.lit(1), F.col(LABEL).cast("bigint"))
    return [
        F.coalesce(F.sum(value).over(earlier), F.lit(0)).alias(name) for name, value in zip(names, values, strict=True)
    ]
