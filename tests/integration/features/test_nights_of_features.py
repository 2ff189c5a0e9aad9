"""Features night by night: what a day's labels and later days may change, and that nights one by one, interrupted and
repeated, give the bytes that all of them give from scratch."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from nightjar.features.contract.spec import DenseFeature, FeatureSpec
from nightjar.features.dataset.build import BuildDates, BuildPlan, BuildSettings, build, plan_build
from tests.kits.feature_logs import SPEC, days, make_day, write_day

DATES = days("2026-03-01", 4)
CHANGED, NEXT = DATES[2], DATES[3]
FAMILY = ("clicked", "w", "p")
ROW = "d_row"
SMALL = FeatureSpec.model_validate(
    SPEC.model_dump(mode="json")
    | {
        "truth": "p",
        "fields": [field.model_dump(mode="json") for field in SPEC.fields[1:3]],
        "dense": [
            SPEC.dense[0].model_dump(mode="json"),
            DenseFeature(name="row", column="row_id", transform="identity", missing_indicator=False).model_dump(),
        ],
        "crosses": [{"name": "tags_app", "fields": ["tags", "app"], "buckets": 1024}],
        "frequencies": [SPEC.frequencies[0].model_dump(mode="json")],
    }
)


def day_of(date: str) -> pa.Table:
    """`make_day` and a true probability."""
    table = make_day(date, 40)
    return table.append_column("p", pa.array(np.random.default_rng(len(table)).random(len(table))))


def plan(logs: Path, output: Path, night: str) -> BuildPlan:
    """The night of a date: trains on all days before but the first."""
    before = DATES[: DATES.index(night)]
    return plan_build(
        SMALL,
        str(logs),
        str(output),
        BuildDates(train_from=before[1], train_to=before[-1], history_from=before[0], holdout=night),
        settings=BuildSettings(min_files=2),
    )


def files_under(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def rows_of(directories: Sequence[str]) -> dict[float, dict[str, Any]]:
    tables = [pq.ParquetFile(path).read() for d in directories for path in sorted(Path(d, "data").iterdir())]
    return {row[ROW]: row for row in pa.concat_tables(tables).to_pylist()}


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("raw") / "logs"
    for date in DATES:
        write_day(root, date, day_of(date))
    return root


@pytest.fixture(scope="module")
def from_scratch(spark: SparkSession, logs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every night out of all logs, the last one first, which counts all days at once."""
    output = tmp_path_factory.mktemp("scratch")
    for night in reversed(DATES[2:]):
        build(spark, plan(logs, output, night))
    return output


def test_nights_one_by_one_killed_and_repeated_give_the_bytes_of_a_build_from_scratch(
    spark: SparkSession, logs: Path, from_scratch: Path, tmp_path: Path
) -> None:
    """Each night's logs end with its own day, so that no later row can have changed anything of it."""
    arriving, output = tmp_path / "logs", tmp_path / "out"
    for date in DATES:
        shutil.copytree(logs / f"date={date}", arriving / f"date={date}", copy_function=shutil.copy2)
        if date == DATES[3]:
            for step in ("counts.rollup", "dataset.write"):
                with (
                    patch(f"nightjar.features.{step}.commit", side_effect=KeyboardInterrupt),
                    pytest.raises(KeyboardInterrupt),
                ):
                    build(spark, plan(arriving, output, date))
        if date in DATES[2:]:
            build(spark, plan(arriving, output, date))
    found, expected = files_under(output), files_under(from_scratch)
    assert found.keys() == expected.keys()
    assert [path for path in found if found[path] != expected[path]] == []
    assert sum(path.startswith("datasets/") and path.endswith("manifest.json") for path in found) == 4


def test_permuting_a_days_labels_changes_no_feature_of_that_day_and_some_of_the_next(
    spark: SparkSession, logs: Path, from_scratch: Path, tmp_path: Path
) -> None:
    """The label, the weight and the true probability change places together; the rows and their times stay."""
    table = day_of(CHANGED)
    order = np.random.default_rng(7).permutation(len(table))
    for name in FAMILY:
        table = table.set_column(table.column_names.index(name), name, table.column(name).take(order))
    shutil.copytree(logs, tmp_path / "logs", copy_function=shutil.copy2)
    shutil.rmtree(tmp_path / "logs" / f"date={CHANGED}")
    write_day(tmp_path / "logs", CHANGED, table)
    (mine, other) = (
        rows_of(build(spark, plan(root, output, NEXT)).directories()[1:])
        for root, output in ((logs, from_scratch), (tmp_path / "logs", tmp_path / "out"))
    )
    assert mine.keys() == other.keys()
    features = [name for name in next(iter(mine.values())) if name not in ("label", "weight", "truth")]
    traced = {date: np.float32(day_of(date)["row_id"].to_numpy()).tolist() for date in DATES[1:]}

    def moved(date: str, columns: Sequence[str]) -> set[str]:
        return {c for c in columns if any(repr(mine[row][c]) != repr(other[row][c]) for row in traced[date])}

    assert moved(CHANGED, ["label", "weight", "truth"]) == {"label", "weight", "truth"}
    for date in DATES[1:3]:
        assert moved(date, features) == set()
    assert moved(NEXT, features) == {
        f"d_app_{window}_{statistic}"
        for window in ("1d", "3d", "all")
        for statistic in ("positives", "rate", "log_odds")
    }
