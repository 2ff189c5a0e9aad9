"""Rolled-up counts to vocabularies, of the values of fields or of the conjunctions of crosses: pure functions.

An id depends on the days through which its value came in, and on nothing later: the nights one by one give what all
their days at once give.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from nightjar.features.contract.spec import CategoricalField, Cross
from nightjar.features.spark.tables import PART


def with_ids(known: DataFrame, policies: Sequence[CategoricalField | Cross], through: int) -> DataFrame:
    """Give ids to the values of several vocabularies, by the days up to `through`.

    In:  features.counts.rollup.admissions. policies: by table.
    Out: table, PART, hash bigint, id int, value string, impressions bigint; one row a value that has an id and is not
    retired on that day.

    Ids follow (admission day, hash): later days only append. Of a day that would admit more values than `max_size` has
    room for, the most frequent ones come in, then the lesser hashes; a full vocabulary stays as it is.
    """
    admitted = known.where(F.col("admitted").isNotNull())
    max_size, retire_after, first_id = (
        F.array(*(F.lit(value).cast("int") for value in values))[F.col("table")]
        for values in (
            [policy.max_size for policy in policies],
            [policy.retire_after_days for policy in policies],
            [policy.first_id for policy in policies],
        )
    )
    if any(policy.max_size for policy in policies):
        rarity = F.when(max_size.isNotNull(), -F.col("at_admission")).otherwise(0)
        ranked = _numbered(admitted.withColumn("rarity", rarity), "admitted", "rarity")
        admitted = ranked.where(F.coalesce(F.col("number") < max_size, F.lit(True))).drop("number", "rarity")
    given = _numbered(admitted, "admitted").withColumn("id", (F.col("number") + first_id).cast("int"))
    seen_lately = F.lit(through) - F.col("last") < retire_after
    lasting = given.where(F.coalesce(seen_lately, F.lit(True)))
    return lasting.select("table", PART, "hash", "id", "value", "impressions")


def _numbered(tables: DataFrame, *leading: str) -> DataFrame:
    """Append `number` bigint: from 0 on in each table, in the order of (leading, hash).

    A global row number without a global sort: parts ascend with the hash. Only the table of their sizes passes through
    a single task.
    """
    keys = ["table", *leading, PART]
    sizes = tables.groupBy(*keys).agg(F.count(F.lit(1)).alias("size"))
    order = Window.partitionBy("table").orderBy(*leading, PART)
    earlier = order.rowsBetween(Window.unboundedPreceding, -1)
    starts = sizes.select(
        *(F.col(key).alias(f"right:{key}") for key in keys),
        F.coalesce(F.sum("size").over(earlier), F.lit(0)).alias("start"),
    )
    matches = reduce(Column.__and__, (F.col(f"`{key}`") == F.col(f"`right:{key}`") for key in keys))
    within = F.row_number().over(Window.partitionBy("table", PART, *leading).orderBy("hash"))
    joined = tables.withColumn("within", within).join(F.broadcast(starts), on=matches, how="inner")
    return joined.select(*tables.columns, (F.col("start") + F.col("within") - 1).alias("number"))
