"""The config of an input, and what is found wrong with its files before Spark starts."""

from __future__ import annotations

import gzip
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.orc as orc
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from nightjar.features.contract import storage
from nightjar.features.contract.errors import DataError, SpecError, UsageError
from nightjar.features.contract.spec import FeatureSpec
from nightjar.features.input.config import InputConfig
from nightjar.features.input.folders import DateFolders, LogPartition, check_logs
from nightjar.features.input.timestamped import logs_at
from nightjar.features.spark.tables import for_spark, literal

SPEC = FeatureSpec.model_validate(
    {"name": "tiny", "label": "clicked", "timestamp": "at", "fields": [{"name": "item"}], "dense": [{"name": "price"}]}
)
COLUMNS = {"clicked": "int", "at": "timestamp", "item": "string", "price": "double"}
DAY = "2026-01-01"
ROW = "1,2026-01-01 10:00:00,a,0.5\n"


def no_spark() -> Any:
    pytest.fail("Spark was started")


def config(form: str = "csv", **changes: Any) -> InputConfig:
    text = {"columns": COLUMNS} if form in ("csv", "json") else {}
    return InputConfig.model_validate({"format": form, **text, **changes})


def check(root: Path, source: InputConfig, dates: Sequence[str] = (DAY,)) -> list[LogPartition]:
    return check_logs(logs_at(source, str(root), no_spark), dates, SPEC)


def error_of(root: Path, source: InputConfig, dates: Sequence[str] = (DAY,)) -> str:
    with pytest.raises(DataError) as caught:
        check(root, source, dates)
    return str(caught.value)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the files of DAY go."""
    folder = tmp_path / "my logs ü" / f"date={DAY}"
    folder.mkdir(parents=True)
    return folder


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"format": "parqet"}, "days: folders needs one of the formats .* got 'parqet'"),
        ({"format": "table"}, "For a table of any format give days: timestamp"),
        ({"columns": COLUMNS}, "parquet has types of its own"),
        ({"format": "csv", "columns": {"item": "text"}}, "columns.item"),
        ({"format": "csv", "columns": {"item": "array<string>"}}, "which a csv cannot hold"),
        ({"format": "csv", "columns": COLUMNS, "options": {"sep": ""}}, "options.sep must be one character or more"),
        ({"format": "csv", "columns": COLUMNS, "options": {"quote": "''"}}, "options.quote must be one character"),
        ({"format": "json", "columns": COLUMNS, "options": {"multiline": True}}, "a row of json must be a line"),
        (
            {"format": "csv", "columns": COLUMNS, "bad_rows": "drop", "options": {"Mode": "DROPMALFORMED"}},
            "options.mode",
        ),
        ({"bad_rows_at_most": {"no_label": 0.1}}, "bad_rows_at_most.no_label"),
        ({"path": "/logs"}, "path"),
    ],
)
def test_a_config_that_cannot_be_carried_out_is_refused(section: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        InputConfig.model_validate(section)


def test_a_log_must_be_somewhere_and_the_command_line_has_the_last_word(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"Give --logs, or input\.location"):
        logs_at(config(), None, no_spark)
    for given in (None, str(tmp_path)):
        with pytest.raises(DataError, match=f"{given or '/nowhere'} holds no date=YYYY-MM-DD folder"):
            logs_at(config(location="/nowhere"), given, no_spark).first_date(SPEC)


def test_spark_is_given_the_scheme_that_hadoop_knows(tmp_path: Path) -> None:
    urls = {"s3://a/b c": "s3a://a/b c", "s3a://a": "s3a://a", "gcs://a": "gs://a", "hdfs:///a": "hdfs:///a"}
    assert {url: for_spark(url) for url in urls} == urls
    assert for_spark(f"{tmp_path}/ü x") == f"file://{tmp_path}/ü x"
    assert literal("hdfs://name:8020/run[7]/a*") == r"hdfs://name:8020/run\[7\]/a\*"
    assert literal("/tmp/a:b") == "/tmp/a:b"
    with pytest.raises(UsageError, match="holds a colon"):
        literal("hdfs://name:8020/run[7]/12:00")


def test_columns_of_a_csv_are_found_by_name_and_the_rest_is_left_unread(folder: Path) -> None:
    names = ["price", "at", "", "item", "comment", "comment", "clicked"]
    (folder / "0.csv").write_text("\ufeff\n" + ";".join(f"'{name}'" for name in names) + "\n")
    source = config(options={"delimiter": ";", "QUOTE": "'", "nullValue": "-"})
    [day] = check(folder.parent, source)
    assert day.names == tuple(names)
    assert day.counted is None
    assert day.types == ("int32", "timestamp[us, tz=UTC]", "string", "double")
    assert source.typed(day.names) == [
        ("price", "double"),
        ("at", "timestamp"),
        ("unread:2", "string"),
        ("item", "string"),
        ("unread:4", "string"),
        ("unread:5", "string"),
        ("clicked", "int"),
    ]
    assert source.reader_options == {
        "mode": "FAILFAST",
        "header": "true",
        "columnpruning": "false",
        "pathglobfilter": "*",
        "delimiter": ";",
        "quote": "'",
        "nullvalue": "-",
    }


def test_a_csv_without_a_header_has_the_columns_of_the_config(folder: Path) -> None:
    (folder / "0.csv.gz").write_bytes(gzip.compress(ROW.encode()))
    [day] = check(folder.parent, config(options={"header": False}))
    assert day.names == tuple(COLUMNS)


@pytest.mark.parametrize(
    ("form", "files", "message"),
    [
        ("csv", {"0": "clicked,at,Item,price\n" + ROW}, "the columns ['item'] are missing; the log has "),
        ("csv", {"0": "clicked,at,item,price,item\n"}, "the columns ['item'] are there more than once"),
        ("csv", {"0": "clicked;at;item;price\n"}, "the log has ['clicked;at;item;price']"),
        ("csv", {"0": "clicked,at,item,price\n", "1": "at,item,price\n"}, "the log has ['at', 'item', 'price']"),
        ("csv", {"0": "clicked,at,item,price\n", "late/1": ROW}, "files in sub-folders are not read: ['late/1']"),
        ("csv", {"0": ""}, "the log is empty"),
        ("csv", {}, "there are no CSV files"),
        ("csv", {".0.crc": "x", "_SUCCESS": ""}, "there are no CSV files"),
        ("json", {"0": '{"clicked": 1}\n\n{"at": \n'}, "0 is not a readable JSON file (Expecting value"),
        ("json", {"0": "[1]\n"}, "0 is not a readable JSON file (row 1 is not an object)"),
        ("json", {"0": "{}\n"}, "the log is empty"),
        ("orc", {"0": "clicked"}, "0 is not a readable ORC file ("),
        ("csv", {"0.gz": "clicked"}, "0.gz is not a readable CSV file (Not a gzipped file"),
    ],
)
@pytest.mark.parametrize("days", ["folders", "timestamp"])
def test_files_that_cannot_be_used_are_told_before_spark_starts(
    folder: Path, form: str, files: dict[str, str], message: str, days: str
) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    assert message in error_of(folder.parent if days == "folders" else folder, config(form, days=days))


def test_every_day_and_every_file_is_looked_at(folder: Path) -> None:
    (folder / "0").write_bytes(b"clicked,\xff\n")
    second = folder.parent / "date=2026-01-02"
    second.mkdir()
    (second / "0").write_text("clicked,at\n")
    assert error_of(folder.parent, config(), [DAY, "2026-01-02", "2026-01-03"]).splitlines() == [
        f"the logs in {folder.parent} have 3 problem(s):",
        f"  date {DAY}: {folder / '0'} is not a readable CSV file ('utf-8' codec can't decode byte 0xff in position 8: "
        f"invalid start byte). Restore or remove it.",
        "  date 2026-01-02: the columns ['item', 'price'] are missing; the log has ['clicked', 'at']. Correct the "
        "feature spec or the log.",
        "  date 2026-01-03: there are no CSV files. Write the log of that day, list it under input.empty_days if there "
        "was no traffic, or begin after it (nightly.history_from, --history-from).",
    ]


def test_types_that_a_feature_cannot_have_or_that_are_not_given_are_refused(folder: Path) -> None:
    (folder / "0").write_text("clicked,at,item,price\n")
    source = config(columns=COLUMNS | {"at": "bigint"})
    assert "column 'at' (timestamp) has the type int64; it must be a timestamp" in error_of(folder.parent, source)
    few = config(columns={"clicked": "int"})
    with pytest.raises(SpecError, match=r"input.columns lacks the types of \['at', 'item', 'price'\]") as caught:
        check(folder.parent, few)
    block = '\n  columns:\n    "clicked": int\n    "at": timestamp\n    "item": string\n    "price": double'
    assert str(caught.value).endswith(block)
    (folder / "0").write_text("price,day,item,clicked,at\n")
    with pytest.raises(SpecError, match="types that the log has") as caught:
        check(folder.parent, InputConfig.model_validate({"format": "csv"}))
    block = '\n  columns:\n    "price": double\n    "item": string\n    "clicked": int\n    "at": timestamp'
    assert str(caught.value).endswith(block)
    (folder / "0").write_text("price,items,clicked,at\n")
    with pytest.raises(SpecError, match=r"read \['item'\], .* \['price', 'items', .* mean 'items' for 'item'\?"):
        check(folder.parent, few)


def test_an_orc_file_that_spark_cannot_open_is_told(folder: Path) -> None:
    table = pa.table({"clicked": [1], "at": pa.array([0], pa.timestamp("us")), "item": ["a"], "price": [0.5]})
    orc.write_table(table, folder / "0.orc")
    [day] = check(folder.parent, config("orc"))
    assert (day.rows, day.types) == (1, ("int64", "timestamp[us]", "string", "double"))
    zoned = table.set_column(1, "at", pa.array([0], pa.timestamp("us", "UTC")))
    orc.write_table(zoned, folder / "0.orc")
    assert "'at' is a `timestamp with local time zone`, which Spark cannot read" in error_of(
        folder.parent, config("orc")
    )


def test_a_day_is_known_by_its_files_and_by_how_they_are_read(folder: Path) -> None:
    path = folder / "0.csv"
    path.write_text("clicked,at,item,price\n" + ROW)
    os.utime(path, (1, 1))

    def identity(**changes: Any) -> str:
        return check(folder.parent, config(**changes))[0].fingerprint

    first = identity()
    assert identity(options={"nullValue": "a"}) != first
    assert identity(columns=COLUMNS | {"item": "bigint"}) != first
    path.rename(folder / "renamed")
    os.utime(folder / "renamed", (1, 2))
    assert identity() == first
    (folder / "renamed").write_text("clicked,at,item,price\n" + ROW.replace("a", "b"))
    os.utime(folder / "renamed", (1, 2))
    assert identity() != first
    (folder / "renamed").write_text("clicked,at,item,price\n" + ROW)
    assert identity() == first
    (folder / "late").write_text("clicked,at,item,price\n")
    assert identity() != first


def test_a_run_looks_into_a_file_again_only_where_it_was_written_since(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where size and time of change are those of before: to set that time changes the file's entry."""
    opened: list[str] = []
    real = storage.open_binary

    def noted(url: str) -> BinaryIO:
        opened.append(Path(url).name)
        return real(url)

    monkeypatch.setattr(storage, "open_binary", noted)
    logs, header = DateFolders(str(folder.parent), config("csv")), "clicked,at,item,price\n"
    changed, before = folder / "0.csv", 0
    for name in ("0.csv", "1.csv"):
        (folder / name).write_text(header + ROW)

    def look() -> tuple[str, set[str]]:
        opened.clear()
        [day] = logs.check([DAY], SPEC)
        return day.fingerprint, set(opened)

    first, seen = look()
    assert seen == {"0.csv", "1.csv"}
    assert look() == (first, set())
    entry = changed.stat()
    while not before or changed.stat().st_ctime_ns == entry.st_ctime_ns:  # clocks of file systems are coarse
        before = changed.write_text(header + ROW.replace("a", "b"))
        os.utime(changed, ns=(entry.st_atime_ns, entry.st_mtime_ns))
    second, seen = look()
    assert second != first
    assert seen == {"0.csv"}
    (folder / "1.csv").unlink()
    third, seen = look()
    assert third not in (first, second)
    assert seen == set()


def test_a_copy_of_a_large_parquet_file_is_the_same_log_and_another_value_in_it_is_not(folder: Path) -> None:
    """Where only a value in the middle of the file differs, neither the size nor the last 64 KiB need to."""
    rows = 400_000
    price = np.random.default_rng(0).random(rows)
    label, item, at = np.ones(rows, np.int32), np.zeros(rows, np.int64), pa.array(np.zeros(rows, np.int64))
    table = pa.table({"clicked": label, "at": at.cast(pa.timestamp("us")), "price": price, "item": item})

    def fingerprint(of: pa.Table) -> str:
        pq.write_table(of, folder / "0.parquet", compression="none", use_dictionary=False)
        return check(folder.parent, config("parquet"))[0].fingerprint

    first = fingerprint(table)
    assert (folder / "0.parquet").stat().st_size > 1 << 20
    os.utime(folder / "0.parquet", (1, 1))
    assert check(folder.parent, config("parquet"))[0].fingerprint == first
    price[rows // 2] = 1.5  # the largest, which the row group's statistics tell
    assert fingerprint(table.set_column(2, "price", pa.array(price))) != first


def test_parquet_in_date_folders_needs_no_config(folder: Path) -> None:
    table = pa.table({"clicked": [1], "at": pa.array([0], pa.timestamp("us")), "item": ["a"], "price": [0.5]})
    pq.write_table(table, folder / "0.parquet")
    (folder / "notes.txt").write_text("not a log")
    [day] = check_logs(str(folder.parent), [DAY], SPEC)
    assert (day.rows, day.names) == (1, ())
    assert day == check(folder.parent, InputConfig())[0]


def test_folders_that_are_out_of_bounds_in_time_begin_no_history(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for day in ("1970-01-01", "2019-12-31", DAY, "2999-01-01"):
        (tmp_path / f"date={day}").mkdir()
    with caplog.at_level(logging.WARNING):
        assert logs_at(config(earliest="2020-01-01"), str(tmp_path), no_spark).first_date(SPEC) == DAY
    assert "3 folders are of days before 2020-01-01" in caplog.text
    with pytest.raises(DataError, match="holds no date=YYYY-MM-DD folder of a day from 2027-01-01"):
        logs_at(config(earliest="2027-01-01"), str(tmp_path), no_spark).first_date(SPEC)


def test_a_timestamp_that_is_written_otherwise_is_of_the_type_that_it_is_written_in(folder: Path) -> None:
    (folder / "0.csv").write_text("clicked,at,item,price\n" + ROW)
    for form, kind in (("epoch_s", "string"), ("epoch_ms", "boolean"), ("dd.MM.yyyy", "bigint"), ("y", "timestamp")):
        problem = error_of(folder.parent, config(columns=COLUMNS | {"at": kind}, timestamp_format=form))
        assert "column 'at' (timestamp) has the type" in problem
        assert "as input.timestamp_format says. Cast it in the log." in problem
    for form, kind in (("epoch_s", "double"), ("epoch_ms", "bigint"), ("dd.MM.yyyy", "string")):
        check(folder.parent, config(columns=COLUMNS | {"at": kind}, timestamp_format=form))


def test_no_feature_reads_what_a_format_makes_a_timestamp() -> None:
    spec = SPEC.model_copy(update={"timestamp": "price"})
    with pytest.raises(SpecError, match=r"a timestamp of the column 'price', which the features \['price'\] read"):
        config(timestamp_format="epoch_s").require_types(spec)


def test_what_rules_and_split_read_is_proposed_with_their_usual_types() -> None:
    label = {"column": "rating", "at_least": 8}
    fields = [{"name": "genres", "multi_valued": True, "split": "|"}]
    spec = FeatureSpec.model_validate({"name": "tiny", "label": label, "timestamp": "at", "fields": fields})
    with pytest.raises(SpecError, match='    "rating": double\n    "at": bigint\n    "genres": string'):
        config(columns={"other": "int"}, timestamp_format="epoch_s").require_types(spec)
