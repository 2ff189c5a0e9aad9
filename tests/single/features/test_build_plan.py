"""What a build is planned from when logs are gone, late or missing: no Spark is started."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from datetime import date
from pathlib import Path

import pytest

from nightjar.features.contract.errors import DataError
from nightjar.features.contract.manifests import AggregateManifest, Manifest, RollupManifest
from nightjar.features.contract.outputs import log_input
from nightjar.features.contract.publishing import begin, commit
from nightjar.features.dataset.history import known_history
from nightjar.features.dataset.plan import BuildDates, BuildPlan, BuildSettings, plan_build
from nightjar.features.input.config import InputConfig
from nightjar.features.input.folders import SKIPPED, DateFolders, Logs
from tests.kits.feature_logs import SPEC, days, make_day, write_day, write_logs

DATES = days("2026-03-01", 10)


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    return write_logs(tmp_path / "logs", DATES, rows=5)


def plan(logs: Path | Logs, output: Path, most_missing_days: int = 0) -> BuildPlan:
    """The night of the last day, which trains on the two before it."""
    dates = BuildDates(train_from=DATES[-3], train_to=DATES[-2], history_from=DATES[0], holdout=DATES[-1])
    found = str(logs) if isinstance(logs, Path) else logs
    return plan_build(SPEC, found, str(output), dates, settings=BuildSettings(most_missing_days=most_missing_days))


def publish(directory: str, manifest: Manifest) -> None:
    begin(directory)
    commit(directory, manifest)


def roll_up(of: BuildPlan, through: str, first: str = DATES[0], logs: Mapping[str, str] | None = None) -> None:
    """What a night before leaves, as far as a plan looks at it."""
    inputs = {log_input(d.date): (logs or {}).get(d.date, d.fingerprint) for d in of.history if d.date <= through}
    manifest = RollupManifest(
        files=(),
        inputs=inputs,
        spec_fingerprint=SPEC.fingerprint,
        first_date=first,
        through_date=through,
    )
    publish(of.rollup_dirs[through], manifest)


def count(of: BuildPlan, *dates: str) -> None:
    for day in dates:
        manifest = AggregateManifest(files=(), spec_fingerprint=SPEC.fingerprint, date=day, rows=5, positives=1)
        publish(of.aggregate_dirs[day], manifest)


def names(of: BuildPlan) -> object:
    return of.built, of.aggregate_dirs, of.rollup_dirs


def remove(logs: Path, *dates: str) -> None:
    for day in dates:
        shutil.rmtree(logs / f"date={day}")


def test_logs_that_are_gone_change_no_name(logs: Path, tmp_path: Path) -> None:
    before = plan(logs, tmp_path)
    for through in (DATES[6], DATES[7]):
        roll_up(before, through)
    remove(logs, *DATES[:4])
    after = plan(logs, tmp_path)
    assert names(after) == names(before)
    assert [day.date for day in after.history if day.gone] == DATES[:4]
    windows = DATES[4:]  # the first training day looks three days back
    assert [day.date for day in after.needed] == windows
    assert known_history(str(tmp_path), SPEC) is not None
    assert known_history(str(tmp_path), SPEC.model_copy(update={"name": "other"})) is None


def test_counts_that_are_needed_and_gone_are_named(logs: Path, tmp_path: Path) -> None:
    before = plan(logs, tmp_path)
    roll_up(before, DATES[6])
    remove(logs, *DATES[:6])
    with pytest.raises(DataError, match=f"the logs of {DATES[4]}, {DATES[5]} are gone, and so are their counts"):
        plan(logs, tmp_path)
    count(before, DATES[4], DATES[5])
    assert names(plan(logs, tmp_path)) == names(before)


def test_a_late_file_is_counted_while_the_days_after_it_can_be(
    logs: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = plan(logs, tmp_path)
    for through in (DATES[1], DATES[6]):
        roll_up(before, through)
    late = make_day(DATES[2], 3, seed=9)
    write_day(tmp_path / "late", DATES[2], late, files=1)
    shutil.move(tmp_path / "late" / f"date={DATES[2]}" / "part-0.parquet", logs / f"date={DATES[2]}" / "late.parquet")
    counted = plan(logs, tmp_path)
    assert counted.rollup_dirs[DATES[6]] != before.rollup_dirs[DATES[6]]
    assert [day.date for day in counted.needed] == DATES
    remove(logs, DATES[3])
    with caplog.at_level(logging.WARNING):
        left_out = plan(logs, tmp_path)
    assert f"the log has changed since it was counted: {DATES[2]}. Daily counts of later days are gone" in caplog.text
    assert names(left_out) == names(before)


def test_the_first_day_is_the_first_that_was_ever_counted(logs: Path, tmp_path: Path) -> None:
    before = plan(logs, tmp_path)
    roll_up(before, DATES[6])
    roll_up(before, DATES[7], first=DATES[5])  # by hand, from a later day
    known = known_history(str(tmp_path), SPEC)
    assert known is not None
    assert known.first_date == DATES[0]
    assert list(known.logs) == DATES[:8]


def test_a_missing_day_fails_or_is_skipped_within_bounds(logs: Path, tmp_path: Path) -> None:
    whole = plan(logs, tmp_path)
    remove(logs, DATES[3], DATES[4], DATES[7])
    with pytest.raises(DataError, match=f"date {DATES[3]}, {DATES[4]}, {DATES[7]}: there are no Parquet files"):
        plan(logs, tmp_path)
    with pytest.raises(DataError, match=f"there is no log of {DATES[3]}, {DATES[4]}: 2 days in a row, and 1 may be"):
        plan(logs, tmp_path, most_missing_days=1)
    skipping = plan(logs, tmp_path, most_missing_days=2)
    assert skipping.skipped == (DATES[3], DATES[4], DATES[7])
    assert [day.date for day in skipping.train] == [DATES[8]]
    assert [day.fingerprint for day in skipping.history if day.gone] == [SKIPPED] * 3
    assert skipping.built.state_dir != whole.built.state_dir
    remove(logs, DATES[8])
    with pytest.raises(DataError, match="there is no log of any training day"):
        plan(logs, tmp_path, most_missing_days=2)
    remove(logs, DATES[9])
    with pytest.raises(DataError, match=f"date {DATES[9]}: there are no Parquet files"):
        plan(logs, tmp_path, most_missing_days=2)


def test_a_skipped_day_stays_so_until_its_log_comes(logs: Path, tmp_path: Path) -> None:
    whole = plan(logs, tmp_path)
    shutil.move(logs / f"date={DATES[3]}", tmp_path / "kept")
    roll_up(plan(logs, tmp_path, most_missing_days=1), DATES[6])
    assert plan(logs, tmp_path).skipped == (DATES[3],), "counted as a day without rows"
    shutil.move(tmp_path / "kept", logs / f"date={DATES[3]}")
    assert names(plan(logs, tmp_path)) == names(whole)


def test_a_day_without_traffic_is_no_day_without_a_log(logs: Path, tmp_path: Path) -> None:
    """Declared, it needs no other day's log, and what was counted of it outlives the declaration."""
    remove(logs, DATES[3])
    declared = DateFolders(str(logs), InputConfig(empty_days=(date.fromisoformat(DATES[3]),)))
    before = plan(declared, tmp_path)
    assert (before.skipped, before.history[3].is_empty, before.history[3].rows) == ((), True, 0)
    for through in (DATES[6], DATES[7]):
        roll_up(before, through)
    remove(logs, *DATES[:3])
    after = plan(logs, tmp_path)
    assert names(after) == names(before)
    assert (after.skipped, after.history[3].is_empty, after.history[3].gone) == ((), True, False)
    remove(logs, *DATES[4:])
    (alone,) = declared.check(DATES, SPEC, may_lack=DATES)
    assert (alone.date, alone.is_empty, alone.fingerprint) == (DATES[3], True, before.history[3].fingerprint)
