"""Days of logs to daily counts: how often each value of a field and each frequency key was shown.

vocabulary/<field>/*.parquet: hash int64, value string, impressions int64 (rows that hold the value), positives int64.
frequency/<name>/*.parquet: key int64, impressions int64, positives int64.
cross/<name>/*.parquet, sketch/<name>/*.parquet: see features.counts.conjunctions.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import reduce

import pyarrow as pa
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from nightjar.features.contract import storage
from nightjar.features.contract.artifact_files import CROSS, FREQUENCY, SKETCH, VOCABULARY, part_file, table_folder
from nightjar.features.contract.categorical import AdmitByPoisson
from nightjar.features.contract.errors import DataError
from nightjar.features.contract.manifests import AggregateManifest, FileEntry
from nightjar.features.contract.outputs import log_input
from nightjar.features.contract.publishing import begin, commit, describe_files
from nightjar.features.contract.spec import FeatureSpec
from nightjar.features.counts.conjunctions import (
    counted_conjunctions,
    is_sketched,
    sketched_conjunctions,
)
from nightjar.features.counts.counting import partial_counts
from nightjar.features.encoder.admission import RANK_BITS, SKETCH_REGISTERS
from nightjar.features.input.bad_rows import REASON, ValueRule, examples, too_many, value_rules, write_quarantine
from nightjar.features.input.config import BadRowLimits
from nightjar.features.input.days import day_number
from nightjar.features.input.folders import DAY, LogPartition, day_of, read_all_rows, read_logs
from nightjar.features.input.passes import Pass, RowCount, require_unchanged
from nightjar.features.input.sides.join import WITHOUT, require_one_row_a_key, unmatched_of
from nightjar.features.spark.equal_rows import with_unique_hashes
from nightjar.features.spark.rows import (
    LABEL,
    ROW_HASH,
    hash_value,
    hashed,
    keys_of,
    label_of,
    positive,
    row_hash,
    source,
    value_of,
    values_of,
)
from nightjar.features.spark.tables import write_arrow, write_days

log = logging.getLogger(__name__)

VOCABULARY_SCHEMA = "hash bigint, value string, impressions bigint"
LABELLED_SCHEMA = f"{VOCABULARY_SCHEMA}, positives bigint"
FREQUENCY_SCHEMA = "key bigint, impressions bigint, positives bigint"

_VOCABULARY = pa.schema({"hash": pa.int64(), "value": pa.string(), "impressions": pa.int64(), "positives": pa.int64()})
_FREQUENCY = pa.schema({"key": pa.int64(), "impressions": pa.int64(), "positives": pa.int64()})
_CONJUNCTIONS = pa.schema({"hash": pa.int64(), "impressions": pa.int64()})

# Jobs that run side by side, so that the end of one does not leave processors idle.
AT_A_TIME = 4
# Many small days are counted in one pass; a large one has a pass of its own.
_ROWS_PER_PASS = 5_000_000
_SHOWN = 10
_REASONS = tuple(name for name in BadRowLimits.model_fields if name != "any")


@dataclass(frozen=True)
class Totals:
    """Rows and positives of one day. misdated: rows in its folder whose timestamp is of another day. left_out: rows
    that are none of `rows`, by reason. unmatched: rows whose key a side table does not have, by its name.
    """

    rows: int
    positives: int
    misdated: int
    left_out: Mapping[str, int] = field(default_factory=dict)
    unmatched: Mapping[str, int] = field(default_factory=dict)


def vocabulary_counts(raws: Sequence[DataFrame], spec: FeatureSpec) -> DataFrame:
    """In: raw rows and DAY. Out: table int (position of the field), day int, LABELLED_SCHEMA: partial counts."""
    values = [F.array_distinct(values_of(field)) if field.multi_valued else value_of(field) for field in spec.fields]
    columns = [F.col(DAY).alias("day"), positive(spec).alias("positive"), *_numbered(values)]
    counts = partial_counts(reduce(DataFrame.unionAll, [raw.select(*columns) for raw in raws]), "string")
    hashed_value = hash_value(F.col("value")).alias("hash")
    return counts.select("table", "day", hashed_value, "value", "impressions", "positives")


def key_counts(rows: DataFrame, keys: Sequence[Column]) -> DataFrame:
    """In: a hashed table; keys: bigint or array<bigint>. Out: table int (position of the keys), day int,
    FREQUENCY_SCHEMA: partial counts.
    """
    columns = [F.col(DAY).alias("day"), F.col(LABEL).cast("bigint").alias("positive"), *_numbered(keys)]
    return partial_counts(rows.select(*columns), "bigint not null").withColumnRenamed("value", "key")


def _numbered(columns: Sequence[Column]) -> list[Column]:
    return [column.alias(f"table:{n}") for n, column in enumerate(columns)]


def check_values(spark: SparkSession, spec: FeatureSpec, partitions: Sequence[LogPartition]) -> dict[str, Totals]:
    """Rows and positives of each day, by date, after a look at every label, timestamp, weight and truth.

    A row belongs to its folder's day: one whose timestamp is of another is counted and told, and kept. Of text files
    every column that the spec reads is converted here, so that a malformed row ends the build before it has begun.
    Rows that cannot be used are counted by reason where the input leaves them out. Raises one DataError that lists the
    values that cannot be used, with their counts, or the days with more of them than may be left out.
    """
    if not partitions:
        return {}
    require_one_row_a_key(spark, {one for day in partitions for one in day.sides}, max(day.date for day in partitions))
    by_day = {row[DAY]: row for row in _looked_at(spark, spec, partitions).collect()}
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
        left_out = {name: row[name] for name in _REASONS if row[name]} if partition.leaves_out else {}
        kept = row["rows"] - sum(left_out.values())
        unmatched = unmatched_of(partition.sides, row, f"date {partition.date}")
        totals[partition.date] = Totals(kept, row["positives"], row["misdated"], left_out, unmatched)
        if row["misdated"]:
            log.warning("date %s: %d rows have the timestamp of another day", partition.date, row["misdated"])
        if partition.leaves_out:
            problems += _left_out_problems(spark, partition, row["rows"], left_out)
            continue
        for n, rule in enumerate(value_rules(spec)):
            # The rule after it finds missing labels beside those that are out of range.
            if row[f"bad:{n}"] and rule.reason != "null_label":
                values = _bad_values(read_logs(spark, [partition])[0], rule)
                problems.append(
                    f"  date {partition.date}: {rule.role} {rule.name!r} must {rule.wanted}; found {values}"
                )
    if problems:
        raise DataError(
            f"the logs hold values that cannot be used ({len(problems)} problem(s)):\n"
            + "\n".join(problems)
            + "\nCorrect or leave out those rows; nothing was published."
        )
    return totals


def _looked_at(spark: SparkSession, spec: FeatureSpec, partitions: Sequence[LogPartition]) -> DataFrame:
    """By DAY: rows, positives and misdated ones of those that can be used, bad values by rule, bad rows by reason."""
    rules = list(value_rules(spec))
    text = any(partition.input.is_text for partition in partitions)
    used = F.col(REASON).isNull() if partitions[0].leaves_out else F.lit(True)
    sides = dict.fromkeys(WITHOUT + joined.side.name for partition in partitions for joined in partition.sides)
    checked = [
        raw.select(
            DAY,
            REASON,
            (used & (label_of(spec) == 1)).alias("positive"),
            (used & (day_of(spec.timestamp) != F.col(DAY))).alias("misdated"),
            (row_hash(spec) if text else F.lit(0)).alias("touched"),
            *(F.coalesce(rule.bad, F.lit(True)).alias(f"bad:{n}") for n, rule in enumerate(rules)),
            *((used & source(name)).alias(name) for name in sides),
        )
        for raw in read_all_rows(spark, partitions)
    ]
    return (
        reduce(DataFrame.unionAll, checked)
        .groupBy(DAY)
        .agg(
            F.count(F.lit(1)).alias("rows"),
            F.count_if("positive").alias("positives"),
            F.count_if("misdated").alias("misdated"),
            F.max("touched"),
            *(F.count_if(f"bad:{n}").alias(f"bad:{n}") for n in range(len(rules))),
            *(F.count_if(F.col(REASON) == name).alias(name) for name in _REASONS),
            *(F.count_if(source(name)).alias(name) for name in sides),
        )
    )


def _left_out_problems(
    spark: SparkSession, partition: LogPartition, rows: int, left_out: Mapping[str, int]
) -> Iterator[str]:
    problem = too_many(rows, left_out, partition.input.bad_rows_at_most)
    if not problem and sum(left_out.values()) == rows:
        problem = f"none of its {rows} rows can be used ({', '.join(left_out)})"
    if problem:
        yield f"  date {partition.date}: {problem}{examples(read_all_rows(spark, [partition])[0])}"
    elif left_out:
        log.warning("date %s: left out %d of %d rows: %s", partition.date, sum(left_out.values()), rows, left_out)


def refuse_left_out(days: Sequence[LogPartition], aggregates: Mapping[str, AggregateManifest]) -> None:
    """Raises DataError if more rows were left out of a day than the config allows by now. aggregates: by directory."""
    manifests = {manifest.date: manifest for manifest in aggregates.values()}
    problems = []
    for day in days:
        counts = manifests[day.date]
        rows = counts.rows + sum(counts.left_out.values())
        if problem := too_many(rows, counts.left_out, day.input.bad_rows_at_most):
            problems.append(f"  date {day.date}: {problem}")
    if problems:
        raise DataError(
            "more rows were left out of the logs than may be:\n"
            + "\n".join(problems)
            + "\nCorrect the logs, or raise the bound. The quarantine of each day's aggregate holds the rows."
        )


def publish_aggregates(spark: SparkSession, spec: FeatureSpec, days: Mapping[str, tuple[LogPartition, Totals]]) -> None:
    """Count and publish several days. days: the day's log and totals, by the directory to publish into."""
    for batch in _passes(days):
        directories = {day_number(days[directory][0].date): directory for directory in batch}
        partitions = [days[directory][0] for directory in batch]
        log.info("counting %s (%d days)", ", ".join(p.date for p in partitions[:3]), len(partitions))
        for directory in batch:
            begin(directory)
        most = {day_number(days[directory][0].date): days[directory][1].rows for directory in batch}
        totals_of = {days[directory][0].date: days[directory][1] for directory in batch}
        counted = {day: RowCount(totals.rows, totals.positives) for day, totals in totals_of.items()}
        passes = [Pass(spark, spec, partitions, counted) for _ in range(3)]
        tables = _tables(read_logs(spark, partitions), spec, most, passes)
        with ThreadPoolExecutor(AT_A_TIME) as pool:
            writes = [pool.submit(write_days, counts, directories, folders, key) for counts, folders, key in tables]
            written = [write.result() for write in writes]
        written.append(_quarantined(spark, {directory: days[directory] for directory in batch}))
        for read in passes:
            read.require_all("counting has read")
        require_unchanged(partitions)
        for directory in batch:
            partition, totals = days[directory]
            entries = [entry for tables in written for entry in tables.get(directory, ())]
            manifest = AggregateManifest(
                inputs={log_input(partition.date): partition.fingerprint},
                files=describe_files(directory, entries),
                spec_fingerprint=spec.fingerprint,
                date=partition.date,
                rows=totals.rows,
                positives=totals.positives,
                misdated=totals.misdated,
                left_out=totals.left_out,
                unmatched=totals.unmatched,
            )
            commit(directory, manifest)


def publish_without_rows(spec: FeatureSpec, directory: str, partition: LogPartition) -> None:
    """Publish the counts of a day without a log or without traffic: tables without rows."""
    begin(directory)
    for kind, names, schema in (
        (VOCABULARY, [each.name for each in spec.fields], _VOCABULARY),
        (FREQUENCY, [frequency.name for frequency in spec.frequencies], _FREQUENCY),
        (CROSS, [cross.name for cross in spec.crosses if cross.is_fitted], _CONJUNCTIONS),
        (SKETCH, [cross.name for cross in spec.crosses if is_sketched(cross)], _CONJUNCTIONS),
    ):
        for name in names:
            write_arrow(schema.empty_table(), storage.join(directory, part_file(table_folder(kind, name), 0)))
    entries = [entry.model_copy(update={"rows": 0}) for entry in describe_files(directory)]
    manifest = AggregateManifest(
        inputs={log_input(partition.date): partition.fingerprint},
        files=tuple(entries),
        spec_fingerprint=spec.fingerprint,
        date=partition.date,
        rows=0,
        positives=0,
    )
    commit(directory, manifest)


def _quarantined(spark: SparkSession, days: Mapping[str, tuple[LogPartition, Totals]]) -> dict[str, list[FileEntry]]:
    """Keep the rows that are left out, of the days that have such; no pass over the others. days: by directory."""
    directories = {day_number(day.date): directory for directory, (day, totals) in days.items() if totals.left_out}
    if not directories:
        return {}
    most = {number: sum(days[directory][1].left_out.values()) for number, directory in directories.items()}
    partitions = [days[directory][0] for directory in directories.values()]
    return write_quarantine(read_all_rows(spark, partitions), directories, most)


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


def _tables(
    raws: Sequence[DataFrame], spec: FeatureSpec, most: Mapping[int, int], passes: Sequence[Pass]
) -> Iterator[tuple[DataFrame, dict[str, Mapping[int, int]], str]]:
    """Arguments of `write_days` for every kind of table, each of them one pass over the rows.

    Args:
        raws: of all days.
        spec: the features.
        most: rows by day.
        passes: as many as there are kinds.
    """
    of_values, of_keys, of_conjunctions = passes
    label = F.col(LABEL)
    rows = reduce(DataFrame.unionAll, [hashed(raw, spec) for raw in raws])
    if spec.fields:
        yield (
            vocabulary_counts([of_values.through(raw, positive(spec)) for raw in raws], spec),
            {table_folder(VOCABULARY, field.name): most for field in spec.fields},
            "hash",
        )
    if spec.frequencies:
        counts = key_counts(
            of_keys.through(rows, label), [keys_of(frequency.keys, spec) for frequency in spec.frequencies]
        )
        yield counts, {table_folder(FREQUENCY, frequency.name): most for frequency in spec.frequencies}, "key"
    if spec.crosses:
        counted = [cross for cross in spec.crosses if cross.is_fitted]
        sketched = [cross for cross in spec.crosses if is_sketched(cross)]
        conjunctions = [counted_conjunctions(cross, spec) for cross in counted]
        conjunctions += [sketched_conjunctions(cross, spec) for cross in sketched]
        if any(isinstance(cross.admission, AdmitByPoisson) for cross in spec.crosses):
            sides = dict.fromkeys(f"h:{name}" for cross in spec.crosses for name in cross.fields)
            rows = with_unique_hashes(rows.select(ROW_HASH, DAY, LABEL, *sides))
        counts = (
            key_counts(of_conjunctions.through(rows, label), conjunctions)
            .drop("positives")
            .withColumnRenamed("key", "hash")
        )
        pairs = dict.fromkeys(most, SKETCH_REGISTERS << RANK_BITS)
        folders = {table_folder(CROSS, cross.name): most for cross in counted}
        yield counts, folders | {table_folder(SKETCH, cross.name): pairs for cross in sketched}, "hash"


def _bad_values(raw: DataFrame, rule: ValueRule) -> str:
    value = F.coalesce(rule.value.cast("string"), F.lit("null")).alias("value")
    counts = raw.where(F.coalesce(rule.bad, F.lit(True))).groupBy(value).agg(F.count(F.lit(1)).alias("rows"))
    worst = counts.orderBy(F.desc("rows"), "value").limit(_SHOWN + 1).collect()
    shown = ", ".join(f"{row['value']} ({row['rows']} rows)" for row in worst[:_SHOWN])
    return shown + (", and others" if len(worst) > _SHOWN else "")
