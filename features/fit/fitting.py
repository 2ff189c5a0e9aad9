"""Rolled-up counts to the encoder's fitted state: vocabularies, quantile boundaries, frequency tables."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import numpy as np
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from nightjar.features.contract import storage
from nightjar.features.contract.artifact_files import FREQUENCY
from nightjar.features.contract.manifests import StateManifest
from nightjar.features.contract.outputs import date_folder
from nightjar.features.contract.publishing import begin, commit, describe_files
from nightjar.features.contract.spec import DenseFeature, FeatureSpec
from nightjar.features.contract.verified import verify_files
from nightjar.features.counts.rollup import History
from nightjar.features.encoder.dense import fit_boundaries
from nightjar.features.fit.ids import Ids
from nightjar.features.fit.moments import fit_moments
from nightjar.features.input.folders import LogPartition, read_logs
from nightjar.features.input.passes import require_unchanged
from nightjar.features.spark.equal_rows import with_unique_hashes
from nightjar.features.spark.rows import ROW_HASH, row_hash, source

# Quantiles of up to this many rows are exact; a sample of this size moves a rank by 0.0007 (1 sigma).
SAMPLE_ROWS = 500_000
_FLOAT64_MAX = 1.7976931348623157e308


def quantile_boundaries(
    spark: SparkSession, spec: FeatureSpec, partitions: Sequence[LogPartition], sample_rows: int = SAMPLE_ROWS
) -> dict[str, tuple[float, ...]]:
    """Boundaries of each `quantile` feature: n_q - 1 quantiles each, missing values left out.

    Args:
        spark: the session.
        spec: the features.
        partitions: the days whose rows they are of.
        sample_rows: how many rows are looked at, about.

    Exact (interpolated) up to `sample_rows` rows; of a larger log, of the rows whose hash, after
    `with_unique_hashes`, is a multiple of m, about `sample_rows` of them. Neither depends on how Spark partitions the
    log.
    """
    features = [feature for feature in spec.dense if feature.transform == "quantile"]
    if not features:
        return {}
    one_in = -(-sum(partition.rows for partition in partitions) // sample_rows)
    known = [_known(feature).alias(feature.name) for feature in features]
    hashes = [row_hash(spec).alias(ROW_HASH)] if one_in > 1 else []
    rows = reduce(DataFrame.unionAll, [raw.select(*hashes, *known) for raw in read_logs(spark, partitions)])
    if one_in > 1:
        rows = with_unique_hashes(rows).where(F.pmod(ROW_HASH, F.lit(one_in)) == 0)
    fitted = rows.agg(*(_interior_quantiles(feature).alias(feature.name) for feature in features)).first()
    assert fitted is not None
    return {
        feature.name: tuple(fit_boundaries(_quantiles_of(fitted[feature.name], feature)).tolist())
        for feature in features
    }


def publish_state(
    spark: SparkSession, spec: FeatureSpec, directory: str, history: History, quantile_days: Sequence[LogPartition]
) -> None:
    """Fit and publish the encoder's state.

    Args:
        spark: the session.
        spec: the features.
        directory: to publish into.
        history: with the roll-up of all its days.
        quantile_days: the training window, whose rows quantiles and moments are of.
    """
    rollup = history.rollup
    assert rollup is not None
    boundaries = quantile_boundaries(spark, spec, quantile_days)
    moments = fit_moments(spark, spec, quantile_days)
    begin(directory)
    ids = Ids(spark, spec, directory=directory, rollup=rollup)
    fields, crosses = ids.write_fields(), ids.write_crosses()
    frequencies = [entry for entry in rollup.manifest.files if entry.path.startswith(f"{FREQUENCY}/")]
    verify_files(rollup.directory, frequencies)
    for entry in frequencies:
        storage.copy(storage.join(rollup.directory, entry.path), storage.join(directory, entry.path))
    written = [entry for table in (*fields.values(), *crosses.values()) for entry in table.files] + frequencies
    manifest = StateManifest(
        inputs=dict(rollup.manifest.inputs)
        | {f"quantiles/{date_folder(partition.date)}": partition.fingerprint for partition in quantile_days},
        files=describe_files(directory, written),
        spec=spec,
        spec_fingerprint=spec.fingerprint,
        first_date=rollup.manifest.first_date,
        through_date=rollup.manifest.through_date,
        vocabulary_sizes={
            field.name: field.first_id + (fields[field.name].given if field.name in fields else 0)
            for field in spec.fields
        },
        cross_sizes={
            cross.name: cross.first_id + crosses[cross.name].given
            for cross in spec.crosses
            if cross.vocabulary == "exact"
        },
        field_figures=ids.field_figures(fields),
        cross_figures=ids.cross_figures(crosses),
        boundaries=boundaries,
        moments={name: (of.mean, of.deviation) for name, of in moments.items()},
    )
    require_unchanged(quantile_days)
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
