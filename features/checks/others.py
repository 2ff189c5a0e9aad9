"""How many rows of earlier days hold another value than the only one of a day.

Asked of the log itself, and only for columns that hold one value now and held several before: what is counted by bins,
by boundaries or by the values of lists cannot tell two rows apart that differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from nightjar.features.checks.checks import Day, features_of
from nightjar.features.contract.spec import FeatureSpec
from nightjar.features.input.days import date_of
from nightjar.features.input.folders import read_logs
from nightjar.features.spark.rows import source
from nightjar.features.spark.tables import DAY


def shares_of_others(
    spark: SparkSession, spec: FeatureSpec, newest: Day, reference: Sequence[Day]
) -> dict[str, dict[str, float]]:
    """By column and date, the share of a day's rows that do not hold the only value of `newest`.

    Of columns that features read, that hold one value in every row of it and more than one on a day of `reference`.
    Days whose log is gone are not among the dates.
    """
    read = dict.fromkeys(feature.source for feature in features_of(spec))
    columns = [
        name
        for name in read
        if newest.profile.columns[name].constant and not all(day.profile.columns[name].constant for day in reference)
    ]
    there = [day.log for day in reference if not day.log.gone]
    if not columns or not there:
        return {}
    [now] = read_logs(spark, [newest.log])
    [only] = now.agg(*(F.min(F.xxhash64(source(name))).alias(f"hash:{n}") for n, name in enumerate(columns))).collect()
    same = [(F.xxhash64(source(name)) == only[f"hash:{n}"]).alias(f"same:{n}") for n, name in enumerate(columns)]
    rows = reduce(DataFrame.unionAll, [table.select(DAY, *same) for table in read_logs(spark, there)])
    others = [F.avg((~source(f"same:{n}")).cast("int")).alias(f"others:{n}") for n in range(len(columns))]
    by_day = rows.groupBy(DAY).agg(*others).collect()
    return {name: {date_of(row[DAY]): row[f"others:{n}"] for row in by_day} for n, name in enumerate(columns)}
