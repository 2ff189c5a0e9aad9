"""The job generate_logs: what it writes, what it refuses, and how it goes on after an interruption."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow.dataset as ds
import pytest

pytest.importorskip("pyspark")

from nightjar.jobs.generate_logs import main
from nightjar.jobs.imports.simulation import impressions
from nightjar.jobs.imports.simulation_config import SimulationConfig

ROWS, FILES = 300, 3
FIRST, SECOND = "date=2026-01-05", "date=2026-01-06"
pytestmark = pytest.mark.usefixtures("spark")


def generate(output: Path, *options: str) -> int:
    sizes = ["--rows-per-day", str(ROWS), "--files-per-day", str(FILES), "--users", "200"]
    return main(["--output", str(output), *sizes, *options])


def rows_of(output: Path, day: str) -> pd.DataFrame:
    table = ds.dataset(output / day, format="parquet").to_table()
    return table.to_pandas().sort_values("impression_id", ignore_index=True)


def state(output: Path) -> dict[str, int]:
    """Every visible file and when it was written."""
    return {str(p.relative_to(output)): p.stat().st_mtime_ns for p in output.rglob("[!.]*") if p.is_file()}


@pytest.fixture(scope="module")
def two_days(spark, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("generated") / "log"
    assert generate(output, "--days", "2") == 0
    return output


def test_every_day_is_a_directory_of_so_many_parquet_files_with_a_marker(two_days):
    assert sorted(p.name for p in two_days.iterdir() if not p.name.startswith(".")) == [
        "_generator.json",
        FIRST,
        SECOND,
    ]
    for day in (FIRST, SECOND):
        assert len(list((two_days / day).glob("*.parquet"))) == FILES
        assert (two_days / day / "_SUCCESS").exists()


def test_files_hold_the_rows_of_the_simulation(spark, two_days):
    config = SimulationConfig(rows_per_day=ROWS, users=200)
    expected = impressions(spark.range(ROWS), config, 1).drop("date").toPandas()
    written = rows_of(two_days, SECOND)
    written["timestamp"] = written["timestamp"].dt.tz_localize(None).astype(expected["timestamp"].dtype)
    pd.testing.assert_frame_equal(written, expected, check_exact=True)
    log = spark.read.parquet(str(two_days))
    assert log.count() == 2 * ROWS
    assert dict(log.dtypes)["date"] == "date"


def test_a_second_run_changes_nothing_and_reports_the_same_floor(two_days, capsys):
    before = state(two_days)
    assert generate(two_days, "--days", "2") == 0
    assert state(two_days) == before
    report = capsys.readouterr().out
    assert f"rows        {2 * ROWS}" in report
    assert "0 of them written now" in report
    assert "Bayes floor log loss 0." in report


def test_another_recipe_is_refused_by_name_and_value_and_nothing_is_touched(two_days, capsys):
    before = state(two_days)
    assert generate(two_days, "--days", "2", "--seed", "8") == 2
    assert capsys.readouterr().err == (
        f"generate_logs: error: {two_days} holds a log of another recipe: config.seed is 7 there and 8 here. "
        f"Nothing was touched. Choose another --output, or give --overwrite to replace the log.\n"
    )
    assert state(two_days) == before


def test_an_interrupted_log_is_completed_then_replaced_on_request(tmp_path):
    output = tmp_path / "log"
    assert generate(output, "--days", "1") == 0
    finished, rows = state(output), rows_of(output, FIRST)
    (output / SECOND).mkdir()
    (output / SECOND / "part-00000-torn.parquet").write_bytes(b"PAR1")

    assert generate(output, "--days", "2") == 0
    assert finished.items() <= state(output).items()
    assert sorted(p.suffix for p in (output / SECOND).glob("*.parquet")) == [".parquet"] * FILES
    assert len(rows_of(output, SECOND)) == ROWS

    assert generate(output, "--days", "1", "--seed", "8", "--overwrite") == 0
    assert not (output / SECOND).exists()
    assert not rows_of(output, FIRST).equals(rows)


def test_a_directory_that_is_no_log_is_never_touched(tmp_path, capsys):
    (tmp_path / "thesis.txt").write_text("years of work")
    assert generate(tmp_path, "--overwrite") == 2
    assert "is not empty and has no _generator.json; it holds ['thesis.txt']" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_an_output_that_cannot_be_written_is_one_message(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert generate(tmp_path / "file" / "log") == 2
    error = capsys.readouterr().err
    assert error.startswith(f"generate_logs: error: cannot write or read the log {tmp_path}/file/log: ")
    assert "Traceback" not in error


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--seed", "x"],
            "seed: Input should be a valid integer, unable to parse string as an integer (got 'x')",
        ),
        (["--apps", "3"], "apps: Input should be greater than or equal to 32 (got '3')"),
        (["--days", "0"], "--days must be at least 1; got 0."),
        (["--days", "9999999"], "--days 9999999 from 2026-01-05 leads beyond the year 9999."),
        (["--files-per-day", "301"], "--files-per-day must not exceed --rows-per-day; got 301 and 300."),
        (["--config", "/none.yaml"], "cannot read /none.yaml: No such file or directory."),
    ],
)
def test_a_bad_command_line_is_refused_with_its_values(tmp_path, capsys, options, message):
    assert generate(tmp_path / "log", *options) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "log").exists()
