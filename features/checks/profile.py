"""A day's log at a glance, for its validation: what every column holds, and a histogram of each dense feature.

histogram/<dense feature>/*.parquet: bin int64, impressions int64, positives int64; missing values are in no bin.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import reduce

from pyspark.sql import Column, DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from nightjar.features.contract import storage
from nightjar.features.contract.artifact_files import HISTOGRAM, table_folder
from nightjar.features.contract.manifests import ColumnProfile, FileEntry, ProfileManifest
from nightjar.features.contract.outputs import PROFILES, DailyName, log_input
from nightjar.features.contract.publishing import begin, commit, describe_files, is_published, key_of, read_manifest
from nightjar.features.contract.spec import FeatureSpec
from nightjar.features.counts.counting import partial_counts
from nightjar.features.input.days import day_number
from nightjar.features.input.folders import DAY, LogPartition, read_logs
from nightjar.features.input.passes import require_unchanged
from nightjar.features.spark.rows import positive, source, values_of
from nightjar.features.spark.tables import write_days

HISTOGRAM_SCHEMA = "bin bigint, impressions bigint, positives bigint"

# Narrow, so that two of the few values of a column, such as years, never share a bin.
_BINS_PER_OCTAVE = 4096
_SMALLEST = 2.0**-20
_LARGEST = 1.7976931348623157e308


def profile_dir(output: str, spec: FeatureSpec, day: LogPartition) -> str:
    """Where the profile of a day goes."""
    key = key_of(spec=spec.fingerprint, log=day.fingerprint, bins=_BINS_PER_OCTAVE)
    return storage.join(output, PROFILES, str(DailyName(day.date, key)))


def profiles(
    spark: SparkSession, spec: FeatureSpec, output: str, days: Sequence[LogPartition]
) -> dict[str, ProfileManifest]:
    """The profile of every day, by directory, after those that are missing were published: one scan for all."""
    directories = {profile_dir(output, spec, day): day for day in days}
    new = {directory: day for directory, day in directories.items() if not is_published(directory)}
    if new:
        _publish(spark, spec, new)
    return {directory: read_manifest(directory, ProfileManifest) for directory in directories}


def bin_of(value: Column) -> Column:
    """A double's bin, bigint; null for a missing one. 4096 bins an octave of |x| on either side of zero.

    Values below 2^-20 share bin 0. Edges are odd multiples of 1/8192 of an octave, which no integer meets, so that
    the last digit of a logarithm never decides.
    """
    known = F.when(value.isNotNull() & ~F.isnan(value), F.greatest(F.least(value, F.lit(_LARGEST)), F.lit(-_LARGEST)))
    octaves = F.log2(F.abs(known)) - math.log2(_SMALLEST)
    steps = F.floor(octaves * _BINS_PER_OCTAVE + 0.5) + 1
    return F.when(F.abs(known) < _SMALLEST, 0).otherwise(F.signum(known) * steps).cast("bigint")


def bin_edges(number: int) -> tuple[float, float]:
    """The least and the largest double of a bin, as far as rounding goes: the inverse of `bin_of`."""
    if number == 0:
        return -_SMALLEST, _SMALLEST
    octaves = (max((abs(number) + step) / _BINS_PER_OCTAVE, 0.0) + math.log2(_SMALLEST) for step in (-1.5, -0.5))
    near, far = (2.0**octave if octave < 1024.0 else _LARGEST for octave in octaves)
    return (near, far) if number > 0 else (-far, -near)


def _publish(spark: SparkSession, spec: FeatureSpec, days: Mapping[str, LogPartition]) -> None:
    raws = read_logs(spark, list(days.values()))
    columns = dict(_columns(spec))
    directories = {day_number(day.date): directory for directory, day in days.items()}
    most = {day_number(day.date): day.rows for day in days.values()}
    for directory in days:
        begin(directory)

    def summarized() -> dict[int, Row]:
        summary = reduce(DataFrame.unionAll, [raw.select(DAY, *_prepared(columns)) for raw in raws])
        return {row[DAY]: row for row in summary.groupBy(DAY).agg(*_aggregates(columns)).collect()}

    def write_histograms() -> dict[str, list[FileEntry]]:
        if not spec.dense:
            return {directory: [] for directory in days}
        bins = [bin_of(source(feature.source).cast("double")).alias(feature.name) for feature in spec.dense]
        columns = [F.col(DAY).alias("day"), positive(spec).alias("positive"), *bins]
        rows = reduce(DataFrame.unionAll, [raw.select(*columns) for raw in raws])
        folders = {table_folder(HISTOGRAM, feature.name): most for feature in spec.dense}
        counts = partial_counts(rows, "bigint").withColumnRenamed("value", "bin")
        return write_days(counts, directories, folders, key="bin")

    with ThreadPoolExecutor(2) as pool:
        summary, histograms = pool.submit(summarized), pool.submit(write_histograms)
        by_day, written = summary.result(), histograms.result()
    require_unchanged(list(days.values()))
    for directory, day in days.items():
        manifest = ProfileManifest(
            inputs={log_input(day.date): day.fingerprint},
            files=describe_files(directory, written[directory]),
            spec_fingerprint=spec.fingerprint,
            date=day.date,
            columns={name: _profile(by_day[day_number(day.date)], n) for n, name in enumerate(columns)},
        )
        commit(directory, manifest)


def _columns(spec: FeatureSpec) -> Iterator[tuple[str, Column]]:
    """Every column that the spec reads, but the timestamp, with the number of values that a row of it holds."""
    names = [name for name in (*spec.source_columns(), *spec.derived_sources()) if name != spec.timestamp]
    present = {name: source(name).isNotNull().cast("int") for name in names}
    for field in spec.fields:
        if field.multi_valued:
            present[field.source] = F.coalesce(F.size(F.array_distinct(values_of(field))), F.lit(0))
    numeric = [field.source for field in spec.fields if field.boundaries] + [feature.source for feature in spec.dense]
    for name in numeric:
        number = source(name).cast("double")
        present[name] = (number.isNotNull() & ~F.isnan(number)).cast("int")
    yield from present.items()


def _prepared(columns: Mapping[str, Column]) -> Iterator[Column]:
    for n, (name, values) in enumerate(columns.items()):
        yield values.alias(f"values:{n}")
        # Half of the hash, so that no sum of fewer than 2^32 rows overflows.
        yield F.shiftright(F.xxhash64(source(name)), 32).alias(f"hash:{n}")


def _aggregates(columns: Mapping[str, Column]) -> Iterator[Column]:
    for n in range(len(columns)):
        values, hashed = F.col(f"values:{n}"), F.col(f"hash:{n}")
        yield F.sum(values).alias(f"values:{n}")
        yield F.count_if(values == 0).alias(f"missing:{n}")
        yield (F.min(hashed) == F.max(hashed)).alias(f"constant:{n}")
        yield F.sum(hashed).alias(f"content:{n}")


def _profile(row: Row, n: int) -> ColumnProfile:
    return ColumnProfile(
        values=row[f"values:{n}"],
        missing=row[f"missing:{n}"],
        constant=row[f"constant:{n}"],
        content=row[f"content:{n}"],
    )
