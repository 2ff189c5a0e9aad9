"""What logs that cannot be used give: one message that says what to do, and nothing published."""

from __future__ import annotations

import errno
import math
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
import yaml
from pyspark.sql import SparkSession

from nightjar.features.contract.errors import DataError
from nightjar.features.input.damage import damage_reported
from nightjar.features.input.files import WITHOUT_ROWS
from nightjar.jobs.build_features import main
from tests.kits.feature_logs import SPEC, days, files_under, make_day, write_day, write_logs

DATES = days("2026-03-01", 6)


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


def test_numbers_that_are_none_are_refused_as_labels_weights_and_truths(
    small: tuple[Path, list[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """A weight of 0 is one."""
    logs, argv, _ = small
    columns = {
        "clicked": [0.0, 1.0, math.nan, 0.5, math.inf, -math.inf, 1.0, 0.0],
        "w": [math.nan, -1.0, math.inf, None, 0.0, 1e300, 2.0, -0.0],
        "row_id": [math.nan, 0.1, -0.1, 1.1, math.inf, None, 0.0, 1.0],
    }
    table = make_day(DATES[1], 8)
    for name, values in columns.items():
        table = table.set_column(table.column_names.index(name), name, pa.array(values, pa.float64()))
    replace(logs, DATES[1], table)
    assert main(argv) == 2
    said = capsys.readouterr().err
    rows = "(1 rows)"
    for role, name, wanted, bad in (
        ("label", "clicked", "be 0 or 1", ("-Infinity", "0.5", "Infinity", "NaN")),
        ("weight", "w", "be finite and not negative", ("-1.0", "1.0E300", "Infinity", "NaN", "null")),
        ("truth", "row_id", "lie between 0 and 1", ("-0.1", "1.1", "Infinity", "NaN", "null")),
    ):
        found = ", ".join(f"{value} {rows}" for value in bad)
        assert f"  date {DATES[1]}: {role} '{name}' must {wanted}; found {found}\n" in said


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
