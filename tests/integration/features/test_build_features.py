"""The whole job on small logs: point in time, append-only ids, determinism, and what bad input gives."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from pyspark.sql import SparkSession

from nightjar.features.contract.errors import DataError
from nightjar.features.contract.manifest import DatasetManifest, StateManifest, read_manifest, verify
from nightjar.features.dataset.build import (
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
from nightjar.features.input.damage import damage_reported
from nightjar.features.input.files import WITHOUT_ROWS
from nightjar.jobs.build_features import main
from tests.kits.feature_logs import (
    SPEC,
    days,
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
        train_from=TRAIN_FROM,
        train_to=train_to,
        history_from=DATES[0],
        holdout=holdout,
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


def files_under(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


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


@pytest.fixture
def small(tmp_path: Path, spark: SparkSession) -> Iterator[tuple[Path, list[str], Path]]:
    """Logs of three days, a command line for them, and an output that must stay as it is."""
    logs = write_logs(tmp_path / "logs", DATES[:3], rows=8)
    (tmp_path / "conf.yaml").write_text(yaml.safe_dump({"features": SPEC.model_dump(mode="json")}))
    output = tmp_path / "features"
    (output / "states" / "earlier").mkdir(parents=True)
    (output / "states" / "earlier" / "manifest.json").write_text("{}")
    before = files_under(output)
    argv = ["--config", str(tmp_path / "conf.yaml"), "--logs", str(logs), "--output", str(output)]
    yield logs, [*argv, "--train-from", DATES[0], "--train-to", DATES[1], "--holdout", DATES[2]], output
    assert files_under(output) == before


def replace(logs: Path, day: str, table: pa.Table) -> None:
    shutil.rmtree(logs / f"date={day}")
    write_day(logs, day, table, files=1)


def test_all_mistakes_in_the_logs_are_reported_at_once(
    small: tuple[Path, list[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    logs, argv, _ = small
    good = make_day(DATES[1], 8)
    wrong = good.drop_columns(["age"]).set_column(9 - 1, "price", pa.array(["cheap"] * 8))
    replace(logs, DATES[1], wrong)
    shutil.rmtree(logs / f"date={DATES[2]}")
    broken = logs / f"date={DATES[0]}" / "part-1.parquet"
    broken.write_bytes(broken.read_bytes()[:-20])
    assert main(argv) == 2
    names = [name for name in good.column_names if name != "age"]
    assert capsys.readouterr().err == (
        f"build_features: error: the logs in {logs} have 4 problem(s):\n"
        f"  date {DATES[0]}: {broken} is not a readable Parquet file (Parquet magic bytes not found in footer. "
        f"Either the file is corrupted or this is not a parquet file). Restore or remove it.\n"
        f"  date {DATES[1]}: the columns ['age'] are missing; the log has {names}. "
        f"Correct the feature spec or the log.\n"
        f"  date {DATES[1]}: column 'price' (dense price) has the type string; it must be integral or floating or "
        f"boolean. Cast it in the log.\n"
        f"  date {DATES[2]}: there are no Parquet files. {WITHOUT_ROWS}\n"
    )


def test_a_day_without_rows_is_an_error(
    small: tuple[Path, list[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    logs, argv, _ = small
    replace(logs, DATES[1], make_day(DATES[1], 8).slice(0, 0))
    assert main(argv) == 2
    assert capsys.readouterr().err == (
        f"build_features: error: the logs in {logs} have 1 problem(s):\n"
        f"  date {DATES[1]}: the log is empty. {WITHOUT_ROWS}\n"
    )


def test_labels_other_than_0_and_1_are_counted_and_refused(
    small: tuple[Path, list[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    logs, argv, _ = small
    table = make_day(DATES[1], 8)
    replace(logs, DATES[1], table.set_column(0, "clicked", pa.array([0, 1, 2, 2, -1, None, 0, 1], pa.int32())))
    assert main(argv) == 2
    assert capsys.readouterr().err == (
        "build_features: error: the logs hold values that cannot be used (1 problem(s)):\n"
        f"  date {DATES[1]}: label 'clicked' must be 0 or 1; found 2 (2 rows), -1 (1 rows), null (1 rows)\n"
        "Correct or leave out those rows; nothing was published.\n"
    )


def test_damage_inside_a_file_is_an_error_that_names_it(
    small: tuple[Path, list[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    logs, argv, _ = small
    path = logs / f"date={DATES[1]}" / "part-0.parquet"
    content = bytearray(path.read_bytes())
    content[4:200] = b"\xff" * 196
    path.write_bytes(content)
    assert main(argv) == 2
    assert f"{path} is damaged" in capsys.readouterr().err


def test_a_task_without_room_to_write_is_one_clear_error(spark: SparkSession) -> None:
    def write(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "vocabulary/user/part-0.parquet")

    with pytest.raises(DataError) as error, damage_reported():
        spark.range(1).mapInArrow(write, "id bigint").collect()
    assert str(error.value) == (
        "a task of Spark's failed: [Errno 28] No space left on device: 'vocabulary/user/part-0.parquet'. "
        "Is there room, and may Spark's workers read and write there?"
    )


def test_rows_in_sub_folders_are_not_lost_in_silence(
    small: tuple[Path, list[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    logs, argv, _ = small
    folder = logs / f"date={DATES[1]}"
    (folder / "late").mkdir()
    (folder / "part-0.parquet").rename(folder / "late" / "part-0.parquet")
    assert main(argv) == 2
    assert f"Put them into {folder} itself" in capsys.readouterr().err


def test_a_holdout_that_is_not_the_next_day_is_an_error(
    small: tuple[Path, list[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    _, argv, _ = small
    assert main([*argv[:-1], DATES[4]]) == 2
    assert capsys.readouterr().err == (
        f"build_features: error: --holdout {DATES[4]} is not the day after --train-to {DATES[1]}, as of which the "
        f"state's counts are. Give --holdout {DATES[2]}.\n"
    )


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
