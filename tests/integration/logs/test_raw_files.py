"""Files as others write them: headers that differ, long separators, quoted lines, epochs, patterns, labels by rule."""

from __future__ import annotations

import gzip
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from nightjar.features.contract.errors import DataError
from nightjar.features.contract.spec import FeatureSpec
from nightjar.features.input.config import InputConfig
from nightjar.features.input.damage import damage_reported
from nightjar.features.input.folders import LogPartition, check_logs, read_logs
from nightjar.features.input.timestamped import logs_at
from nightjar.features.spark.rows import hashed

DAY = "2026-01-01"
FIRST, SECOND = 1767225600, 1767311999  # its first and its last second
Found = list[tuple[str | None, float | None, int | None]]


def spec_of(label: Any = "clicked", **more: Any) -> FeatureSpec:
    return FeatureSpec.model_validate(
        {"name": "raw", "label": label, "timestamp": "at", "fields": [{"name": "item"}], **more}
    )


def found(spark: SparkSession, days: list[LogPartition], spec: FeatureSpec) -> Found:
    """Item, label, and seconds since 1970."""
    [log] = read_logs(spark, days)
    rows = hashed(log, spec, keep=["item"]).select("item", "`row:label`", F.col("`row:micros`") / 1_000_000).collect()
    return sorted((tuple(row) for row in rows), key=repr)


def days_of(spark: SparkSession, place: Path, spec: FeatureSpec, **section: Any) -> list[LogPartition]:
    config = InputConfig.model_validate(section)
    return check_logs(logs_at(config, str(place), lambda: spark), [DAY], spec)


CSV = {"format": "csv", "columns": {"clicked": "int", "at": "bigint", "item": "string"}, "timestamp_format": "epoch_s"}


@pytest.mark.parametrize("days", ["folders", "timestamp"])
def test_files_of_one_day_are_read_by_the_names_of_their_own_headers(
    spark: SparkSession, tmp_path: Path, days: str
) -> None:
    folder = tmp_path / f"date={DAY}" if days == "folders" else tmp_path
    folder.mkdir(exist_ok=True)
    (folder / "0.csv").write_text(f"clicked,at,item\n1,{FIRST},a\n0,{SECOND},b\n")
    (folder / "1.csv").write_text(f"item,comment,at,clicked\nc,7,{FIRST},0\n")
    (folder / "2.csv.gz").write_bytes(gzip.compress(f"at,item,clicked\n{SECOND},d,1\n".encode()))
    (folder / "3.csv").write_text(f"clicked,at,item\n0,{FIRST},e\n")
    wanted = [("a", 1, FIRST), ("b", 0, SECOND), ("c", 0, FIRST), ("d", 1, SECOND), ("e", 0, FIRST)]
    assert found(spark, days_of(spark, tmp_path, spec_of(), **CSV, days=days), spec_of()) == wanted
    (folder / "4.csv").write_text("clicked,at\n0,1\n")
    with pytest.raises(DataError, match=r"the columns \['item'\] are missing; the log has \['clicked', 'at'\]"):
        days_of(spark, tmp_path, spec_of(), **CSV, days=days)


def test_a_separator_of_several_characters_and_a_quoted_line_break(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "0.csv").write_text(f'item::"a ""clicked"""::at\n"x::y\nz"::1::{FIRST}\n:b::0::{SECOND}\n')
    section = {**CSV, "columns": {'a "clicked"': "int", "at": "bigint", "item": "string"}, "days": "timestamp"}
    section["options"] = {"sep": "::", "multiLine": True, "escape": '"'}
    spec = spec_of('a "clicked"')
    assert found(spark, days_of(spark, tmp_path, spec, **section), spec) == [
        (":b", 0, SECOND),
        ("x::y\nz", 1, FIRST),
    ]


@pytest.mark.parametrize(
    ("form", "kind", "values"),
    [
        ("epoch_s", pa.int32(), [FIRST, SECOND, -1, None]),
        ("epoch_s", pa.float64(), [FIRST + 0.5, SECOND, 1e300, float("nan")]),
        ("epoch_ms", pa.int64(), [FIRST * 1000 + 500, SECOND * 1000, 2**63 - 1, None]),
        ("dd.MM.yyyy HH:mm:ss", pa.string(), ["01.01.2026 00:00:00", "01.01.2026 23:59:59", "2026-01-01", None]),
    ],
)
def test_timestamps_as_they_are_written(
    spark: SparkSession, tmp_path: Path, form: str, kind: pa.DataType, values: list[Any]
) -> None:
    """The last two are of no moment, or of none that a calendar has, or of another day."""
    folder = tmp_path / f"date={DAY}"
    folder.mkdir()
    table = pa.table({"clicked": [1, 0, 1, 1], "at": pa.array(values, kind), "item": ["a", "b", "c", "d"]})
    pq.write_table(table, folder / "0.parquet")
    half = 0.5 if values[0] not in (FIRST, "01.01.2026 00:00:00") else 0
    days = days_of(spark, tmp_path, spec_of(), timestamp_format=form, bad_rows="drop")
    third = [("c", 1, -1)] if values[2] == -1 else []
    assert found(spark, days, spec_of()) == [("a", 1, FIRST + half), ("b", 0, SECOND), *third]


@pytest.mark.parametrize(
    ("rule", "wanted"),
    [
        ({"column": "rating", "at_least": 4}, [1, 0, 1, None, 0]),
        ({"column": "rating", "above": 4}, [0, 0, 1, None, 0]),
        ({"column": "rating", "share_of": "of", "above": 0.4}, [1, None, None, None, 0]),
        ({"sql": "rating >= 4 and `of` > 0", "columns": ["rating", "of"]}, [1, 0, None, None, 0]),
        ({"sql": "cast(rating as int) div 4", "columns": ["rating"]}, [1, 0, 1, None, 0]),
    ],
)
def test_a_label_by_rule(spark: SparkSession, tmp_path: Path, rule: dict[str, Any], wanted: list[int | None]) -> None:
    folder = tmp_path / f"date={DAY}"
    folder.mkdir()
    at = pa.array([datetime(2026, 1, 1, tzinfo=UTC)] * 5)
    rating = pa.array([4.0, 3.9, 7.0, None, 0.0])
    table = pa.table({"rating": rating, "of": [8, 0, None, 4, 1], "at": at, "item": list("abcde")})
    pq.write_table(table, folder / "0.parquet")
    spec = spec_of(rule)
    assert [label for _, label, _ in found(spark, days_of(spark, tmp_path, spec), spec)] == wanted


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"sql": "rating >", "columns": ["rating"]}, "cannot be computed: .*PARSE_SYNTAX_ERROR"),
        ({"sql": "item = 'a'", "columns": ["rating"]}, r"of the columns \['rating'\] cannot be computed: .*UNRESOLVED"),
        ({"sql": "max(rating)", "columns": ["rating"]}, "cannot be computed: "),
        (
            {"sql": "string(rating)", "columns": ["rating"]},
            "is of the type string; it must be true or false, or 1 or 0",
        ),
        ({"sql": "1 / (rating - 4) > 0", "columns": ["rating"]}, "DIVIDE_BY_ZERO"),
    ],
)
def test_a_rule_that_gives_no_label_is_one_clear_error(
    spark: SparkSession, tmp_path: Path, rule: dict[str, Any], message: str
) -> None:
    folder = tmp_path / f"date={DAY}"
    folder.mkdir()
    table = pa.table({"rating": [4, 3], "at": pa.array([datetime(2026, 1, 1, tzinfo=UTC)] * 2), "item": ["a", "b"]})
    pq.write_table(table, folder / "0.parquet")
    spec = spec_of(rule)
    days = days_of(spark, tmp_path, spec)
    with pytest.raises(DataError, match=message), damage_reported():
        found(spark, days, spec)
