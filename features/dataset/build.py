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
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from pyspark.sql import SparkSession

from nightjar.features.contract import storage
from nightjar.features.contract.manifests import AggregateManifest, DatasetManifest
from nightjar.features.contract.outputs import DATASETS, DatasetName
from nightjar.features.contract.publishing import is_published, key_of, manifest_digest, read_manifest
from nightjar.features.counts.aggregate import (
    check_values,
    publish_aggregates,
    publish_without_rows,
    refuse_left_out,
)
from nightjar.features.counts.rollup import History, Rollup, newest_rollup, publish_rollup
from nightjar.features.dataset.plan import BuildPlan, BuiltFeatures
from nightjar.features.dataset.write import EncodedDays, publish_dataset
from nightjar.features.fit.fitting import publish_state
from nightjar.features.input.damage import damage_reported
from nightjar.features.input.days import day_after
from nightjar.features.input.folders import LogPartition

log = logging.getLogger(__name__)


def build(spark: SparkSession, plan: BuildPlan) -> BuiltFeatures:
    """Publish whatever of the plan is not published yet.

    Raises DataError: before anything is published if the logs hold values that cannot be used, and whenever Spark
    cannot read a file.
    """
    with damage_reported(plan.days[0].input):
        return _build(spark, plan)


def aggregate(spark: SparkSession, plan: BuildPlan, also: Iterable[LogPartition] = ()) -> dict[str, AggregateManifest]:
    """The first half of `build`: check the values of the days that are new, and publish their counts.

    Args:
        spark: the session.
        plan: says which days' own counts are needed.
        also: more of its days.

    Returns the counts of these days, by directory. Raises DataError if those of a day cannot be had any more.
    """
    asked = {day.date for day in (*plan.needed, *also)}
    days = [day for day in plan.days if day.date in asked]
    new = [day for day in days if not is_published(plan.aggregate_dirs[day.date])]
    log.info("checking and counting %d of %d days", len(new), len(days))
    without_rows = [day for day in new if day.is_skipped or day.is_empty]
    for day in without_rows:
        publish_without_rows(plan.spec, plan.aggregate_dirs[day.date], day)
    logged = [day for day in new if day not in without_rows]
    with damage_reported((logged or plan.days)[0].input):
        totals = check_values(spark, plan.spec, logged)
        of_day = {plan.aggregate_dirs[day.date]: (day, totals[day.date]) for day in logged}
        publish_aggregates(spark, plan.spec, of_day)
    directories = [plan.aggregate_dirs[day.date] for day in days]
    found = {directory: read_manifest(directory, AggregateManifest) for directory in directories}
    refuse_left_out(days, found)
    return found


def counted(days: Sequence[LogPartition], aggregates: Mapping[str, AggregateManifest]) -> list[LogPartition]:
    """The same days with their rows as they were counted, which a text file's head does not tell."""
    rows = {manifest.date: manifest.rows for manifest in aggregates.values()}
    return [replace(day, counted=rows[day.date]) for day in days]


def fit(spark: SparkSession, plan: BuildPlan, also: Iterable[LogPartition] = ()) -> dict[str, AggregateManifest]:
    """`aggregate`, and then publish the encoder's state, of the days before the hold-out day alone."""
    aggregates = aggregate(spark, plan, also)
    if _is_missing(plan.built.state_dir):
        of_history = _of_history(plan, aggregates)
        with damage_reported():
            history = History(of_history, _rollup(spark, plan, of_history))
            publish_state(spark, plan.spec, plan.built.state_dir, history, counted(plan.fit, aggregates))
    return aggregates


def rolled_up(spark: SparkSession, plan: BuildPlan) -> Rollup:
    """The counts of all days of the plan's history, merged; what is not published of them is counted and published."""
    next_day = day_after(plan.history[-1].date)
    aggregates = aggregate(spark, plan, plan.counts_for(next_day, next_day))
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
    days = [day for day in plan.logged if day.date in dates]
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
            counts = aggregate(spark, plan, plan.counts_for(days[0].date, days[-1].date))
            _publish(spark, plan, EncodedDays(directory, state_dir, tuple(days)), counts)
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
    dates = {day.date for day in plan.history}
    return {directory: manifest for directory, manifest in aggregates.items() if manifest.date in dates}


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
