"""The whole job on small logs: point in time, append-only ids, determinism."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from pyspark.sql import SparkSession

from nightjar.features.contract.manifests import DatasetManifest, StateManifest
from nightjar.features.contract.publishing import read_manifest, verify
from nightjar.features.dataset.build import (
    BuildDates,
    BuildPlan,
    BuildSettings,
    BuiltFeatures,
    build,
    encode_days,
    plan_build,
)
from nightjar.features.encoder.encoder import FIRST_ID, ColumnValues, Encoder
from nightjar.features.encoder.ragged import Ragged
from nightjar.features.encoder.rows import hash_rows
from nightjar.features.encoder.state import FittedState, load_state
from tests.kits.feature_logs import (
    SPEC,
    days,
    files_under,
    make_day,
    read_encoded,
    read_logs,
    write_day,
    write_logs,
)
from tests.kits.submit import CLUSTER, submit

REPOSITORY = Path(__file__).parents[3]
DATES = days("2026-03-01", 6)
TRAIN_FROM, TRAIN_TO, HOLDOUT = DATES[1], DATES[4], DATES[5]
SETTINGS = BuildSettings(min_files=3, rows_per_file=50)
TODAY = {"live"}


def plan(logs: Path, output: Path, train_to: str = TRAIN_TO, holdout: str | None = HOLDOUT) -> BuildPlan:
    return plan_build(
        SPEC,
        str(logs),
        str(output),
        BuildDates(train_from=TRAIN_FROM, train_to=train_to, history_from=DATES[0], holdout=holdout),
        settings=SETTINGS,
    )


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_logs(tmp_path_factory.mktemp("raw") / "logs", DATES)


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("features")


@pytest.fixture(scope="module")
def built(spark: SparkSession, logs: Path, output: Path) -> BuiltFeatures:
    return build(spark, plan(logs, output))


@pytest.fixture(scope="module")
def day_before(spark: SparkSession, logs: Path, output: Path, built: BuiltFeatures) -> BuiltFeatures:
    """The same history, ending one day earlier."""
    return build(spark, plan(logs, output, train_to=DATES[3], holdout=DATES[4]))


def state_of(built: BuiltFeatures) -> FittedState:
    return load_state(built.state_dir, read_manifest(built.state_dir, StateManifest))


def encoded(built: BuiltFeatures) -> dict[float, dict[str, Any]]:
    assert built.holdout_dir
    return read_encoded(built.train_dir) | read_encoded(built.holdout_dir)


def frequency_columns(*, today: bool) -> list[str]:
    return [
        f"d_{f.name}_{window}_{statistic}"
        for f in SPEC.frequencies
        for window in f.windows
        for statistic in f.statistics
        if (f.name in TODAY) == today
    ]


def as_lists(column: ColumnValues) -> list[Any]:
    if isinstance(column, Ragged):
        return [part.tolist() for part in np.split(column.values, column.offsets[1:-1])]
    return list(column.tolist())


def test_every_row_of_the_logs_is_encoded_once_in_files_of_one_row_group(built: BuiltFeatures, logs: Path) -> None:
    for directory, dates in ((built.train_dir, DATES[1:5]), (built.holdout_dir, [HOLDOUT])):
        assert directory
        manifest = read_manifest(directory, DatasetManifest)
        verify(directory, manifest)
        raw = read_logs(logs, dates)
        truths = sorted(t for table in raw.values() for t in table["row_id"].to_pylist())
        assert sorted(read_encoded(directory)) == truths
        assert manifest.rows == len(truths) == sum(entry.rows or 0 for entry in manifest.data_files)
        assert manifest.positives == sum(sum(table["clicked"].to_pylist()) for table in raw.values())
        assert len(manifest.data_files) == max(3, -(-len(truths) // 50))
        for entry in manifest.data_files:
            footer = pq.ParquetFile(Path(directory, entry.path)).metadata
            assert (footer.num_row_groups, footer.num_rows) == (1, entry.rows)


def test_frequency_counts_equal_a_count_by_hand_over_all_rows(built: BuiltFeatures, logs: Path) -> None:
    rows = [
        row | {"day": n}
        for n, table in enumerate(read_logs(logs, DATES).values())
        for row in table.rename_columns([name.replace("app.id", "app") for name in table.column_names]).to_pylist()
    ]
    found = encoded(built)
    for row in rows:
        if row["day"] == 0:
            continue
        for frequency in SPEC.frequencies:
            same_key = [other for other in rows if all(other[k] == row[k] for k in frequency.keys)]
            for window in frequency.windows:
                end = row["day"] - frequency.delay_days
                start = 0 if window == "all" else end - int(window[:-1])
                counted = [other for other in same_key if start <= other["day"] < end]
                if frequency.as_of == "impression":
                    counted += [o for o in same_key if o["day"] == row["day"] and o["at"] < row["at"]]
                name = f"d_{frequency.name}_{window}"
                assert found[row["row_id"]][f"{name}_impressions"] == len(counted)
                assert found[row["row_id"]][f"{name}_positives"] == sum(o["clicked"] for o in counted)


def test_serving_encodes_the_raw_holdout_rows_as_spark_did(built: BuiltFeatures, logs: Path) -> None:
    state = state_of(built)
    (raw,) = read_logs(logs, [HOLDOUT]).values()
    served = Encoder(SPEC, state.encoder).encode(hash_rows(state, raw))
    assert built.holdout_dir
    rows = read_encoded(built.holdout_dir)
    # Without a request's own columns for them, serving cannot know today's earlier impressions.
    for name in served.keys() - set(frequency_columns(today=True)):
        spark_side = [rows[truth][name] for truth in raw["row_id"].to_pylist()]
        assert as_lists(served[name]) == spark_side


def test_golden_rows_are_encoded_by_serving_as_by_spark(built: BuiltFeatures) -> None:
    assert built.holdout_dir
    raw, expected = (pq.read_table(Path(built.holdout_dir, "golden", f"{n}.parquet")) for n in ("raw", "encoded"))
    assert raw.num_rows == expected.num_rows == 60
    state = state_of(built)
    for name, column in Encoder(SPEC, state.encoder).encode(hash_rows(state, raw)).items():
        assert as_lists(column) == expected[name].to_pylist()


def test_the_same_logs_give_the_same_bytes_whatever_sparks_parallelism(
    spark: SparkSession, built: BuiltFeatures, logs: Path, output: Path, tmp_path: Path
) -> None:
    moved = tmp_path / "logs"
    for day, table in read_logs(logs, DATES).items():
        shutil.copytree(logs / f"date={day}", moved / f"date={day}")
        assert table.num_rows
    other = spark.newSession()
    for key, value in {"shuffle.partitions": "5", "files.maxPartitionBytes": "4k", "adaptive.enabled": "false"}.items():
        other.conf.set(f"spark.sql.{key}", value)
    codec = spark.conf.get("spark.sql.parquet.compression.codec")
    assert codec
    other.conf.set("spark.sql.parquet.compression.codec", codec)
    again = build(other, plan(moved, tmp_path / "features"))
    for first, second in zip(built.directories(), again.directories(), strict=True):
        assert Path(first).name == Path(second).name
        assert files_under(Path(first)) == files_under(Path(second))


def test_a_days_labels_move_no_feature_of_that_day_and_some_of_the_next(
    spark: SparkSession, built: BuiltFeatures, logs: Path, tmp_path: Path
) -> None:
    changed = DATES[3]
    raw = make_day(changed, 60)
    labels = pa.array([1 - label for label in raw["clicked"].to_pylist()], pa.int32())
    shutil.copytree(logs, tmp_path / "logs")
    shutil.rmtree(tmp_path / "logs" / f"date={changed}")
    write_day(tmp_path / "logs", changed, raw.set_column(0, "clicked", labels))
    other = encoded(build(spark, plan(tmp_path / "logs", tmp_path / "features")))
    mine = encoded(built)

    def moved(day: str, columns: list[str]) -> bool:
        truths = make_day(day, 60)["row_id"].to_pylist()
        return any(repr(mine[t][c]) != repr(other[t][c]) for t in truths for c in columns)

    features = [name for name in next(iter(mine.values())) if name not in ("label", "truth")]
    assert not moved(changed, [name for name in features if name not in frequency_columns(today=True)])
    assert not moved(DATES[2], features)
    assert moved(DATES[4], ["d_app_1d_rate"])
    # The first rows of the day have no earlier rows of the day to learn from.
    times = raw["at"].to_pylist()
    first = [t for t, at in zip(raw["row_id"].to_pylist(), times, strict=True) if at == min(times)]
    assert all(mine[t][c] == other[t][c] for t in first for c in frequency_columns(today=True))


def test_later_days_change_no_count_of_earlier_ones(built: BuiltFeatures, day_before: BuiltFeatures) -> None:
    longer, shorter = encoded(built), encoded(day_before)
    assert len(shorter) == 240
    for truth, row in shorter.items():
        for column in frequency_columns(today=False) + frequency_columns(today=True):
            assert row[column] == longer[truth][column]


def test_a_later_state_keeps_every_id_and_appends_new_ones(built: BuiltFeatures, day_before: BuiltFeatures) -> None:
    later, earlier = state_of(built).encoder.vocabularies, state_of(day_before).encoder.vocabularies
    for field in SPEC.fields:
        old, new = earlier[field.name], later[field.name]
        np.testing.assert_array_equal(new.lookup(old.hashes), old.ids)
        assert sorted(new.ids) == list(range(FIRST_ID, new.size))


def test_published_steps_are_found_again_and_never_written(
    spark: SparkSession, built: BuiltFeatures, logs: Path, output: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*")}
    with caplog.at_level("INFO"):
        assert build(spark, plan(logs, output)) == built
    assert {path: path.stat().st_mtime_ns for path in output.rglob("*")} == before
    assert "nothing to do: everything is published already" in caplog.text


def test_a_day_is_encoded_under_any_state_as_under_its_own(
    spark: SparkSession, logs: Path, output: Path, built: BuiltFeatures
) -> None:
    assert built.holdout_dir
    scored = encode_days(spark, plan(logs, output), built.state_dir, [HOLDOUT])
    assert read_encoded(scored) == read_encoded(built.holdout_dir)
    assert read_manifest(scored, DatasetManifest).rows == read_manifest(built.holdout_dir, DatasetManifest).rows


def test_an_older_state_gives_a_later_days_rows_their_own_days_counts(
    spark: SparkSession, logs: Path, output: Path, built: BuiltFeatures, day_before: BuiltFeatures
) -> None:
    assert built.holdout_dir
    older = read_encoded(encode_days(spark, plan(logs, output), day_before.state_dir, [HOLDOUT]))
    newer = read_encoded(built.holdout_dir)
    counts = [*frequency_columns(today=False), *frequency_columns(today=True)]
    assert {row: [values[c] for c in counts] for row, values in older.items()} == {
        row: [values[c] for c in counts] for row, values in newer.items()
    }


@pytest.mark.timeout(600)
def test_the_job_runs_under_spark_submit_on_several_processes(tmp_path: Path) -> None:
    dates = days("2026-03-01", 2)
    logs = write_logs(tmp_path / "logs", dates, rows=40)
    features = SPEC.model_dump(mode="json")
    features |= {"fields": features["fields"][:3], "crosses": features["crosses"][:1]}
    features["frequencies"] = features["frequencies"][2:]
    (tmp_path / "conf.yaml").write_text(yaml.safe_dump({"features": features}))
    arguments = ["--config", str(tmp_path / "conf.yaml"), "--logs", str(logs), "--output", str(tmp_path / "features")]
    arguments += ["--min-files", "2", "--train-from", dates[0], "--train-to", dates[0], "--holdout", dates[1]]
    status, out, err = submit("build_features", arguments, tmp_path, CLUSTER)
    assert status == 0, err[-3000:]
    published = sorted((tmp_path / "features" / "datasets").iterdir())
    assert [path.name.rpartition("-")[0] for path in published] == [
        f"holdout-{dates[1]}",
        f"train-{dates[0]}..{dates[0]}",
    ]
    for path in published:
        verify(str(path), read_manifest(str(path), DatasetManifest))
        assert f"{path}: " in out
