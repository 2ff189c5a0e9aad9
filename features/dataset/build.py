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
from typing import Literal

from pyspark.sql import SparkSession

from nightjar.features.contract import storage
from nightjar.features.contract.errors import UsageError
from nightjar.features.contract.manifests import AggregateManifest, DatasetManifest
from nightjar.features.contract.outputs import (
    AGGREGATES,
    DATASETS,
    ROLLUPS,
    STATES,
    DailyName,
    DatasetName,
    ThroughName,
)
from nightjar.features.contract.publishing import is_published, key_of, manifest_digest, read_manifest
from nightjar.features.contract.spec import FeatureSpec
from nightjar.features.counts.aggregate import check_values, publish_aggregates, refuse_left_out
from nightjar.features.counts.rollup import History, Rollup, newest_rollup, publish_rollup
from nightjar.features.dataset.write import EncodedDays, publish_dataset
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
class BuildDates:
    """The days to build from, as YYYY-MM-DD.

    train_from, train_to: the first and the last training day. history_from, fit_from: the first day of vocabularies and
    counts, and of quantiles; train_from if None. holdout: the day after train_to, or None.
    """

    train_from: str
    train_to: str
    history_from: str | None = None
    fit_from: str | None = None
    holdout: str | None = None

    @property
    def train(self) -> list[str]:
        """The training days. Raises UsageError if they are no range of dates, as all of these do."""
        return dates_between(self.train_from, self.train_to)

    @property
    def fit(self) -> list[str]:
        """The days of quantiles."""
        return dates_between(self.fit_from or self.train_from, self.train_to)

    @property
    def history(self) -> list[str]:
        """The days of vocabularies and counts."""
        return dates_between(self.history_from or self.train_from, self.train_to)

    def check(self) -> None:
        """Raises UsageError if the days do not fit together."""
        if self.history[0] > min(self.train[0], self.fit[0]):
            raise UsageError(
                f"--history-from {self.history_from} is later than --train-from {self.train_from}. Give an earlier day."
            )
        next_day = day_after(self.train_to)
        if self.holdout not in (None, next_day):
            raise UsageError(
                f"--holdout {self.holdout} is not the day after --train-to {self.train_to}, as of which the state's "
                f"counts are. Give --holdout {next_day}."
            )


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
    spec: FeatureSpec, logs: Logs | str, output: str, dates: BuildDates, settings: BuildSettings | None = None
) -> BuildPlan:
    """Check dates and logs, and name the directories. Of files it reads footers, headers or first lines only.

    Args:
        spec: the features.
        logs: all days of an input, or the folder of Parquet files in date folders.
        output: folder that everything is published in.
        dates: what to build from.
        settings: of the files; the default ones if None.

    Raises UsageError and DataError.
    """
    output = storage.absolute(output)
    settings = settings or BuildSettings()
    if settings.min_files < 1 or settings.rows_per_file < 1:
        raise UsageError(f"min_files and rows_per_file must be at least 1; got {settings}.")
    dates.check()
    partitions = check_logs(logs, [*dates.history, *([dates.holdout] if dates.holdout else [])], spec)
    history = tuple(partitions[: len(dates.history)])
    train = history[-len(dates.train) :]
    holdout = partitions[-1] if dates.holdout else None
    if holdout and holdout.is_empty:
        raise UsageError(
            f"--holdout {dates.holdout} is listed under input.empty_days, and without rows nothing can be evaluated. "
            f"Run the next day instead."
        )
    if all(day.is_empty for day in train):
        raise UsageError(
            f"the training days {dates.train[0]} to {dates.train[-1]} are all listed under input.empty_days. "
            f"Train on more days."
        )

    aggregate_keys = {p.date: key_of(spec=spec.fingerprint, log=p.fingerprint) for p in partitions}
    keys = [aggregate_keys[day.date] for day in history]
    state_key = key_of(spec=spec.fingerprint, aggregates=keys, fit_from=dates.fit[0])

    def dataset(kind: Literal["train", "holdout"], days: Sequence[LogPartition]) -> str:
        logs_of_days = [day.fingerprint for day in days]
        key = key_of(state=state_key, logs=logs_of_days, files=[settings.min_files, settings.rows_per_file])
        return storage.join(output, DATASETS, str(DatasetName(kind, days[0].date, days[-1].date, key)))

    return BuildPlan(
        spec=spec,
        output=output,
        settings=settings,
        history=history,
        train=train,
        fit=history[-len(dates.fit) :],
        holdout=holdout,
        aggregate_dirs={
            day: storage.join(output, AGGREGATES, str(DailyName(day, key))) for day, key in aggregate_keys.items()
        },
        rollup_dirs={
            day.date: storage.join(output, ROLLUPS, str(ThroughName(day.date, key_of(aggregates=keys[: n + 1]))))
            for n, day in enumerate(history)
        },
        built=BuiltFeatures(
            state_dir=storage.join(output, STATES, str(ThroughName(dates.train_to, state_key))),
            train_dir=dataset("train", train),
            holdout_dir=dataset("holdout", [holdout]) if holdout else None,
        ),
    )


def build(spark: SparkSession, plan: BuildPlan) -> BuiltFeatures:
    """Publish whatever of the plan is not published yet.

    Raises DataError: before anything is published if the logs hold values that cannot be used, and whenever Spark
    cannot read a file.
    """
    with damage_reported(plan.days[0].input):
        return _build(spark, plan)


def aggregate(spark: SparkSession, plan: BuildPlan) -> dict[str, AggregateManifest]:
    """The first half of `build`: check the values of the days that are new, and publish their counts.

    Returns the counts of every day of the plan, by directory.
    """
    new = [day for day in plan.days if not is_published(plan.aggregate_dirs[day.date])]
    log.info("checking and counting %d of %d days", len(new), len(plan.days))
    with damage_reported(plan.days[0].input):
        totals = check_values(spark, plan.spec, new)
        of_day = {plan.aggregate_dirs[day.date]: (day, totals[day.date]) for day in new}
        publish_aggregates(spark, plan.spec, of_day)
    found = {directory: read_manifest(directory, AggregateManifest) for directory in plan.aggregate_dirs.values()}
    refuse_left_out(plan.days, found)
    return found


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


def rolled_up(spark: SparkSession, plan: BuildPlan) -> Rollup:
    """The counts of all days of the plan's history, merged; what is not published of them is counted and published."""
    aggregates = aggregate(spark, plan)
    with damage_reported():
        return _rollup(spark, plan, _of_history(plan, aggregates))


def encode_days(spark: SparkSession, plan: BuildPlan, state_dir: str, dates: Sequence[str]) -> str:
    """Encode days of a plan under a state that was fitted before them; the data set's directory.

    For comparisons: a champion on the days that its successor is judged by, or a test period of several days. Frequency
    counts are those of each row's own day, as in every data set.

    Args:
        spark: the session.
        plan: holds the days.
        state_dir: of the encoder's state.
        dates: the days to encode.

    Raises DataError as `build` does.
    """
    days = [day for day in plan.days if day.date in dates]
    key = key_of(
        state=manifest_digest(state_dir),
        aggregates=sorted(storage.name_of(path) for path in plan.aggregate_dirs.values()),
        dates=list(dates),
        files=[plan.settings.min_files, plan.settings.rows_per_file],
    )
    name = DatasetName("scored", days[0].date, days[-1].date, key)
    directory = storage.join(plan.output, DATASETS, str(name))
    if _is_missing(directory):
        with damage_reported():
            _publish(spark, plan, EncodedDays(directory, state_dir, tuple(days)), aggregate(spark, plan))
    return directory


def _build(spark: SparkSession, plan: BuildPlan) -> BuiltFeatures:
    built = plan.built
    if plan.is_built():
        log.info("nothing to do: everything is published already")
        return built
    aggregates = fit(spark, plan)
    of_history = _of_history(plan, aggregates)
    if _is_missing(built.train_dir):
        _publish(spark, plan, EncodedDays(built.train_dir, built.state_dir, plan.train, sampled=True), of_history)
    if plan.holdout and built.holdout_dir and _is_missing(built.holdout_dir):
        held_out = EncodedDays(built.holdout_dir, built.state_dir, (plan.holdout,), golden=True)
        _publish(spark, plan, held_out, aggregates)
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


def _publish(
    spark: SparkSession, plan: BuildPlan, wanted: EncodedDays, aggregates: dict[str, AggregateManifest]
) -> None:
    """A data set. aggregates: by directory, of its days and of those that their counts look back to."""
    days = tuple(counted(wanted.days, aggregates))
    rows = sum(day.rows for day in days)
    files = max(plan.settings.min_files, -(-rows // plan.settings.rows_per_file))
    history = History(aggregates, newest_rollup(plan.rollup_dirs, before=days[0].date))
    publish_dataset(spark, replace(wanted, days=days), history, files)
