"""Ranks of counts as of each day: the whole distribution of a window's counts, from the days on which they change.

A table of ranks has one row a day and distinct count. k distinct counts need k (k + 1) / 2 impressions, so that it is
small, whatever the number of keys: a broadcast takes it to the keys.
"""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F


def ranks_by_day(changes: DataFrame, days: Sequence[int]) -> DataFrame:
    """Share of the keys shown in a window that were shown at most so often, as of the start of each of `days`.

    In:  key, day int, impressions bigint: by how much a key's impressions in the window change as of the start of day.
    Out: day int, impressions bigint, those that any key has as of that day, rank double.
    """
    as_of = Window.partitionBy("day")
    at_most = as_of.orderBy("impressions").rowsBetween(Window.unboundedPreceding, 0)
    rank = F.sum("keys").over(at_most) / F.sum("keys").over(as_of)
    return _keys_by_count(changes, days).select("day", "impressions", rank.alias("rank"))


def _keys_by_count(changes: DataFrame, days: Sequence[int]) -> DataFrame:
    """Out: day int, impressions bigint, keys bigint: how many keys have exactly so many as of that day.

    A key's count changes on few days, and with it two sums change by one: how many keys have the old and the new count.
    """
    change = F.sum("impressions").alias("change")
    by_key = changes.where(F.col("day") <= max(days)).groupBy("key", "day").agg(change)
    so_far = Window.partitionBy("key").orderBy("day").rowsBetween(Window.unboundedPreceding, 0)
    counts = by_key.select("day", "change", F.sum("change").over(so_far).alias("count"))
    moves = counts.select(
        F.greatest("day", F.lit(min(days))).alias("day"),
        F.inline(
            F.array(
                F.struct(F.col("count").alias("impressions"), F.lit(1).alias("keys")),
                F.struct((F.col("count") - F.col("change")).alias("impressions"), F.lit(-1).alias("keys")),
            )
        ),
    ).where(F.col("impressions") > 0)
    of_day = moves.groupBy("day", "impressions").agg(F.sum("keys").alias("keys"))
    later = F.filter(F.array(*map(F.lit, days)), lambda day: day >= F.col("day"))
    running = of_day.select(F.explode(later).alias("day"), "impressions", "keys").groupBy("day", "impressions")
    return running.agg(F.sum("keys").alias("keys")).where(F.col("keys") > 0)
