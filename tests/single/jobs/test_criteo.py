"""Criteo's tab-separated lines to date-partitioned logs, read back and compared with the lines."""

from __future__ import annotations

import random
from datetime import UTC
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from nightjar.features.contract.spec import FeatureSpec
from nightjar.features.contract.strict import load_yaml
from nightjar.features.input.days import dates_between
from nightjar.features.input.folders import check_logs
from nightjar.jobs.import_criteo import main
from nightjar.jobs.imports.criteo import CATEGORIES, NUMBERS

Line = tuple[int, list[int | None], list[str | None]]


def lines(count: int, seed: int) -> list[Line]:
    rng = random.Random(seed)
    return [
        (
            rng.randint(0, 1),
            [rng.choice([None, -1, 0, rng.randrange(10**6)]) for _ in NUMBERS],
            [rng.choice([None, f"{rng.randrange(2**32):08x}", '"', "05db9164"]) for _ in CATEGORIES],
        )
        for _ in range(count)
    ]


def write(path: Path, rows: list[Line]) -> str:
    def cell(value: object) -> str:
        return "" if value is None else str(value)

    path.write_text("".join("\t".join(map(cell, [label, *numbers, *values])) + "\n" for label, numbers, values in rows))
    return str(path)


def read(output: Path) -> dict[str, list[tuple[Line, object]]]:
    """Rows by day, in the order of time, with their times."""
    days = {}
    for folder in sorted(output.iterdir()):
        rows = [row for path in folder.iterdir() for row in pq.ParquetFile(path).read().to_pylist()]
        days[folder.name.removeprefix("date=")] = [
            ((row["label"], [row[n] for n in NUMBERS], [row[c] for c in CATEGORIES]), row["timestamp"])
            for row in sorted(rows, key=lambda row: row["timestamp"])
        ]
    return days


def test_a_single_file_becomes_days_that_hold_its_lines_in_order(tmp_path: Path) -> None:
    expected = lines(1500, 1)
    assert main(["--source", write(tmp_path / "train.txt", expected), "--output", str(tmp_path / "logs")]) == 0
    days = read(tmp_path / "logs")
    assert list(days) == dates_between("2014-06-01", "2014-06-07")
    assert [row for day in days.values() for row, _ in day] == expected
    assert all(len(day) > 100 for day in days.values())
    for day, rows in days.items():
        assert {at.astimezone(UTC).date().isoformat() for _, at in rows} == {day}
    spec = load_yaml("conf/criteo.yaml", FeatureSpec, "features")
    assert (len(spec.fields), len(spec.dense), len(spec.crosses)) == (26, 13, 6)
    assert sum(p.rows for p in check_logs(str(tmp_path / "logs"), list(days), spec)) == 1500


def test_each_of_several_files_is_a_day(tmp_path: Path) -> None:
    parts = [lines(40, 2), lines(30, 3)]
    sources = [write(tmp_path / f"day_{n}", rows) for n, rows in enumerate(parts)]
    assert main(["--source", *sources, "--output", str(tmp_path / "logs")]) == 0
    assert [[row for row, _ in day] for day in read(tmp_path / "logs").values()] == parts


def test_a_file_of_other_columns_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "day_0").write_text("1\t2\t3\n")
    assert main(["--source", str(tmp_path / "day_0"), "--output", str(tmp_path / "logs")]) == 2
    assert "is not a click log of 40 columns" in capsys.readouterr().err
