"""A night from the last roll-up and its one new day, against the same night from all days: the same bytes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from nightjar.features.contract.errors import DataError
from nightjar.features.contract.manifests import AggregateManifest
from nightjar.features.contract.publishing import read_manifest
from nightjar.features.counts.rollup import History, newest_rollup, publish_rollup
from nightjar.features.dataset.build import build
from nightjar.features.dataset.plan import BuildDates, BuildPlan, BuildSettings, plan_build
from nightjar.features.spark import tables
from tests.kits.feature_logs import SPEC, days, files_under, make_day, write_day, write_logs

DATES = days("2026-03-01", 7)
KINDS = ("rollups", "states", "datasets")


def plan(logs: Path, output: Path, holdout: str, train_days: int = 1) -> BuildPlan:
    """The night that evaluates on `holdout` and trains on so many days before it."""
    last = DATES.index(holdout) - 1
    return plan_build(
        SPEC,
        str(logs),
        str(output),
        BuildDates(
            train_from=DATES[last + 1 - train_days],
            train_to=DATES[last],
            fit_from=DATES[max(0, last - 2)],
            history_from=DATES[0],
            holdout=holdout,
        ),
        settings=BuildSettings(min_files=2, rows_per_file=50),
    )


def published(output: Path, of: BuildPlan) -> dict[str, bytes]:
    """Every file that the plan's night has published or reads, by path."""
    wanted = [*of.built.directories(), of.rollup_dirs[of.history[-1].date]]
    assert {Path(directory).parent.name for directory in wanted} == set(KINDS)
    return {
        str(path.relative_to(output)): path.read_bytes()
        for directory in wanted
        for path in sorted(Path(directory).rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_logs(tmp_path_factory.mktemp("raw") / "logs", DATES, rows=40)


@pytest.fixture(scope="module")
def nightly(spark: SparkSession, logs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nights one by one: those of the fourth and of the sixth day."""
    output = tmp_path_factory.mktemp("nightly")
    for holdout in (DATES[3], DATES[5]):
        build(spark, plan(logs, output, holdout))
    return output


@pytest.fixture
def copy(nightly: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(nightly, tmp_path / "copy"))


def from_scratch(spark: SparkSession, logs: Path, output: Path, holdout: str, train_days: int = 1) -> dict[str, bytes]:
    night = plan(logs, output, holdout, train_days)
    build(spark, night)
    return published(output, night)


def test_nights_one_by_one_give_the_bytes_of_a_night_from_all_days(
    spark: SparkSession, logs: Path, nightly: Path, tmp_path: Path
) -> None:
    night = plan(logs, nightly, DATES[5])
    assert newest_rollup(night.rollup_dirs, before=DATES[5]) is not None
    assert published(nightly, night) == from_scratch(spark, logs, tmp_path / "scratch", DATES[5])


def test_part_files_follow_the_distinct_rows_and_not_the_days_that_counted_them(
    spark: SparkSession, logs: Path, nightly: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "ROWS_PER_FILE", 20)
    night = plan(logs, nightly, DATES[5])
    counts = {d: read_manifest(d, AggregateManifest) for day in night.history if (d := night.aggregate_dirs[day.date])}
    before = newest_rollup(night.rollup_dirs, before=DATES[3])
    assert before is not None
    whole = publish_rollup(spark, SPEC, str(tmp_path / "whole"), History(counts))
    publish_rollup(spark, SPEC, str(tmp_path / "on"), History(counts, before))
    assert files_under(tmp_path / "on") == files_under(tmp_path / "whole")
    fewer = 0
    for folder in {entry.path.rpartition("/")[0] for entry in whole.manifest.files}:
        files = [entry for entry in whole.manifest.files if entry.path.startswith(f"{folder}/")]
        wanted = 1 + sum(entry.rows or 0 for entry in files) // 20
        # A sketch's registers are no hashes, and lie in one range.
        assert (1 if folder.startswith("sketch/") else wanted / 2) <= len(files) <= wanted, folder
        fewer += wanted < 1 + tables.table_rows(counts, folder) // 20
    assert fewer


def test_a_night_reads_no_counts_of_days_that_are_rolled_up(spark: SparkSession, logs: Path, copy: Path) -> None:
    night = plan(logs, copy, DATES[6])
    windows = days(DATES[2], 4)  # what leaves a window of three days, or enters one a day late
    for date in DATES[:6]:
        folder = Path(night.aggregate_dirs[date])
        if date != DATES[5]:
            shutil.rmtree(folder / "vocabulary", ignore_errors=True)
        if date not in windows and date != DATES[5]:
            shutil.rmtree(folder / "frequency")
    build(spark, night)


@pytest.mark.parametrize("damaged", ["aggregates/date=2026-03-06", "rollups/through=2026-03-05"])
@pytest.mark.parametrize("table", ["vocabulary", "frequency"])
def test_a_flipped_bit_in_what_is_counted_ends_the_night(
    spark: SparkSession, logs: Path, copy: Path, damaged: str, table: str
) -> None:
    """The last day's counts, and the roll-up that it is merged into. Its size and its rows are as they were."""
    [directory] = copy.glob(f"{damaged}-*")
    path = max((directory / table).rglob("*.parquet"), key=lambda file: file.stat().st_size)
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 4
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"{directory.name} is damaged: .*{path.name}.* differ from the manifest"):
        build(spark, plan(logs, copy, DATES[6]))


def test_a_file_that_no_manifest_lists_is_not_counted(spark: SparkSession, logs: Path, copy: Path) -> None:
    """Nor is it left out in silence."""
    [directory] = copy.glob("aggregates/date=2026-03-06-*")
    path = next((directory / "vocabulary/user").iterdir())
    shutil.copy(path, path.with_name("part-09999.parquet"))
    with pytest.raises(DataError, match=r"holds \['vocabulary/user/part-09999.parquet'\], which its manifest does not"):
        build(spark, plan(logs, copy, DATES[6]))


def test_late_data_for_an_earlier_day_is_merged_exactly(
    spark: SparkSession, logs: Path, copy: Path, tmp_path: Path
) -> None:
    shutil.copytree(logs, tmp_path / "logs")
    late = make_day(DATES[3], 25, seed=9)
    write_day(tmp_path / "late", DATES[3], late, files=1)
    (tmp_path / "late" / f"date={DATES[3]}" / "part-0.parquet").rename(
        tmp_path / "logs" / f"date={DATES[3]}" / "late.parquet"
    )
    night = plan(tmp_path / "logs", copy, DATES[5], train_days=3)
    before = newest_rollup(night.rollup_dirs, before=DATES[5])
    assert before is not None
    assert before.manifest.through_date == DATES[2], "the last day before the late data"
    counted = read_manifest(plan(logs, copy, DATES[5]).aggregate_dirs[DATES[3]], AggregateManifest)
    build(spark, night)
    again = read_manifest(night.aggregate_dirs[DATES[3]], AggregateManifest)
    assert again.rows == counted.rows + 25
    assert published(copy, night) == from_scratch(spark, tmp_path / "logs", tmp_path / "scratch", DATES[5], 3)
