"""Days of logs to daily counts: how often each value of a field and each frequency key was shown.

vocabulary/<field>/*.parquet: hash int64, value string, impressions int64 (rows that hold the value), positives int64.
frequency/<name>/*.parquet: key int64, impressions int64, positives int64.
cross/<name>/*.parquet, sketch/<name>/*.parquet: see features.conjunctions.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial, reduce
from typing import TypeVar

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from features.admission import RANK_BITS, SKETCH_REGISTERS
from features.conjunctions import cross_counts, cross_sketch, is_sketched
from features.errors import DataError
from features.logs import DAY, LogPartition, day_number, day_of, read_logs
from features.manifest import AggregateManifest, FileEntry, begin, commit, describe_files
from features.spark_rows import LABEL, each_key, hash_value, hashed, positive, row_hash, source, value_of, values_of
from features.spec import CategoricalField, FeatureSpec, Frequency
from features.state import CROSS, SKETCH
from features.tables import write_days

T = TypeVar("T")
log = logging.getLogger(__name__)

VOCABULARY_SCHEMA = "hash bigint, value string, impressions bigint"
LABELLED_SCHEMA = f"{VOCABULARY_SCHEMA}, positives bigint"
FREQUENCY_SCHEMA = "key bigint, impressions bigint, positives bigint"

# Of a large log, one narrow groupBy a column reads less than one wide pass; four at a time were measured to be the
# fastest. Of a small one a job costs more than its rows: so many values share one.
AT_A_TIME = 4
_VALUES_PER_JOB = 4_000_000
# Many small days are counted in one pass; a large one has a pass of its own.
_ROWS_PER_PASS = 5_000_000
_SHOWN = 10


@dataclass(frozen=True)
class Totals:
    """Rows and positives of one day. misdated: rows in its folder whose timestamp is of another day."""

    rows: int
    positives: int
    misdated: int


def vocabulary_counts(raws: Sequence[DataFrame], fields: Sequence[CategoricalField], label: str) -> DataFrame:
    """In: raw rows and DAY. Out: table int (position of the field), day int, LABELLED_SCHEMA, never null: one row a
    field, day and value.
    """
    tables = [
        _values(raw, field, label).withColumn("table", F.lit(n)) for n, field in enumerate(fields) for raw in raws
    ]
    counted = reduce(DataFrame.unionAll, tables).groupBy("table", "day", "value")
    table = counted.agg(F.count(F.lit(1)).alias("impressions"), F.sum("positive").alias("positives"))
    hashed_value = hash_value(F.col("value")).alias("hash")
    return table.select("table", "day", hashed_value, "value", "impressions", "positives")


def _values(raw: DataFrame, field: CategoricalField, label: str) -> DataFrame:
    """day, value string and positive of every row that has a value; of a list, of each of its distinct values."""
    value = F.explode(F.array_distinct(values_of(field))) if field.multi_valued else value_of(field)
    values = raw.select(F.col(DAY).alias("day"), value.alias("value"), positive(label).alias("positive"))
    return values.where(F.col("value").isNotNull())


def frequency_counts(rows: DataFrame, frequency: Frequency, spec: FeatureSpec) -> DataFrame:
    """In: a hashed table. Out: day int, FREQUENCY_SCHEMA, never null: one row a day and key."""
    return (
        rows.select(F.col(DAY).alias("day"), each_key(frequency, spec).alias("key"), LABEL)
        .groupBy("day", "key")
        .agg(F.count(F.lit(1)).alias("impressions"), F.sum(F.col(LABEL).cast("bigint")).alias("positives"))
        .select("day", "key", "impressions", "positives")
    )


def check_values(spark: SparkSession, spec: FeatureSpec, partitions: Sequence[LogPartition]) -> dict[str, Totals]:
    """Rows and positives of each day, by date, after a look at every label, timestamp, weight and truth.

    A row belongs to its folder's day: one whose timestamp is of another is counted and told, and kept. Of text files
    every column that the spec reads is converted here, so that a malformed row ends the build before it has begun.
    Raises one DataError that lists the values that cannot be used, with their counts.
    """
    if not partitions:
        return {}
    rules = list(_value_rules(spec))
    text = any(partition.input.is_text for partition in partitions)
    checked = [
        raw.select(
            DAY,
            (source(spec.label).cast("double") == 1).alias("positive"),
            (day_of(spec.timestamp) != F.col(DAY)).alias("misdated"),
            (row_hash(spec) if text else F.lit(0)).alias("touched"),
            *(F.coalesce(bad, F.lit(True)).alias(f"bad:{n}") for n, (_, _, bad, _) in enumerate(rules)),
        )
        for raw in read_logs(spark, partitions)
    ]
    summary = (
        reduce(DataFrame.unionAll, checked)
        .groupBy(DAY)
        .agg(
            F.count(F.lit(1)).alias("rows"),
            F.count_if("positive").alias("positives"),
            F.count_if("misdated").alias("misdated"),
            F.max("touched"),
            *(F.count_if(f"bad:{n}").alias(f"bad:{n}") for n in range(len(rules))),
        )
    )
    by_day = {row[DAY]: row for row in summary.collect()}
    totals: dict[str, Totals] = {}
    problems: list[str] = []
    for partition in partitions:
        row = by_day.get(day_number(partition.date))
        if row is None or partition.counted not in (None, row["rows"]):
            problems.append(
                f"  date {partition.date}: Spark finds {row['rows'] if row else 0} rows in {partition.url}; there were "
                f"{partition.counted or 'some'}. Is the log still being written?"
            )
            continue
        totals[partition.date] = Totals(row["rows"], row["positives"], row["misdated"])
        if row["misdated"]:
            log.warning("date %s: %d rows have the timestamp of another day", partition.date, row["misdated"])
        for n, (role, column, bad, wanted) in enumerate(rules):
            if row[f"bad:{n}"]:
                values = _bad_values(read_logs(spark, [partition])[0], column, bad)
                problems.append(f"  date {partition.date}: {role} {column!r} must {wanted}; found {values}")
    if problems:
        raise DataError(
            f"the logs hold values that cannot be used ({len(problems)} problem(s)):\n"
            + "\n".join(problems)
            + "\nCorrect or leave out those rows; nothing was published."
        )
    return totals


def publish_aggregates(spark: SparkSession, spec: FeatureSpec, days: Mapping[str, tuple[LogPartition, Totals]]) -> None:
    """Count and publish several days. days: the day's log and totals, by the directory to publish into."""
    for batch in _passes(days):
        directories = {day_number(days[directory][0].date): directory for directory in batch}
        partitions = [days[directory][0] for directory in batch]
        log.info("counting %s (%d days)", ", ".join(p.date for p in partitions[:3]), len(partitions))
        for directory in batch:
            begin(directory)
        with ThreadPoolExecutor(AT_A_TIME) as pool:
            most = {day_number(days[directory][0].date): days[directory][1].rows for directory in batch}
            writes = [pool.submit(write) for write in _writes(spark, spec, partitions, directories, most)]
            written = [write.result() for write in writes]
        for directory in batch:
            partition, totals = days[directory]
            entries = [entry for tables in written for entry in tables.get(directory, [])]
            manifest = AggregateManifest(
                inputs={f"logs/date={partition.date}": partition.fingerprint},
                files=describe_files(directory, entries),
                spec_fingerprint=spec.fingerprint,
                date=partition.date,
                rows=totals.rows,
                positives=totals.positives,
                misdated=totals.misdated,
            )
            commit(directory, manifest)


def sharing_jobs(features: Sequence[T], rows: int) -> Iterator[Sequence[T]]:
    """The features in groups, each to be counted by one job over so many rows."""
    size = 1 + _VALUES_PER_JOB // rows
    for start in range(0, len(features), size):
        yield features[start : start + size]


def _passes(days: Mapping[str, tuple[LogPartition, Totals]]) -> Iterator[list[str]]:
    batch: list[str] = []
    rows = 0
    for directory, (_, totals) in days.items():
        if batch and rows + totals.rows > _ROWS_PER_PASS:
            yield batch
            batch, rows = [], 0
        batch.append(directory)
        rows += totals.rows
    if batch:
        yield batch


def _writes(
    spark: SparkSession,
    spec: FeatureSpec,
    partitions: Sequence[LogPartition],
    directories: Mapping[int, str],
    most: Mapping[int, int],
) -> Iterator[Callable[[], dict[str, list[FileEntry]]]]:
    raws = read_logs(spark, partitions)
    rows = reduce(DataFrame.unionAll, [hashed(raw, spec) for raw in raws])
    for fields in sharing_jobs(spec.fields, sum(most.values())):
        folders = [f"vocabulary/{field.name}" for field in fields]
        tables = vocabulary_counts(raws, fields, spec.label)
        yield partial(write_days, tables, directories, *folders, key="hash", rows=most)
    for frequency in spec.frequencies:
        table = frequency_counts(rows, frequency, spec)
        yield partial(write_days, table, directories, f"frequency/{frequency.name}", key="key", rows=most)
    for cross in spec.crosses:
        if cross.is_fitted:
            table = cross_counts(rows, spec, cross)
            yield partial(write_days, table, directories, f"{CROSS}/{cross.name}", key="hash", rows=most)
        if is_sketched(cross):
            table, pairs = cross_sketch(rows, spec, cross), dict.fromkeys(most, SKETCH_REGISTERS << RANK_BITS)
            yield partial(write_days, table, directories, f"{SKETCH}/{cross.name}", key="hash", rows=pairs)


def _value_rules(spec: FeatureSpec) -> Iterator[tuple[str, str, Column, str]]:
    """(role, column, condition that is true or null for a bad value, what the values must do)."""
    label = source(spec.label).cast("double")
    yield "label", spec.label, ~label.isin(0.0, 1.0), "be 0 or 1"
    yield "timestamp", spec.timestamp, source(spec.timestamp).isNull(), "not be null"
    if spec.weight:
        weight = source(spec.weight).cast("float")
        yield "weight", spec.weight, ~((weight >= 0) & (weight < float("inf"))), "be finite and not negative"
    if spec.truth:
        truth = source(spec.truth).cast("double")
        yield "truth", spec.truth, ~((truth >= 0) & (truth <= 1)), "lie between 0 and 1"


def _bad_values(raw: DataFrame, column: str, bad: Column) -> str:
    value = F.coalesce(source(column).cast("string"), F.lit("null")).alias("value")
    counts = raw.where(F.coalesce(bad, F.lit(True))).groupBy(value).agg(F.count(F.lit(1)).alias("rows"))
    worst = counts.orderBy(F.desc("rows"), "value").limit(_SHOWN + 1).collect()
    shown = ", ".join(f"{row['value']} ({row['rows']} rows)" for row in worst[:_SHOWN])
    return shown + (", and others" if len(worst) > _SHOWN else "")
