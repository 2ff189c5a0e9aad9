"""Daily counts to the encoder's fitted state: vocabularies, quantile boundaries, frequency tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import reduce

import numpy as np
from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from features.aggregate import AT_A_TIME, FREQUENCY_SCHEMA, VOCABULARY_SCHEMA
from features.encoder import FIRST_ID, fit_boundaries
from features.logs import LogPartition, day_number, read_logs
from features.manifest import AggregateManifest, FileEntry, StateManifest, begin, commit, describe_files
from features.point_in_time import counts_as_of
from features.spark_rows import row_hash, source
from features.spec import CategoricalField, DenseFeature, FeatureSpec, Frequency
from features.state import FREQUENCY, VOCABULARY
from features.tables import read_daily, table_rows, write_sorted

# Quantiles of up to this many rows are exact; a sample of this size moves a rank by 0.0007 (1 sigma).
SAMPLE_ROWS = 500_000
_BUCKET_BITS = 8
_FLOAT64_MAX = 1.7976931348623157e308


def vocabulary(daily: DataFrame, min_count: int) -> DataFrame:
    """Give ids to the values seen at least `min_count` times.

    In:  day int, hash bigint, value string, impressions bigint.
    Out: hash bigint, id int, value string, impressions bigint (of all days); one row a value with an id.

    A value is admitted on the first day on which its cumulative count reaches `min_count`; ids follow
    (admission day, hash). Later days therefore only append ids, and days may come one by one or at once.
    """
    so_far = Window.partitionBy("hash").orderBy("day").rowsBetween(Window.unboundedPreceding, 0)
    counted = daily.select("*", F.sum("impressions").over(so_far).alias("cumulative"))
    admitted = (
        counted.groupBy("hash")
        .agg(
            F.min("value").alias("value"),
            F.sum("impressions").alias("impressions"),
            F.min(F.when(F.col("cumulative") >= min_count, F.col("day"))).alias("admitted"),
        )
        .where(F.col("admitted").isNotNull())
        .withColumn("bucket", F.shiftright("hash", 64 - _BUCKET_BITS))
    )
    # A global row number without a global sort: hashes are uniform, so their leading bits cut each day into
    # even buckets, in order. Only the table of bucket sizes passes through a single task.
    sizes = admitted.groupBy("admitted", "bucket").agg(F.count(F.lit(1)).alias("size"))
    all_sizes = Window.partitionBy(F.lit(True)).orderBy("admitted", "bucket")
    earlier = all_sizes.rowsBetween(Window.unboundedPreceding, -1)
    starts = sizes.select(
        F.col("admitted").alias("right:admitted"),
        F.col("bucket").alias("right:bucket"),
        F.coalesce(F.sum("size").over(earlier), F.lit(0)).alias("start"),
    )
    matches = (F.col("admitted") == F.col("right:admitted")) & (F.col("bucket") == F.col("right:bucket"))
    within = F.row_number().over(Window.partitionBy("admitted", "bucket").orderBy("hash"))
    return admitted.join(F.broadcast(starts), on=matches, how="inner").select(
        "hash", (F.col("start") + within - 1 + FIRST_ID).cast("int").alias("id"), "value", "impressions"
    )


def quantile_boundaries(
    spark: SparkSession, spec: FeatureSpec, partitions: Sequence[LogPartition], sample_rows: int = SAMPLE_ROWS
) -> dict[str, tuple[float, ...]]:
    """Boundaries of each `quantile` feature over these days: n_q - 1 quantiles each, missing values left out.

    Exact (interpolated) up to `sample_rows` rows; of a larger log, of the rows whose hash is a multiple of m,
    about `sample_rows` of them. Neither depends on how Spark partitions the log.
    """
    features = [feature for feature in spec.dense if feature.transform == "quantile"]
    if not features:
        return {}
    one_in = -(-sum(partition.rows for partition in partitions) // sample_rows)
    sampled = F.pmod(row_hash(spec), F.lit(one_in)) == 0
    known = [_known(feature).alias(feature.name) for feature in features]
    tables = [raw.where(sampled) if one_in > 1 else raw for raw in read_logs(spark, partitions)]
    rows = reduce(DataFrame.unionAll, [table.select(*known) for table in tables])
    fitted = rows.agg(*(_interior_quantiles(feature).alias(feature.name) for feature in features)).first()
    assert fitted is not None
    return {
        feature.name: tuple(fit_boundaries(_quantiles_of(fitted[feature.name], feature)).tolist())
        for feature in features
    }


def publish_state(
    spark: SparkSession,
    spec: FeatureSpec,
    directory: str,
    aggregates: Mapping[str, AggregateManifest],
    quantile_days: Sequence[LogPartition],
) -> None:
    """Fit and publish. aggregates: of the consecutive days from the history's start on, by directory."""
    dates = [manifest.date for manifest in aggregates.values()]
    boundaries = quantile_boundaries(spark, spec, quantile_days)
    begin(directory)

    def write_vocabulary(field: CategoricalField) -> list[FileEntry]:
        folder = f"{VOCABULARY}/{field.name}"
        table = vocabulary(read_daily(spark, aggregates, folder, VOCABULARY_SCHEMA), field.min_count)
        return write_sorted(table, directory, folder, key="hash", rows=table_rows(aggregates, folder))

    def write_frequency(frequency: Frequency) -> list[FileEntry]:
        folder = f"{FREQUENCY}/{frequency.name}"
        daily = read_daily(spark, aggregates, folder, FREQUENCY_SCHEMA)
        table = counts_as_of(daily, frequency, day_number(dates[-1]) + 1)
        return write_sorted(table, directory, folder, key="key", rows=table_rows(aggregates, folder))

    with ThreadPoolExecutor(AT_A_TIME) as pool:
        vocabularies = list(pool.map(write_vocabulary, spec.fields))
        frequencies = list(pool.map(write_frequency, spec.frequencies))
    written = [entry for table in vocabularies + frequencies for entry in table]
    manifest = StateManifest(
        inputs={f"logs/date={day}": checksum for a in aggregates.values() for day, checksum in [_log_of(a)]}
        | {f"quantiles/date={partition.date}": partition.fingerprint for partition in quantile_days},
        files=describe_files(directory, written),
        spec=spec,
        spec_fingerprint=spec.fingerprint,
        first_date=dates[0],
        through_date=dates[-1],
        vocabulary_sizes={
            field.name: FIRST_ID + sum(entry.rows or 0 for entry in table)
            for field, table in zip(spec.fields, vocabularies, strict=True)
        },
        boundaries=boundaries,
    )
    commit(directory, manifest)


def _quantiles_of(fitted: list[float] | None, feature: DenseFeature) -> np.ndarray:
    """NaN for a feature without any value, of which Spark's percentile is null."""
    return np.array(fitted) if fitted else np.full(feature.quantiles - 1, np.nan)


def _known(feature: DenseFeature) -> Column:
    """The value as double, null if missing; infinities pulled in, because the quantiles are interpolated."""
    value = source(feature.source).cast("double")
    bounded = F.greatest(F.least(value, F.lit(_FLOAT64_MAX)), F.lit(-_FLOAT64_MAX))
    return F.when(value.isNotNull() & ~F.isnan(value), bounded)


def _interior_quantiles(feature: DenseFeature) -> Column:
    ranks = [i / feature.quantiles for i in range(1, feature.quantiles)]
    return F.percentile(feature.name, ranks)


def _log_of(aggregate: AggregateManifest) -> tuple[str, str]:
    return aggregate.date, aggregate.inputs[f"logs/date={aggregate.date}"]
