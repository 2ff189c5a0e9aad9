"""A column's type is what Spark reads, however a file spells it: within a day, and from one day to the next."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nightjar.features.contract.errors import DataError
from nightjar.features.contract.spec import FeatureSpec
from nightjar.features.input import files, folders
from nightjar.features.input.config import InputConfig
from nightjar.features.input.folders import DateFolders, LogPartition, check_logs

DAYS = ("2026-03-01", "2026-03-02")
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SPEC = FeatureSpec.model_validate(
    {
        "name": "t",
        "label": "y",
        "timestamp": "at",
        "fields": [{"name": "a"}, {"name": "l", "multi_valued": True}],
        "dense": [{"name": "x"}],
    }
)
UTC_MOMENTS = pa.timestamp("us", tz="UTC")


def table(**other: Any) -> pa.Table:
    columns = {
        "y": pa.array([0, 1]),
        "at": pa.array([NOON] * 2, UTC_MOMENTS),
        "a": pa.array(["p", "q"]),
        "l": pa.array([["p", "q"], ["r", "s"]]),
        "x": pa.array([1.5, 2.5]),
    }
    return pa.table(columns | other)


def write(root: Path, day: str, name: str, rows: pa.Table, **options: Any) -> None:
    folder = root / f"date={day}"
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(rows, folder / name, **options)


def moments(kind: pa.DataType) -> dict[str, pa.Array]:
    return {"at": pa.array([NOON if kind.tz else NOON.replace(tzinfo=None)] * 2, kind)}


SAME: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "INT96": ({}, {}, {"use_deprecated_int96_timestamps": True}),
    "milliseconds": ({}, moments(pa.timestamp("ms", tz="UTC")), {}),
    "seconds": ({}, moments(pa.timestamp("s", tz="UTC")), {}),
    "Berlin": ({}, moments(pa.timestamp("us", tz="Europe/Berlin")), {}),
    "+00:00": ({}, moments(pa.timestamp("us", tz="+00:00")), {}),
    "Etc/UTC": ({}, moments(pa.timestamp("ms", tz="Etc/UTC")), {}),
    "large string": ({}, {"a": pa.array(["p", "q"], pa.large_string())}, {}),
    "dictionary": ({}, {"a": pa.array(["p", "q"]).dictionary_encode()}, {}),
    "dictionary of integers": ({"a": [1, 2]}, {"a": pa.array([1, 2]).dictionary_encode()}, {}),
    "list of not null": ({}, {"l": pa.array([["p"], []], pa.list_(pa.field("e", pa.string(), nullable=False)))}, {}),
    "large list": ({}, {"l": pa.array([["p"], []], pa.large_list(pa.large_string()))}, {}),
    "fixed-size list": ({}, {"l": pa.array([["p", "q"], ["r", "s"]], pa.list_(pa.string(), 2))}, {}),
    "list of dictionaries": ({}, {"l": pa.array([["p"], []], pa.list_(pa.dictionary(pa.int32(), pa.string())))}, {}),
    "old name of list items": ({}, {}, {"use_compliant_nested_type": False}),
    "unsigned byte": ({"a": pa.array([1, 2], pa.int16())}, {"a": pa.array([1, 2], pa.uint8())}, {}),
    "unsigned short": ({"a": pa.array([1, 2], pa.int32())}, {"a": pa.array([1, 2], pa.uint16())}, {}),
    "unsigned int": ({"a": pa.array([1, 2], pa.int64())}, {"a": pa.array([1, 2], pa.uint32())}, {}),
    "unsigned long": (
        {"a": pa.array([Decimal(1)] * 2, pa.decimal128(20, 0))},
        {"a": pa.array([1, 2**64 - 1], pa.uint64())},
        {},
    ),
    "without Arrow's schema": ({}, {"a": pa.array(["p", "q"], pa.large_string())}, {"store_schema": False}),
    "format 1.0": ({}, {}, {"version": "1.0"}),
}


@pytest.mark.parametrize("case", SAME)
def test_another_spelling_is_the_same_type_within_a_day_and_between_days(tmp_path: Path, case: str) -> None:
    one, other, options = SAME[case]
    write(tmp_path, DAYS[0], "0.parquet", table(**one))
    write(tmp_path, DAYS[0], "1.parquet", table(**other), **options)
    write(tmp_path, DAYS[1], "0.parquet", table(**other), **options)
    first, second = check_logs(str(tmp_path), DAYS, SPEC)
    assert (first.types, first.columns) == (second.types, second.columns)


REFUSED = {
    "nanoseconds": (moments(pa.timestamp("ns", tz="UTC")), "'at' (timestamp) has the type timestamp[ns, tz=UTC]"),
    "date": ({"a": pa.array([NOON.date()] * 2)}, "'a' (field a) has the type date32[day]"),
    "time": ({"a": pa.array([time(1)] * 2, pa.time64("us"))}, "'a' (field a) has the type time64[us]"),
    "binary": ({"a": [b"p", b"q"]}, "'a' (field a) has the type binary"),
    "only nulls": ({"a": pa.nulls(2)}, "'a' (field a) has the type null"),
    "structure": ({"a": [{"b": 1}] * 2}, "'a' (field a) has the type struct<b: int64>"),
    "map": ({"l": pa.array([[("a", 1)]] * 2, pa.map_(pa.string(), pa.int64()))}, "'l' (field l) has the type map<"),
    "list of lists": ({"l": [[["p"]]] * 2}, "'l' (field l) has the type list<"),
    "fractions as categories": (
        {"a": pa.array([Decimal("1.5")] * 2, pa.decimal128(10, 2))},
        "'a' (field a) has the type decimal128(10, 2)",
    ),
    "large decimal": (
        {"x": pa.array([Decimal("1.5")] * 2, pa.decimal256(50, 2))},
        "'x' (dense x) has the type decimal256(50, 2)",
    ),
    "naive and aware": ({}, "column 'at' has several types in one day: ['timestamp[us, tz=UTC]', 'timestamp[us]']"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_type_that_cannot_be_carried_to_the_end_is_refused_by_name(tmp_path: Path, case: str) -> None:
    columns, message = REFUSED[case]
    write(tmp_path, DAYS[0], "0.parquet", table(**columns), version="2.6")
    if case == "naive and aware":
        write(tmp_path, DAYS[0], "1.parquet", table(**moments(pa.timestamp("us"))))
    with pytest.raises(DataError) as caught:
        check_logs(str(tmp_path), DAYS[:1], SPEC)
    assert message in str(caught.value)


def test_spark_is_told_to_read_what_the_spec_reads(tmp_path: Path) -> None:
    write(tmp_path, DAYS[0], "0.parquet", table(A=["twin"] * 2, at_ns=pa.array([0, 0], pa.timestamp("ns"))))
    [day] = check_logs(str(tmp_path), DAYS[:1], SPEC)
    assert day.columns == (
        ("y", "bigint"),
        ("at", "timestamp"),
        ("a", "string"),
        ("l", "array<string>"),
        ("x", "double"),
    )


JSON = InputConfig.model_validate(
    {
        "format": "json",
        "columns": {"y": "int", "at": "timestamp", "a": "string", "l": "array<string>", "x": "double"},
    }
)
LINE = '{"y": 1, "at": "2026-03-01T10:00:00Z", "a": "p"}\n'


def checked(root: Path, config: InputConfig = JSON, days: tuple[str, ...] = DAYS[:1]) -> list[LogPartition]:
    return DateFolders(str(root), config).check(days, SPEC)


@pytest.mark.parametrize("late", [LINE.replace("}", ', "l": ["p"], "x": 1}'), ""])
def test_a_declared_key_of_json_may_come_late_or_never_and_is_told_once(
    tmp_path: Path, late: str, caplog: pytest.LogCaptureFixture
) -> None:
    files._warn_of_absent_keys.cache_clear()
    (tmp_path / f"date={DAYS[0]}").mkdir()
    (tmp_path / f"date={DAYS[0]}" / "0.json").write_text(LINE * 150 + late)
    with caplog.at_level(logging.WARNING):
        [day] = checked(tmp_path)
        checked(tmp_path)
    assert day.columns == tuple(JSON.columns.items())
    [warning] = [record.getMessage() for record in caplog.records]
    assert "has the keys ['l', 'x'] of input.columns" in warning


@pytest.mark.parametrize("name", ["0000-00-00", "2026-02-30", "2026-3-1", "20260301", "__HIVE_DEFAULT_PARTITION__", ""])
def test_a_folder_that_is_no_date_is_left_out_and_told_once(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    folders._warn_of_folders.cache_clear()
    for day in (name, *DAYS):
        (tmp_path / f"date={day}").mkdir()
    with caplog.at_level(logging.WARNING):
        assert DateFolders(str(tmp_path)).first_date(SPEC) == DAYS[0]
        assert DateFolders(str(tmp_path)).first_date(SPEC) == DAYS[0]
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path}: left out 1 folder(s) whose names are no dates: date={name}"
    ]


def test_a_day_without_rows_must_be_declared_and_a_declared_one_must_have_none(tmp_path: Path) -> None:
    write(tmp_path, DAYS[0], "0.parquet", table())
    (tmp_path / f"date={DAYS[1]}").mkdir()
    with pytest.raises(DataError, match=r"no Parquet files\. .*input\.empty_days.*nightly\.history_from"):
        checked(tmp_path, InputConfig(), DAYS)
    declared = InputConfig.model_validate({"empty_days": [DAYS[1], "2026-03-03"]})
    first, second, third = checked(tmp_path, declared, (*DAYS, "2026-03-03"))
    assert [day.is_empty for day in (first, second, third)] == [False, True, True]
    assert [day.rows for day in (first, second, third)] == [2, 0, 0]
    assert second.fingerprint == third.fingerprint != first.fingerprint
    write(tmp_path, DAYS[1], "0.parquet", table().slice(0, 0))
    assert checked(tmp_path, declared, DAYS)[1].is_empty
    write(tmp_path, DAYS[1], "0.parquet", table())
    with pytest.raises(DataError, match=r"is listed under input\.empty_days, but holds rows"):
        checked(tmp_path, declared, DAYS)
    with pytest.raises(DataError, match="no day holds rows"):
        checked(tmp_path, declared, ("2026-03-03",))
