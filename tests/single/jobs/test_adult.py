"""UCI's Adult files as logs: every row on a day, what is missing as null, the labels of both files alike."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from nightjar.features.contract.errors import DataError
from nightjar.features.contract.strict import load_yaml
from nightjar.features.input.folders import check_logs
from nightjar.jobs.import_adult import main
from nightjar.jobs.imports.adult import read_census
from nightjar.jobs.nightly.night import NightConfig

ROW = "{age}, Private, 77516, Bachelors, 13, Never-married, ?, Husband, White, Male, 2174, 0, 42, Cuba, {income}\n"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    source = tmp_path / "source"
    source.mkdir()
    rows = [ROW.format(age=20 + n, income=">50K" if n % 3 == 0 else "<=50K") for n in range(12)]
    (source / "adult.data").write_text("".join(rows) + "\n")
    test = [ROW.format(age=60 + n, income=(">50K." if n else "<=50K.")) for n in range(4)]
    (source / "adult.test").write_text("|1x3 Cross validator\n" + "".join(test))
    return source


def test_every_row_is_on_one_day_and_the_test_file_on_the_last(source: Path, tmp_path: Path) -> None:
    assert main(["--source", str(source), "--output", str(tmp_path / "logs")]) == 0
    days = [pq.ParquetFile(path).read() for path in sorted((tmp_path / "logs").rglob("*.parquet"))]
    assert [len(day) for day in days] == [3, 3, 2, 2, 2, 4]
    assert sorted(age for day in days[:5] for age in day["age"].to_pylist()) == list(range(20, 32))
    assert days[5]["high_income"].to_pylist() == [0, 1, 1, 1]
    assert {person["age"]: person["high_income"] for day in days[:5] for person in day.to_pylist()}[23] == 1
    first = days[0].to_pylist()[0]
    assert (first["occupation"], first["native_country"], first["hours_bucket"], first["age_bucket"]) == (
        *(None, "Cuba"),
        *(40, 20),
    )


def test_the_logs_are_what_the_spec_reads(source: Path, tmp_path: Path) -> None:
    assert main(["--source", str(source), "--output", str(tmp_path / "logs")]) == 0
    spec = load_yaml(Path(__file__).parents[3] / "conf/adult.yaml", NightConfig).features
    days = check_logs(str(tmp_path / "logs"), [f"1994-01-0{n}" for n in range(1, 7)], spec)
    assert sum(day.rows for day in days) == 16


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("39, State-gov\n", "is not a file of the Adult census"),
        (ROW.format(age=3, income="much"), r"has the labels \['much'\]"),
    ],
)
def test_another_file_is_one_clear_error(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "adult.data").write_text(text)
    with pytest.raises(DataError, match=message):
        read_census(str(tmp_path / "adult.data"))
