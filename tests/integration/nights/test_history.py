"""The history outlives the logs and the daily counts: what is published without them is the same, byte for byte."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from nightjar.features.contract.manifests import AggregateManifest
from nightjar.features.contract.publishing import read_manifest
from nightjar.features.counts.counters import publish_counters
from nightjar.features.dataset.build import build, rolled_up
from nightjar.features.dataset.plan import BuildDates, BuildPlan, BuildSettings, plan_build
from tests.kits.feature_logs import SPEC, days, files_under, write_logs

DATES = days("2026-03-01", 8)
LATE = DATES[4]
SETTINGS = BuildSettings(min_files=2, rows_per_file=50, most_missing_days=1)


def plan(logs: Path, output: Path, holdout: str) -> BuildPlan:
    """A night that trains on the day before; windows reach back three days."""
    last = DATES.index(holdout) - 1
    dates = BuildDates(train_from=DATES[last], train_to=DATES[last], history_from=DATES[0], holdout=holdout)
    return plan_build(SPEC, str(logs), str(output), dates, settings=SETTINGS)


def counters(spark: SparkSession, logs: Path, output: Path) -> dict[str, bytes]:
    """What the last day's counters hold: all days, merged, as a night publishes them."""
    dates = BuildDates(train_from=DATES[7], train_to=DATES[7], history_from=DATES[0])
    rollup = rolled_up(spark, plan_build(SPEC, str(logs), str(output), dates, settings=SETTINGS))
    directory = output / "models" / "counters" / "after"
    if not directory.exists():
        publish_counters(spark, SPEC, rollup, str(directory))
    return files_under(directory)


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_logs(tmp_path_factory.mktemp("raw") / "logs", DATES, rows=40)


@pytest.fixture(scope="module")
def whole(spark: SparkSession, logs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two nights, to which no log was ever missing."""
    output = tmp_path_factory.mktemp("whole")
    for holdout in DATES[6:]:
        build(spark, plan(logs, output, holdout))
    return output


def test_nights_after_the_logs_and_counts_were_deleted_have_the_same_bytes(
    spark: SparkSession, logs: Path, whole: Path, tmp_path: Path
) -> None:
    some, output = tmp_path / "logs", tmp_path / "out"
    shutil.copytree(logs, some)
    build(spark, plan(some, output, DATES[6]))
    for date in DATES[:3]:  # older than any window needs: the last training day looks back to the fourth
        shutil.rmtree(some / f"date={date}")
        (counts,) = (output / "aggregates").glob(f"date={date}-*")
        shutil.rmtree(counts)
    build(spark, plan(some, output, DATES[7]))
    for kind in ("rollups", "states", "datasets"):
        assert files_under(output / kind) == files_under(whole / kind)
    assert len(list((output / "aggregates").iterdir())) == len(DATES) - 3
    assert counters(spark, some, output) == counters(spark, logs, whole)


def test_a_skipped_day_counts_nothing_and_its_late_log_makes_it_as_if_never_missed(
    spark: SparkSession, logs: Path, whole: Path, tmp_path: Path
) -> None:
    some, output = tmp_path / "logs", tmp_path / "out"
    shutil.copytree(logs, some)
    shutil.rmtree(some / f"date={LATE}")
    gap = plan(some, output, DATES[6])
    build(spark, gap)
    skipped = read_manifest(gap.aggregate_dirs[LATE], AggregateManifest)
    assert (gap.skipped, skipped.rows, sum(entry.rows or 0 for entry in skipped.files)) == ((LATE,), 0, 0)

    shutil.copytree(logs / f"date={LATE}", some / f"date={LATE}")
    after = plan(some, output, DATES[7])
    assert after.skipped == ()
    build(spark, after)
    for directory in (*after.built.directories(), after.rollup_dirs[DATES[6]], after.aggregate_dirs[LATE]):
        relative = Path(directory).relative_to(output)
        assert files_under(output / relative) == files_under(whole / relative)
    assert counters(spark, some, output) == counters(spark, logs, whole)
