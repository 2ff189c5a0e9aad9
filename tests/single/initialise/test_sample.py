"""Which rows are looked at, of which files, and by which types Spark will read them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.orc as orc
import pyarrow.parquet as pq
import pytest

from nightjar.features.contract.errors import DataError
from nightjar.features.input.config import InputConfig
from nightjar.jobs.initialise.sample import take_sample
from tests.single.initialise.sample_logs import folder_of, impressions, write_logs

CSV = "clicked,shown_at,user_id,zip,price,tag\n1,2026-01-01 10:00:00,u1,007,0.5,\n0,2026-01-01 11:00:00,u2,123,2,\n"
COLUMNS = ("clicked", "shown_at", "user_id", "zip", "price", "tag")


def test_a_log_that_fits_is_read_whole(tmp_path: Path) -> None:
    sample = take_sample(str(write_logs(tmp_path, days=3, rows=50)), rows=1000)
    assert (len(sample.table), sample.total, sample.share) == (150, 150, 1.0)
    assert sample.days == {"2026-01-01": 50, "2026-01-02": 50, "2026-01-03": 50}


def test_a_larger_one_is_sampled_over_a_week_of_its_newest_days(tmp_path: Path) -> None:
    sample = take_sample(str(write_logs(tmp_path, days=9, rows=300)), rows=700)
    assert sample.found[0] == "2026-01-01"
    assert list(sample.days) == [f"2026-01-0{day}" for day in range(3, 10)]
    assert sample.days["2026-01-09"] == 300, "all rows of the day are counted, not those of the sample"
    assert len(sample.table) == pytest.approx(700, abs=7)


def test_a_files_rows_are_seen_from_end_to_end(tmp_path: Path) -> None:
    pq.write_table(pa.table({"n": range(10_000)}), tmp_path / "a.parquet", row_group_size=500)
    sample = take_sample(str(tmp_path), rows=100)
    seen = sample.table["n"].to_numpy()
    assert len(seen) <= 104
    assert seen.min() == 0
    assert seen.max() == 9_999
    assert sample.total == 10_000


def test_files_are_opened_until_the_sample_is_full(tmp_path: Path) -> None:
    for i in range(9):
        pq.write_table(pa.table({"n": [i] * 10}), tmp_path / f"{i}.parquet")
    few, all_of_them = take_sample(str(tmp_path), rows=8), take_sample(str(tmp_path), rows=1000)
    assert set(few.table["n"].to_pylist()) == {0, 2, 5, 8}
    assert few.total == 90, "files that were not opened are counted by those that were"
    assert len(all_of_them.table) == 90


@pytest.mark.parametrize("name", ["0.csv", "0.csv.gz"])
def test_types_of_a_csv_are_those_that_all_its_values_have(tmp_path: Path, name: str) -> None:
    folder = folder_of(tmp_path, 0)
    folder.mkdir()
    (folder / name).write_bytes(gzip.compress(CSV.encode()) if name.endswith(".gz") else CSV.encode())
    sample = take_sample(str(tmp_path), rows=100)
    section = sample.input_section(COLUMNS)
    assert section == {
        "format": "csv",
        "columns": {
            "clicked": "bigint",
            "shown_at": "timestamp",
            "user_id": "string",
            "zip": "string",  # a number would lose the zeros of 007
            "price": "double",
            "tag": "string",
        },
    }
    assert InputConfig.model_validate(section).is_text
    assert sample.input_section(("clicked",))["columns"] == {"clicked": "bigint"}


def test_a_csv_may_be_separated_otherwise(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text(CSV.replace(",", "\t"))
    section = take_sample(str(tmp_path), rows=100).input_section(COLUMNS)
    assert (section["days"], section["options"]) == ("timestamp", {"sep": "\t"})


def test_a_text_file_is_sampled_evenly_and_counted(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("n\n" + "".join(f"{i}\n" for i in range(1, 5001)))
    first, again = (take_sample(str(tmp_path), rows=500) for _ in range(2))
    assert (len(first.table), first.total) == (500, 5000)
    assert first.table.equals(again.table)
    assert np.mean(first.table["n"].to_numpy()) == pytest.approx(2500, rel=0.1)


def test_lines_of_json_may_lack_columns_and_hold_lists(tmp_path: Path) -> None:
    rows = [{"clicked": 1, "tags": ["a", "b"], "at": "2026-01-01T10:00:00"}, {"clicked": 0, "score": 0.5}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "b.jsonl").write_text('{"clicked": 1, "score": 1}')
    sample = take_sample(str(tmp_path), rows=100)
    assert sample.input_section(("clicked", "tags", "at", "score")) == {
        "format": "json",
        "days": "timestamp",
        "columns": {"clicked": "bigint", "tags": "array<string>", "at": "timestamp", "score": "double"},
    }
    assert sample.table["score"].to_pylist() == [None, 0.5, 1.0]


def test_orc_timestamps_are_those_that_spark_reads(tmp_path: Path) -> None:
    orc.write_table(pa.table({"at": pa.array([0], pa.timestamp("us"))}), tmp_path / "a.orc")
    sample = take_sample(str(tmp_path), rows=100)
    assert sample.table.schema.field("at").type == pa.timestamp("us")
    assert sample.input_section(()) == {"format": "orc", "days": "timestamp"}


def test_parquet_in_date_folders_needs_no_input_section(tmp_path: Path) -> None:
    assert take_sample(str(write_logs(tmp_path, days=1)), rows=100).input_section(COLUMNS) == {}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "holds neither date=YYYY-MM-DD folders nor files that end in one of"),
        ({"readme.txt": "x"}, "holds neither date=YYYY-MM-DD folders nor files that end in one of"),
        (
            {"a.csv": "n\n1\n", "b.json": "{}\n"},
            "holds files of several formats: ['csv', 'json']. Give --logs a folder",
        ),
        ({"a.csv": "n,m\n1\n"}, "a.csv cannot be read as csv (a row has 1 columns, the header 2: ['1']). Restore"),
        ({"a.parquet": "no"}, "a.parquet cannot be read as parquet ("),
        ({"a.csv": "n\n"}, "holds no rows. Give --logs a log with rows."),
        ({"a.json": '{"n": 1}\n', "b.json": '{"n": "x"}\n'}, "do not agree: "),
    ],
)
def test_logs_that_cannot_be_read_are_told(tmp_path: Path, files: dict[str, str], message: str) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(DataError) as caught:
        take_sample(str(tmp_path), rows=100)
    assert message in str(caught.value)


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no .*nowhere\. Give --logs the folder of the logs"):
        take_sample(f"{tmp_path}/nowhere", rows=100)


def test_a_column_that_only_some_files_have_is_missing_in_the_others(tmp_path: Path) -> None:
    write_logs(tmp_path, days=1, rows=5)
    columns = {name: values for name, values in impressions(1, 5).items() if name != "price"}
    folder_of(tmp_path, 1).mkdir()
    pq.write_table(pa.table(columns), folder_of(tmp_path, 1) / "0.parquet")
    assert take_sample(str(tmp_path), rows=100).table["price"].null_count == 5
