"""No row is lost, and none comes in, without a word: every pass over the log is compared with the count before it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from nightjar.features.contract.errors import DataError
from nightjar.features.contract.manifests import AggregateManifest, DatasetManifest
from nightjar.features.contract.publishing import is_published, read_manifest
from nightjar.features.contract.spec import FeatureSpec
from nightjar.features.counts import aggregate as counting
from nightjar.features.dataset import build as building
from nightjar.features.dataset.build import aggregate, build
from nightjar.features.dataset.plan import BuildDates, BuildPlan, plan_build
from nightjar.features.input.config import InputConfig
from nightjar.features.input.timestamped import logs_at
from tests.kits.small_night import CONFIG, make_day

DATES = BuildDates(train_from="2026-01-01", train_to="2026-01-02", holdout="2026-01-03")
SAMPLED = {"sampling": {"negatives": 0.5}}
Change = Callable[[Path], object]


def write_logs(logs: Path) -> Path:
    """Three days of two files; the second file of the first one, which is what changes."""
    for day in (1, 2, 3):
        folder = logs / f"date=2026-01-{day:02d}"
        folder.mkdir(parents=True)
        table = make_day(day, 120)
        pq.write_table(table.slice(0, 80), folder / "part-0.parquet")
        pq.write_table(table.slice(80), folder / "part-1.parquet")
    return logs / "date=2026-01-01" / "part-1.parquet"


def planned(place: Path, **more: object) -> BuildPlan:
    spec = FeatureSpec.model_validate({**CONFIG["features"], **more})
    return plan_build(spec, str(place / "logs"), str(place / "out"), DATES)


def flip(path: Path) -> None:
    """The same rows but for one label."""
    table = pq.read_table(path)
    clicked = table.column("clicked").to_pylist()
    clicked[0] = 1 - clicked[0]
    at = table.column_names.index("clicked")
    pq.write_table(table.set_column(at, "clicked", pa.array(clicked, pa.int32())), path)


def other_price(path: Path) -> None:
    """As many rows and positives, with other values."""
    table = pq.read_table(path)
    at = table.column_names.index("price")
    pq.write_table(table.set_column(at, "price", pa.array([7.0] * table.num_rows)), path)


CHANGES: dict[str, Change] = {
    "removed": Path.unlink,
    "added": lambda path: shutil.copy(path, path.with_name("part-2.parquet")),
    "another label": flip,
    "another value": other_price,
}


def test_manifests_hold_what_was_read_and_what_was_kept(tmp_path: Path, spark: SparkSession) -> None:
    write_logs(tmp_path / "logs")
    plan = planned(tmp_path, **SAMPLED)
    built = build(spark, plan)
    counted = [read_manifest(directory, AggregateManifest) for directory in plan.aggregate_dirs.values()]
    train = read_manifest(built.train_dir, DatasetManifest)
    assert [manifest.rows for manifest in counted] == [120, 120, 120]
    assert train.log_rows == 240
    assert train.positives < train.rows < 240
    assert train.positives == sum(manifest.positives for manifest in counted[:2])
    assert train.rows == sum(entry.rows or 0 for entry in train.data_files)
    holdout = read_manifest(str(built.holdout_dir), DatasetManifest)
    assert (holdout.log_rows, holdout.rows, holdout.positives) == (120, 120, counted[2].positives)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("sampling", [{}, SAMPLED], ids=["all", "sampled"])
def test_a_log_that_changes_between_counting_and_encoding_is_noticed(
    tmp_path: Path, spark: SparkSession, change: str, sampling: dict[str, object]
) -> None:
    changing = write_logs(tmp_path / "logs")
    plan = planned(tmp_path, **sampling)
    aggregate(spark, plan)
    CHANGES[change](changing)
    with pytest.raises(DataError, match=r"the log has changed|files of the log were") as caught:
        build(spark, plan)
    assert not is_published(plan.built.train_dir)
    assert not is_published(plan.built.state_dir)
    assert "2026-01-01" in str(caught.value)


@pytest.mark.parametrize("change", ["removed", "added"])
def test_rows_that_encoding_finds_and_counting_did_not_are_told_in_numbers(
    tmp_path: Path, spark: SparkSession, change: str
) -> None:
    """With nothing but the rows to go by: the state is there already, and the files are not looked at again."""
    changing = write_logs(tmp_path / "logs")
    plan = planned(tmp_path, **SAMPLED)
    building.fit(spark, plan)
    CHANGES[change](changing)
    rows = 200 if change == "removed" else 280
    with pytest.raises(DataError, match=f"encoding has read {rows} rows with \\d+ positives, not 240 rows") as caught:
        build(spark, plan)
    assert "date 2026-01-01: there were 120 rows" in str(caught.value)
    assert f"there are {rows - 120} rows" in str(caught.value)
    assert not is_published(plan.built.train_dir)


def test_a_file_that_is_there_for_a_moment_is_not_counted(
    tmp_path: Path, spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    changing = write_logs(tmp_path / "logs")
    plan = planned(tmp_path)
    real = counting.read_logs

    def with_guest(*args: object) -> object:
        guest = changing.with_name("part-9.parquet")
        shutil.copy(changing, guest)
        return real(*args)  # type: ignore[arg-type]

    totals = counting.check_values(spark, plan.spec, plan.days)
    monkeypatch.setattr(counting, "read_logs", with_guest)
    of_day = {plan.aggregate_dirs[day.date]: (day, totals[day.date]) for day in plan.days}
    with pytest.raises(DataError, match=r"counting has read 400 rows .* not 360 rows"):
        counting.publish_aggregates(spark, plan.spec, of_day)
    assert not any(is_published(directory) for directory in plan.aggregate_dirs.values())


def test_other_rows_of_a_timestamped_log_are_noticed_by_their_hashes(tmp_path: Path, spark: SparkSession) -> None:
    """As many rows and positives, and no folder of a day whose files could be looked at."""
    folder = tmp_path / "logs"
    folder.mkdir()
    for day in (1, 2, 3):
        pq.write_table(make_day(day, 120), folder / f"{day}.parquet")
    spec = FeatureSpec.model_validate(CONFIG["features"])
    logs = logs_at(InputConfig(days="timestamp"), str(folder), lambda: spark)
    plan = plan_build(spec, logs, str(tmp_path / "out"), DATES)
    assert all(day.hashes is not None for day in plan.days)
    building.fit(spark, plan)
    other_price(folder / "1.parquet")
    with pytest.raises(DataError, match="the log has changed since its rows were counted"):
        build(spark, plan)
