"""The whole of build_features: plan (no Spark), then fill in what is not published yet.

    aggregates/date=D-<key>/       counts of one day
    rollups/through=B-<key>/       counts of all days through B, merged
    states/through=B-<key>/        the encoder's state, fitted on the training days
    datasets/train-A..B-<key>/     the training days, encoded under that state
    datasets/holdout-E-<key>/      the day after, encoded under the same state, with golden rows

Every key is a digest of the spec, of the logs that went in and of the settings: a plan knows all directories.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pyspark.sql import SparkSession

from nightjar.features.contract import storage
from nightjar.features.contract.errors import UsageError
from nightjar.features.contract.manifest import (
    AggregateManifest,
    DatasetManifest,
    is_published,
    key_of,
    manifest_digest,
    read_manifest,
)
from nightjar.features.contract.spec import FeatureSpec
from nightjar.features.counts.aggregate import check_values, publish_aggregates
from nightjar.features.counts.rollup import History, Rollup, newest_rollup, publish_rollup
from nightjar.features.dataset.write import publish_dataset
from nightjar.features.fit.fitting import publish_state
from nightjar.features.input.damage import damage_reported
from nightjar.features.input.folders import LogPartition, Logs, check_logs, dates_between, day_after

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BuildSettings:
    """How rows are spread over files: max(min_files, rows / rows_per_file)."""

    min_files: int = 8
    rows_per_file: int = 50_000


@dataclass(frozen=True)
class BuiltFeatures:
    """The published directories. holdout_dir is None if no hold-out day was asked for."""

    state_dir: str
    train_dir: str
    holdout_dir: str | None

    def directories(self) -> list[str]:
        """Those that were asked for."""
        return [self.state_dir, self.train_dir, *([self.holdout_dir] if self.holdout_dir else [])]


@dataclass(frozen=True)
class BuildPlan:
    """What to build from which logs, and where.

    history: the training days and the days before them. fit: the days that quantiles are of. aggregate_dirs: by date,
    of every day. rollup_dirs: by last day, of the history and of each of its beginnings.
    """

    spec: FeatureSpec
    output: str
    settings: BuildSettings
    history: tuple[LogPartition, ...]
    train: tuple[LogPartition, ...]
    fit: tuple[LogPartition, ...]
    holdout: LogPartition | None
    aggregate_dirs: dict[str, str]
    rollup_dirs: dict[str, str]
    built: BuiltFeatures

    @property
    def days(self) -> tuple[LogPartition, ...]:
        """Every day of the plan, the hold-out day included."""
        return self.history + ((self.holdout,) if self.holdout else ())

    def is_built(self) -> bool:
        """True if nothing is left to do."""
        return all(is_published(directory) for directory in self.built.directories())


def plan_build(
    spec: FeatureSpec,
    logs: Logs | str,
    output: str,
    *,
    train_from: str,
    train_to: str,
    history_from: str | None = None,
    fit_from: str | None = None,
    holdout: str | None = None,
    settings: BuildSettings | None = None,
) -> BuildPlan:
    """Check dates and logs, and name the directories. Of files it reads footers, headers or first lines only.

    logs: or the folder of Parquet files in date folders. history_from: first day of vocabularies and counts
    (train_from if None). fit_from: first day of quantiles (train_from if None). holdout: the day after train_to.
    Raises UsageError and DataError.
    """
    output = storage.absolute(output)
    settings = settings or BuildSettings()
    if settings.min_files < 1 or settings.rows_per_file < 1:
        raise UsageError(f"min_files and rows_per_file must be at least 1; got {settings}.")
    train_dates = dates_between(train_from, train_to)
    fit_dates = dates_between(fit_from or train_from, train_to)
    history_dates = dates_between(history_from or train_from, train_to)
    if history_dates[0] > min(train_dates[0], fit_dates[0]):
        raise UsageError(f"--history-from {history_from} is later than --train-from {train_from}. Give an earlier day.")
    next_day = day_after(train_to)
    if holdout not in (None, next_day):
        raise UsageError(
            f"--holdout {holdout} is not the day after --train-to {train_to}, as of which the state's counts "
            f"are. Give --holdout {next_day}."
        )
    partitions = check_logs(logs, [*history_dates, *([holdout] if holdout else [])], spec)
    history = tuple(partitions[: len(history_dates)])
    train = history[-len(train_dates) :]
    last = partitions[-1] if holdout else None
    if last and last.is_empty:
        raise UsageError(
            f"--holdout {holdout} is listed under input.empty_days, and without rows nothing can be evaluated. Run the "
            f"next day instead."
        )
    if all(day.is_empty for day in train):
        raise UsageError(
            f"the training days {train_from} to {train_to} are all listed under input.empty_days. Train on more days."
        )

    aggregate_keys = {p.date: key_of(spec=spec.fingerprint, log=p.fingerprint) for p in partitions}
    keys = [aggregate_keys[day] for day in history_dates]
    state_key = key_of(spec=spec.fingerprint, aggregates=keys, fit_from=fit_dates[0])
    rollup_dirs = {
        day: storage.join(output, "rollups", f"through={day}-{key_of(aggregates=keys[: n + 1])}")
        for n, day in enumerate(history_dates)
    }

    def dataset(name: str, days: Sequence[LogPartition]) -> str:
        logs_of_days = [day.fingerprint for day in days]
        key = key_of(state=state_key, logs=logs_of_days, files=[settings.min_files, settings.rows_per_file])
        return storage.join(output, "datasets", f"{name}-{key}")

    return BuildPlan(
        spec=spec,
        output=output,
        settings=settings,
        history=history,
        train=train,
        fit=history[-len(fit_dates) :],
        holdout=last,
        aggregate_dirs={
            day: storage.join(output, "aggregates", f"date={day}-{key}") for day, key in aggregate_keys.items()
        },
        rollup_dirs=rollup_dirs,
        built=BuiltFeatures(
            state_dir=storage.join(output, "states", f"through={train_to}-{state_key}"),
            train_dir=dataset(f"train-{train_from}..{train_to}", train),
            holdout_dir=dataset(f"holdout-{holdout}", [last]) if last else None,
        ),
    )


def build(spark: SparkSession, plan: BuildPlan) -> BuiltFeatures:
    """Publish whatever of the plan is not published yet.

    Raises DataError: before anything is published if the logs hold values that cannot be used, and whenever Spark
    cannot read a file.
    """
    with damage_reported():
        return _build(spark, plan)


def aggregate(spark: SparkSession, plan: BuildPlan) -> dict[str, AggregateManifest]:
    """The first half of `build`: check the values of the days that are new, and publish their counts.

    Returns the counts of every day of the plan, by directory.
    """
    new = [day for day in plan.days if not is_published(plan.aggregate_dirs[day.date])]
    log.info("checking and counting %d of %d days", len(new), len(plan.days))
    with damage_reported():
        totals = check_values(spark, plan.spec, new)
        of_day = {plan.aggregate_dirs[day.date]: (day, totals[day.date]) for day in new}
        publish_aggregates(spark, plan.spec, of_day)
    return {directory: read_manifest(directory, AggregateManifest) for directory in plan.aggregate_dirs.values()}


def counted(days: Sequence[LogPartition], aggregates: Mapping[str, AggregateManifest]) -> list[LogPartition]:
    """The same days with their rows as they were counted, which a text file's head does not tell."""
    rows = {manifest.date: manifest.rows for manifest in aggregates.values()}
    return [replace(day, counted=rows[day.date]) for day in days]


def fit(spark: SparkSession, plan: BuildPlan) -> dict[str, AggregateManifest]:
    """`aggregate`, and then publish the encoder's state, of the days before the hold-out day alone."""
    aggregates = aggregate(spark, plan)
    if _is_missing(plan.built.state_dir):
        of_history = _of_history(plan, aggregates)
        with damage_reported():
            history = History(of_history, _rollup(spark, plan, of_history))
            publish_state(spark, plan.spec, plan.built.state_dir, history, counted(plan.fit, aggregates))
    return aggregates


def encode_days(spark: SparkSession, plan: BuildPlan, state_dir: str, dates: Sequence[str]) -> str:
    """Encode days of a plan under a state that was fitted before them; the data set's directory.

    For comparisons: a champion on the days that its successor is judged by, or a test period of several days. Frequency
    counts are those of each row's own day, as in every data set. Raises DataError as `build` does.
    """
    days = [day for day in plan.days if day.date in dates]
    key = key_of(
        state=manifest_digest(state_dir),
        aggregates=sorted(path.rpartition("/")[2] for path in plan.aggregate_dirs.values()),
        dates=list(dates),
        files=[plan.settings.min_files, plan.settings.rows_per_file],
    )
    directory = storage.join(plan.output, "datasets", f"scored-{days[0].date}..{days[-1].date}-{key}")
    if _is_missing(directory):
        with damage_reported():
            _dataset(spark, plan, directory, days, aggregate(spark, plan), state_dir)
    return directory


def _build(spark: SparkSession, plan: BuildPlan) -> BuiltFeatures:
    built = plan.built
    if plan.is_built():
        log.info("nothing to do: everything is published already")
        return built
    aggregates = fit(spark, plan)
    of_history = _of_history(plan, aggregates)
    if _is_missing(built.train_dir):
        _dataset(spark, plan, built.train_dir, plan.train, of_history, built.state_dir, sampled=True)
    if plan.holdout and built.holdout_dir and _is_missing(built.holdout_dir):
        _dataset(spark, plan, built.holdout_dir, [plan.holdout], aggregates, built.state_dir, golden=True)
    return built


def _rollup(spark: SparkSession, plan: BuildPlan, of_history: dict[str, AggregateManifest]) -> Rollup:
    """That of the history, made of the newest one there is and the days since."""
    through = plan.history[-1].date
    newest = newest_rollup(plan.rollup_dirs, before=day_after(through))
    if newest and newest.directory == plan.rollup_dirs[through]:
        return newest
    log.info("rolling up from %s through %s", newest.manifest.through_date if newest else "nothing", through)
    return publish_rollup(spark, plan.spec, plan.rollup_dirs[through], History(of_history, newest))


def report(built: BuiltFeatures) -> str:
    """The published paths and their row counts, for people."""
    lines = [f"state    {built.state_dir}"]
    for name, directory in (("train", built.train_dir), ("holdout", built.holdout_dir)):
        if directory:
            manifest = read_manifest(directory, DatasetManifest)
            files = len(manifest.data_files)
            lines.append(f"{name:8} {directory}: {manifest.rows} rows, {manifest.positives} positives, {files} files")
    return "\n".join(lines)


def _of_history(plan: BuildPlan, aggregates: Mapping[str, AggregateManifest]) -> dict[str, AggregateManifest]:
    return {directory: aggregates[directory] for directory in (plan.aggregate_dirs[day.date] for day in plan.history)}


def _is_missing(directory: str) -> bool:
    published = is_published(directory)
    log.info("%s %s", "published already:" if published else "building", directory)
    return not published


def _dataset(
    spark: SparkSession,
    plan: BuildPlan,
    directory: str,
    days: Sequence[LogPartition],
    aggregates: dict[str, AggregateManifest],
    state_dir: str,
    *,
    golden: bool = False,
    sampled: bool = False,
) -> None:
    days = counted(days, aggregates)
    rows = sum(day.rows for day in days)
    files = max(plan.settings.min_files, -(-rows // plan.settings.rows_per_file))
    history = History(aggregates, newest_rollup(plan.rollup_dirs, before=days[0].date))
    publish_dataset(spark, directory, state_dir, days, history, files=files, golden=golden, sampled=sampled)
