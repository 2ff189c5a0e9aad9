"""A day's features summarised, from daily counts, profiles and the encoder's state: no look at the log itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from nightjar.features.checks.checks import features_of
from nightjar.features.checks.profile import HISTOGRAM_SCHEMA, bin_edges, profiles
from nightjar.features.checks.rates import key_rates
from nightjar.features.checks.tally import EVERYTHING, Tally, tallies
from nightjar.features.checks.validation import reference_days
from nightjar.features.contract import storage
from nightjar.features.contract.artifact_files import HISTOGRAM, VOCABULARY, table_folder
from nightjar.features.contract.manifests import AggregateManifest, Manifest, ProfileManifest, StateManifest
from nightjar.features.contract.outputs import SUMMARIES, DailyName, log_input
from nightjar.features.contract.publishing import begin, commit, is_published, key_of, manifest_digest, read_manifest
from nightjar.features.contract.spec import CategoricalField, DenseFeature
from nightjar.features.contract.summary import (
    Bucket,
    DenseSummary,
    FieldSummary,
    Range,
    SummaryManifest,
    Value,
)
from nightjar.features.counts.aggregate import LABELLED_SCHEMA, VOCABULARY_SCHEMA
from nightjar.features.dataset.build import counted, fit
from nightjar.features.dataset.plan import BuildPlan
from nightjar.features.input.damage import damage_reported
from nightjar.features.input.folders import LogPartition
from nightjar.features.spark.tables import day_of_file, read_tables, table_rows

TOP = 12
RANGES = 12
# A feature with more rows in its histograms is shown by wider bins: what comes back to the driver stays small.
_MOST_BINS = 20_000
_WIDE = 128


@dataclass(frozen=True)
class Summary:
    """The hold-out day of a plan, summarised beside the days before it."""

    plan: BuildPlan
    reference_days: int

    @property
    def directory(self) -> str:
        """Where it goes."""
        state = storage.name_of(self.plan.built.state_dir)
        key = key_of(state=state, logs=[day.fingerprint for day in self._days])
        return storage.join(self.plan.output, SUMMARIES, str(DailyName(self._days[-1].date, key)))

    @property
    def _days(self) -> list[LogPartition]:
        reference = reference_days(self.plan.history, self.reference_days)
        return [*reference, *([self.plan.holdout] if self.plan.holdout else [])]

    def run(self, spark: Callable[[], SparkSession]) -> None:
        """Publish it, after what it is made from: daily counts, profiles and the state."""
        if is_published(self.directory):
            return
        with damage_reported():
            made = _Ingredients.of(spark(), self.plan, self._days)
            begin(self.directory)
            commit(self.directory, made.summary())


@dataclass(frozen=True)
class _Ingredients:
    """What is published of the days. aggregates, profiled: by directory, in the order of the days."""

    spark: SparkSession
    plan: BuildPlan
    days: Sequence[LogPartition]
    aggregates: Mapping[str, AggregateManifest]
    profiled: Mapping[str, ProfileManifest]
    state: StateManifest

    @classmethod
    def of(cls, spark: SparkSession, plan: BuildPlan, days: Sequence[LogPartition]) -> _Ingredients:
        aggregates = fit(spark, plan, days)
        of_days = {d: aggregates[d] for d in (plan.aggregate_dirs[day.date] for day in days)}
        days = counted(days, of_days)
        profiled = profiles(spark, plan.spec, plan.output, days)
        return cls(spark, plan, days, of_days, profiled, read_manifest(plan.built.state_dir, StateManifest))

    def summary(self) -> SummaryManifest:
        spec, state_dir = self.plan.spec, self.plan.built.state_dir
        found = tallies(
            self._counts(),
            [day.date for day in self.days],
            np.array([self._of_days(feature, "values") for feature in features_of(spec)]),
            [TOP] * len(spec.fields) + [EVERYTHING] * len(spec.dense),
        )
        of_fields, of_dense = found[: len(spec.fields)], found[len(spec.fields) :]
        names = self._names(of_fields)
        newest = dict([list(self.aggregates.items())[-1]])
        return SummaryManifest(
            inputs={log_input(day.date): day.fingerprint for day in self.days},
            files=(),
            date=self.days[-1].date,
            days=tuple(day.date for day in self.days),
            rows=tuple(day.rows for day in self.days),
            positives=tuple(manifest.positives for manifest in self.aggregates.values()),
            state=manifest_digest(state_dir),
            spec=spec,
            fields={
                field.name: self._field(field, tally, names)
                for field, tally in zip(spec.fields, of_fields, strict=True)
            },
            dense={
                feature.name: self._dense(feature, tally) for feature, tally in zip(spec.dense, of_dense, strict=True)
            },
            frequencies=tuple(key_rates(self.spark, spec, state_dir, newest)),
            field_figures=self.state.field_figures,
            cross_figures=self.state.cross_figures,
        )

    def _counts(self) -> DataFrame:
        """What `tallies` takes: fields by value, then dense features by bin."""
        fields, dense = ([feature.name for feature in of] for of in (self.plan.spec.fields, self.plan.spec.dense))
        counts = ("impressions", "positives")
        shown = self._read(self.aggregates, VOCABULARY, fields, LABELLED_SCHEMA)
        parts = [shown.select("table", day_of_file(), "hash", F.lit(False), *counts)]
        if any(field.kind == "vocabulary" for field in self.plan.spec.fields):
            ids = self._read({self.plan.built.state_dir: self.state}, VOCABULARY, fields, "hash bigint")
            nothing = F.lit(0).cast("bigint")
            parts.append(ids.select("table", F.lit(None).cast("int"), "hash", F.lit(True), nothing, nothing))
        if dense:
            bins = self._read(self.profiled, HISTOGRAM, dense, HISTOGRAM_SCHEMA)
            widths = F.array(*(F.lit(self._width(feature)) for feature in self.plan.spec.dense))[F.col("table")]
            bin_ = (F.signum("bin") * F.ceil(F.abs("bin") / widths)).cast("bigint")
            parts.append(bins.select(F.col("table") + len(fields), day_of_file(), bin_, F.lit(False), *counts))
        return reduce(DataFrame.unionAll, parts).toDF("feature", "day", "value", "known", *counts)

    def _read(self, directories: Mapping[str, Manifest], folder: str, names: Sequence[str], schema: str) -> DataFrame:
        return read_tables(self.spark, directories, folder, names, schema)

    def _width(self, feature: DenseFeature) -> int:
        """How many bins of its histograms are one here."""
        rows = table_rows(self.profiled, table_folder(HISTOGRAM, feature.name))
        return _WIDE if rows > _MOST_BINS else 1

    def _of_days(self, feature: CategoricalField | DenseFeature, what: str) -> tuple[int, ...]:
        """`values` or `missing` of the feature's column, by day."""
        return tuple(getattr(profile.columns[feature.source], what) for profile in self.profiled.values())

    def _names(self, found: Sequence[Tally]) -> dict[tuple[int, int], str]:
        """The values behind hashes, by the field's position and the hash."""
        wanted = [value for tally in found for value in tally.values.tolist()]
        shown = self._read(
            self.aggregates, VOCABULARY, [field.name for field in self.plan.spec.fields], VOCABULARY_SCHEMA
        )
        named = shown.where(F.col("hash").isin(wanted)).groupBy("table", "hash").agg(F.min("value").alias("value"))
        return {(row["table"], row["hash"]): row["value"] for row in named.collect()}

    def _field(self, field: CategoricalField, tally: Tally, names: Mapping[tuple[int, int], str]) -> FieldSummary:
        values = self._of_days(field, "values")
        folder, number = table_folder(VOCABULARY, field.name), self.plan.spec.fields.index(field)
        ids = table_rows({folder: self.state}, folder) if field.kind == "vocabulary" else None
        return FieldSummary(
            values=values,
            missing=self._of_days(field, "missing"),
            distinct=tuple(table_rows({d: manifest}, folder) for d, manifest in self.aggregates.items()),
            ids=ids,
            known=values[-1] if ids is None else int(tally.counts[tally.known, -2].sum() + tally.rest[1, -2]),
            top=tuple(
                Value(
                    value=names[number, value],
                    known=known or ids is None,
                    impressions=tuple(shown),
                    positives=positives,
                )
                for value, known, (*shown, positives) in zip(
                    tally.values.tolist(), tally.known.tolist(), tally.counts.tolist(), strict=True
                )
            ),
            rest=_bucket(tally.rest),
        )

    def _dense(self, feature: DenseFeature, tally: Tally) -> DenseSummary:
        values, missing = self._of_days(feature, "values"), self._of_days(feature, "missing")
        return DenseSummary(values=values, missing=missing, ranges=_ranges(tally, self._width(feature)))


def _bucket(counts: np.ndarray) -> Bucket:
    *shown, positives = counts.sum(axis=0).tolist()
    return Bucket(impressions=tuple(shown), positives=positives)


def _ranges(tally: Tally, width: int = 1) -> tuple[Range, ...]:
    """Bins put together to at most RANGES ranges of equal weight over all days; a heavy bin is a range of its own.

    width: how many bins of a histogram one of the tally is.
    """
    order = np.argsort(tally.values)
    bins, counts = tally.values[order], tally.counts[order]
    weights = counts[:, :-1].sum(axis=1)
    middles = np.cumsum(weights) - weights / 2
    of_range = np.floor(middles / max(weights.sum(), 1) * RANGES).astype(int)
    found = []
    for number in np.unique(of_range):
        inside = of_range == number
        bucket, first, last = _bucket(counts[inside]), int(bins[inside][0]), int(bins[inside][-1])
        low, high = _edges(first, width)[0], _edges(last, width)[1]
        found.append(Range(low=low, high=high, impressions=bucket.impressions, positives=bucket.positives))
    return tuple(found)


def _edges(number: int, width: int) -> tuple[float, float]:
    """The least and the largest double of so many bins in one; number: of those away from zero, from 1."""
    if number == 0:
        return bin_edges(0)
    sign = 1 if number > 0 else -1
    near, far = sign * (width * (abs(number) - 1) + 1), sign * width * abs(number)
    return bin_edges(min(near, far))[0], bin_edges(max(near, far))[1]
