"""Days of counts merged once and for all: a night reads the roll-up of the days before and its one new day.

rollups/through=D-<key>/
vocabulary/<field>/*.parquet: hash int64, value string, impressions int64 (of all days), admitted int32 (day on which
the minimum count was reached, null as long as it is not), at_admission int64 (impressions through that day), last int32
(day on which it was seen last). A hashed field has none.
cross/<name>/*.parquet, sketch/<name>/*.parquet: the same of features.counts.conjunctions; value is null.
frequency/<name>/*.parquet: key int64, then impressions_<window> and positives_<window> int64 as of the day after D;
with days_since_first_seen also first int32, the first day on which the key was shown.

Every figure is a sum, a minimum or a maximum of integers over days, so that a roll-up has the same bytes whether it is
made from all days or from an earlier roll-up and the days since. The key is a digest of the days' own keys: late data
for a day changes the keys from that day on, and what is found is the last roll-up before it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain

from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from nightjar.features.contract.artifact_files import CROSS, FREQUENCY, SKETCH, VOCABULARY, table_folder
from nightjar.features.contract.manifests import AggregateManifest, FileEntry, RollupManifest
from nightjar.features.contract.publishing import begin, commit, describe_files, is_published, read_manifest
from nightjar.features.contract.spec import FeatureSpec, Frequency
from nightjar.features.counts.aggregate import AT_A_TIME, FREQUENCY_SCHEMA, VOCABULARY_SCHEMA
from nightjar.features.counts.conjunctions import is_sketched
from nightjar.features.counts.point_in_time import (
    changes,
    counts_as_of,
    counts_by_day,
    counts_schema,
    reach,
)
from nightjar.features.input.days import date_of, day_number
from nightjar.features.spark.tables import (
    PART,
    Destination,
    day_of_file,
    dealt,
    read_daily,
    read_table,
    read_tables,
    table_rows,
    write_merged,
)

ADMISSIONS_SCHEMA = f"{VOCABULARY_SCHEMA}, admitted int, at_admission bigint, last int"


@dataclass(frozen=True)
class Rollup:
    """A published roll-up."""

    directory: str
    manifest: RollupManifest

    @property
    def as_of(self) -> int:
        """The day after its last, as of which its counts are: days since 1970-01-01."""
        return day_number(self.manifest.through_date) + 1


@dataclass(frozen=True)
class History:
    """Consecutive days: the newest usable roll-up of the first of them, if any, and daily counts by directory.

    days: those that are not rolled up, and of those that are, the ones that a window still holds.
    """

    days: Mapping[str, AggregateManifest]
    rollup: Rollup | None = None

    @property
    def since(self) -> int:
        """The day as of which everything before is rolled up: days since 1970-01-01."""
        return self.rollup.as_of if self.rollup else day_number(next(iter(self.days.values())).date)

    @property
    def first_date(self) -> str:
        """The first day."""
        return self.rollup.manifest.first_date if self.rollup else next(iter(self.days.values())).date

    @property
    def last(self) -> int:
        """The last day, in days since 1970-01-01."""
        return max([self.since - 1, *(day_number(day.date) for day in self.days.values())])

    @property
    def inputs(self) -> dict[str, str]:
        """What the log of every day was known by."""
        known = dict(self.rollup.manifest.inputs) if self.rollup else {}
        new = self.between(self.since, self.last)
        return known | {name: log for day in new.values() for name, log in day.inputs.items()}

    def rows(self, folder: str) -> int:
        """How many rows the merged table `folder` has at most; a day may be rolled up and enter a window later."""
        rolled_up = {self.rollup.directory: self.rollup.manifest} if self.rollup else {}
        return table_rows(rolled_up, folder) + table_rows(self.days, folder)

    def between(self, first: int, last: int) -> dict[str, AggregateManifest]:
        """The days of a range, both ends included, by directory."""
        return {url: day for url, day in self.days.items() if first <= day_number(day.date) <= last}

    def counts_of(self, spark: SparkSession, frequency: Frequency) -> DataFrame | None:
        """The roll-up's counts of a frequency."""
        if self.rollup is None:
            return None
        schema = f"key bigint, {counts_schema(frequency)}"
        return read_table(spark, self.rollup.directory, self.rollup.manifest, _folder(frequency), schema)


def newest_rollup(directories: Mapping[str, str], before: str) -> Rollup | None:
    """The last published roll-up whose days are all before a date. directories: where they go, by last day."""
    for through in sorted((day for day in directories if day < before), reverse=True):
        if is_published(directories[through]):
            return Rollup(directories[through], read_manifest(directories[through], RollupManifest))
    return None


def days_read(spec: FeatureSpec, first: int, rollup: Rollup | None, last: int) -> set[int]:
    """The days before `last` whose own counts are read, to go on from a roll-up to the counts as of `last`.

    Those since, and those that enter or leave a window in between. Days are since 1970-01-01.

    Args:
        spec: the features.
        first: the history's first day.
        rollup: None if the counts start from nothing.
        last: the day as of which the counts are wanted.
    """
    since = rollup.as_of if rollup else first
    read = set(range(since, last))
    for lag in {lag for frequency in spec.frequencies for lag in reach(frequency)}:
        read |= set(range(since + 1 - lag, last + 1 - lag))
    return {day for day in read if day >= first}


def publish_rollup(spark: SparkSession, spec: FeatureSpec, directory: str, history: History) -> Rollup:
    """Merge and publish all days of a history.

    Args:
        spark: the session.
        spec: the features.
        directory: to publish into.
        history: the days, and the roll-up of the first of them to go on from, if any.
    """
    begin(directory)
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        kinds = _min_counts(spec)
        of_values = pool.map(lambda kind: _write_admissions(spark, kind, kinds[kind], directory, history), kinds)
        frequencies = list(pool.map(lambda f: _write_frequency(spark, f, directory, history), spec.frequencies))
        written = [entry for table in [*chain(*of_values), *frequencies] for entry in table]
    manifest = RollupManifest(
        inputs=history.inputs,
        files=describe_files(directory, written),
        spec_fingerprint=spec.fingerprint,
        first_date=history.first_date,
        through_date=date_of(history.last),
    )
    commit(directory, manifest)
    return Rollup(directory, manifest)


def admissions(counts: DataFrame, min_counts: Sequence[int]) -> DataFrame:
    """Sum the days of every value, and say when it was admitted: on the first on which it had been seen often enough.

    In:  features.spark.tables.dealt rows of table int, day int, hash bigint, value string, impressions bigint,
         admitted int, at_admission bigint, last int: days as they were counted (admitted null, last the day), or one
         row for all the days through `day`. min_counts: by table.
    Out: table, PART, hash, value, impressions, admitted (null: not yet), at_admission, last; one row a value, dealt as
         before.
    """
    so_far = Window.partitionBy("table", PART, "hash").orderBy("day").rowsBetween(Window.unboundedPreceding, 0)
    needed = F.array(*map(F.lit, min_counts))[F.col("table")]
    total = F.sum("impressions").over(so_far)
    return (
        counts.select("*", F.when(total >= needed, F.struct("day", total.alias("total"))).alias("reached"))
        .groupBy("table", PART, "hash")
        .agg(
            F.min("value").alias("value"),
            F.sum("impressions").alias("impressions"),
            F.least(F.min("admitted"), F.min("reached.day")).alias("admitted"),
            # What a roll-up says is never more than its own sum.
            F.least(F.min("at_admission"), F.min("reached.total")).alias("at_admission"),
            F.max("last").alias("last"),
        )
    )


def daily_counts(spark: SparkSession, frequency: Frequency, history: History, first: int, last: int) -> DataFrame:
    """`counts_by_day` of a range of days.

    Args:
        spark: the session.
        frequency: whose counts are wanted.
        history: holds the days; none of them is in its roll-up.
        first: the first day, in days since 1970-01-01.
        last: the last day, included.
    """
    shown = read_daily(spark, history.between(first, last), _folder(frequency), FREQUENCY_SCHEMA)
    changed = _changes(spark, frequency, history, last)
    before = history.counts_of(spark, frequency)
    return counts_by_day(shown, changed, before, history.since, frequency, range(first, last + 1))


def _min_counts(spec: FeatureSpec) -> dict[str, dict[str, int]]:
    """What is counted by hash: by folder, the minimum count of every table. Folders without any are left out."""
    tables = {
        VOCABULARY: {field.name: field.min_count for field in spec.fields if field.kind == "vocabulary"},
        CROSS: {cross.name: cross.min_count for cross in spec.crosses if cross.is_fitted},
        SKETCH: {cross.name: 1 for cross in spec.crosses if is_sketched(cross)},
    }
    return {folder: min_counts for folder, min_counts in tables.items() if min_counts}


def _write_admissions(
    spark: SparkSession, kind: str, min_counts: Mapping[str, int], directory: str, history: History
) -> list[list[FileEntry]]:
    """The tables `kind`/<name>. min_counts: by name."""
    names = list(min_counts)
    new = history.between(history.since, history.last)
    counts = read_tables(spark, new, kind, names, VOCABULARY_SCHEMA)
    counts = counts.withColumn("day", day_of_file()).drop("_metadata")
    counts = counts.withColumn("admitted", F.lit(None).cast("int")).withColumn("last", F.col("day"))
    counts = counts.withColumn("at_admission", F.lit(None).cast("bigint"))
    if history.rollup:
        rolled_up = {history.rollup.directory: history.rollup.manifest}
        earlier = read_tables(spark, rolled_up, kind, names, ADMISSIONS_SCHEMA)
        counts = counts.unionByName(earlier.drop("_metadata").withColumn("day", F.lit(history.since - 1)))
    folders = [table_folder(kind, name) for name in names]
    places = [Destination(directory, folder, history.rows(folder)) for folder in folders]
    merged = admissions(dealt(counts, places, "hash"), list(min_counts.values()))
    return write_merged(merged, places, "hash")


def _write_frequency(spark: SparkSession, frequency: Frequency, directory: str, history: History) -> list[FileEntry]:
    changed = _changes(spark, frequency, history, history.last + 1)
    table = counts_as_of(changed, history.counts_of(spark, frequency), frequency).withColumn("table", F.lit(0))
    places = [Destination(directory, _folder(frequency), history.rows(_folder(frequency)))]
    return write_merged(dealt(table, places, "key"), places, "key")[0]


def _changes(spark: SparkSession, frequency: Frequency, history: History, last: int) -> DataFrame:
    """`changes` that take effect after the roll-up and until `last`."""
    after = [history.between(history.since + 1 - lag, last - lag) for lag in reach(frequency)]
    days = {directory: day for found in after for directory, day in found.items()}
    daily = read_daily(spark, days, _folder(frequency), FREQUENCY_SCHEMA)
    return changes(daily, frequency).where(F.col("day").between(history.since + 1, last))


def _folder(frequency: Frequency) -> str:
    return table_folder(FREQUENCY, frequency.name)
