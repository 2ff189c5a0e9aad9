"""Logs of every format and layout are the same rows; late rows re-count their own day; what cannot be read is told."""

from __future__ import annotations

import csv
import gzip
import json
import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import DataFrame, SparkSession

from nightjar.features.contract.errors import DataError
from nightjar.features.contract.manifests import AggregateManifest
from nightjar.features.contract.publishing import is_published, manifest_digest, read_manifest
from nightjar.features.contract.spec import FeatureSpec
from nightjar.features.dataset.build import aggregate, build
from nightjar.features.dataset.plan import BuildDates, BuildPlan, BuildSettings, plan_build
from nightjar.features.input.config import InputConfig
from nightjar.features.input.days import day_number
from nightjar.features.input.folders import DAY, LogPartition, check_logs, read_logs
from nightjar.features.input.timestamped import logs_at
from tests.kits.small_night import CONFIG

SPEC = FeatureSpec.model_validate(CONFIG["features"])
DATES = [f"2026-01-0{n}" for n in range(1, 5)]
COLUMNS = {"clicked": "int", "at": "timestamp", "user": "string", "item": "bigint", "price": "double"}
CSV_OPTIONS = {"sep": "|", "escape": '"'}
USERS = ["a", "Zoë, 日本", 'the "owl" 🦉', "null", None]

Rows = list[dict[str, Any]]


def rows_of(day: str, count: int = 30, seed: int = 0) -> Rows:
    """Impressions of one day: some in its first and its last microsecond, some values missing."""
    midnight = datetime.fromisoformat(day).replace(tzinfo=UTC)
    rng = np.random.default_rng([seed, midnight.day])
    moments = [timedelta(0), timedelta(days=1, microseconds=-1), timedelta(hours=12, milliseconds=7)]
    return [
        {
            "clicked": int(rng.integers(2)),
            "at": midnight + moments[rng.integers(3)],
            "user": USERS[rng.integers(len(USERS))],
            "item": int(rng.integers(-3, 3)) * 2**60,
            "price": [None, 0.1, -0.0, 1e-320][rng.integers(4)],
        }
        for _ in range(count)
    ]


def write(path: Path, rows: Rows) -> None:
    """In the format that the file's name says; the columns of text in another order than the config's, and one more."""
    path.parent.mkdir(parents=True, exist_ok=True)
    names = ["price", "comment", "user", "item", "at", "clicked"]
    text = [{"comment": "x", **row, "at": row["at"].isoformat()} for row in rows]
    if path.suffix == ".csv":
        with path.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, names, delimiter="|")
            writer.writeheader()
            writer.writerows(text)
    elif path.suffix == ".json":
        lines = (json.dumps({n: row[n] for n in names if row[n] is not None}, ensure_ascii=False) for row in text)
        path.write_text("\n".join(lines) + "\n")
    else:
        types = [pa.int32(), pa.timestamp("us", "UTC"), pa.string(), pa.int64(), pa.float64()]
        table = pa.Table.from_pylist(rows, pa.schema(list(zip(COLUMNS, types, strict=True))))
        pq.write_table(table, path)


def config(form: str, days: str = "folders") -> InputConfig:
    text = {"columns": COLUMNS} if form in ("csv", "json") else {}
    options = {"options": CSV_OPTIONS} if form == "csv" else {}
    return InputConfig.model_validate({"format": form, "days": days, **text, **options})


def checked(spark: SparkSession, source: InputConfig, location: str) -> list[LogPartition]:
    return check_logs(logs_at(source, location, lambda: spark), DATES, SPEC)


def found(tables: list[DataFrame]) -> list[tuple[Any, ...]]:
    rows = [tuple(row) for table in tables for row in table.select(DAY, *COLUMNS).collect()]
    return sorted(rows, key=repr)


def expected(days: dict[str, Rows]) -> list[tuple[Any, ...]]:
    """Spark hands timestamps out as local ones without a zone."""
    rows = [
        (
            day_number(day),
            *(value if n != "at" else value.astimezone().replace(tzinfo=None) for n, value in row.items()),
        )
        for day, of_day in days.items()
        for row in of_day
    ]
    return sorted(rows, key=repr)


def test_every_format_and_layout_gives_the_same_rows_and_a_timestamp_the_same_day(
    spark: SparkSession, tmp_path: Path
) -> None:
    days = {day: rows_of(day) for day in DATES}
    wanted, place = expected(days), tmp_path / "a b ü" / "日本"
    for form in ("parquet", "orc", "csv", "json"):
        if form == "orc":
            # By Spark: its ORC timestamps are those of its own time zone.
            table = spark.read.parquet(f"file://{place}/parquet")
            table.coalesce(1).write.partitionBy("date").orc(f"file://{place}/orc")
            table.drop("date").coalesce(1).write.orc(f"file://{place}/orc of all days")
        else:
            for day, rows in days.items():
                write(place / form / f"date={day}" / f"part 0.{form}", rows)
                write(place / f"{form} of all days" / f"{day}.{form}", rows)
        partitions = checked(spark, config(form), str(place / form))
        assert found(read_logs(spark, partitions)) == wanted, form
        assert {partition.counted for partition in partitions} == ({30} if form in ("parquet", "orc") else {None})

    spark.read.parquet(f"file://{place}/parquet of all days").createOrReplaceTempView("impressions")
    sources = [(config(form, "timestamp"), f"{place}/{form} of all days") for form in ("parquet", "orc", "csv", "json")]
    sources.append((config("table", "timestamp"), "impressions"))
    anything = {"format": "org.apache.spark.sql.parquet", "options": {"recursiveFileLookup": True}, "days": "timestamp"}
    sources.append((InputConfig.model_validate(anything), f"{place}/parquet of all days"))
    identities = []
    for source, location in sources:
        logs = logs_at(source, location, lambda: spark)
        partitions = check_logs(logs, DATES[1:3], SPEC)
        assert found(read_logs(spark, partitions)) == expected({day: days[day] for day in DATES[1:3]}), source
        assert [partition.rows for partition in partitions] == [30, 30]
        assert logs.first_date(SPEC) == DATES[0]
        identities.append([partition.fingerprint for partition in partitions])
    assert all(identity == identities[0] for identity in identities)
    assert len(set(identities[0])) == 2


def plan_of(logs: Any, output: Path, to: str = DATES[1], holdout: str | None = DATES[2]) -> BuildPlan:
    settings = BuildSettings(min_files=2)
    return plan_build(
        SPEC, logs, str(output), BuildDates(train_from=DATES[0], train_to=to, holdout=holdout), settings=settings
    )


def test_late_rows_of_a_folder_of_all_days_re_count_their_own_day_and_end_as_from_scratch(
    spark: SparkSession, tmp_path: Path
) -> None:
    def path(day: str, name: str) -> Path:
        return tmp_path / "logs" / f"{day}-{name}.json"

    def plan(output: str) -> BuildPlan:
        return plan_of(logs_at(config("json", "timestamp"), str(tmp_path / "logs"), lambda: spark), tmp_path / output)

    def counted() -> set[str]:
        return {path.name for path in (tmp_path / "out" / "aggregates").iterdir() if is_published(str(path))}

    for day in DATES[:3]:
        write(path(day, "on time"), rows_of(day))
    first = plan("out")
    build(spark, first)
    before = counted()
    write(path(DATES[0], "late"), rows_of(DATES[0], count=7, seed=1))
    second = plan("out")
    assert not second.is_built()
    build(spark, second)
    [new] = counted() - before
    assert new.startswith(f"date={DATES[0]}-")
    counts = read_manifest(second.aggregate_dirs[DATES[0]], AggregateManifest)
    assert (counts.rows, counts.misdated) == (37, 0)
    scratch = plan("scratch")
    build(spark, scratch)
    for made, again in zip(second.built.directories(), scratch.built.directories(), strict=True):
        assert manifest_digest(made) == manifest_digest(again)
    assert not set(first.built.directories()) & set(second.built.directories())


def test_rows_of_another_day_stay_in_their_folder_and_are_counted(
    spark: SparkSession, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / "logs" / f"date={DATES[0]}" / "0.parquet", rows_of(DATES[0]) + rows_of(DATES[1], count=2))
    plan = plan_of(str(tmp_path / "logs"), tmp_path / "out", to=DATES[0], holdout=None)
    [counts] = aggregate(spark, plan).values()
    assert (counts.rows, counts.misdated) == (32, 2)
    assert f"date {DATES[0]}: 2 rows have the timestamp of another day" in caplog.text


def spoil(path: Path, old: str, new: str) -> None:
    """Change the last row that has it, far from what is looked at before Spark starts."""
    head, found, tail = path.read_text().rpartition(old)
    assert found
    path.write_text(head + new + tail)


@pytest.mark.parametrize(
    ("form", "old", "new", "message"),
    [
        ("csv", "|x|", "|", r"holds a row that is not as its columns say: line \d+ has 5 values, not 6: "),
        ("csv", "0.1|x", "cheap|x", r"columns say: line \d+, column 'price': 'cheap' is no double: cheap\|x\|"),
        ("json", '"price": 0.1', '"price": "cheap"', r"columns say: line \d+, key 'price': \"cheap\" is no double: "),
        ("json", "}", "", r"columns say: line \d+ is no JSON"),
    ],
)
@pytest.mark.parametrize("days", ["folders", "timestamp"])
def test_a_malformed_row_ends_the_build_before_anything_is_published(
    spark: SparkSession, tmp_path: Path, form: str, old: str, new: str, message: str, days: str
) -> None:
    path = tmp_path / "my logs" / (f"date={DATES[0]}" if days == "folders" else "") / f"0 ü.{form}"
    write(path, rows_of(DATES[0], count=150))
    spoil(path, old, new)
    logs = logs_at(config(form, days), str(tmp_path / "my logs"), lambda: spark)
    with pytest.raises(DataError, match=message) as caught:
        build(spark, plan_of(logs, tmp_path / "out", to=DATES[0], holdout=None))
    assert f"file://{path} holds" in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_packed_file_that_was_cut_off_is_damaged(spark: SparkSession, tmp_path: Path) -> None:
    path = tmp_path / f"date={DATES[0]}" / "0.csv"
    write(path, rows_of(DATES[0], count=3000))
    packed = path.with_suffix(".csv.gz")
    packed.write_bytes(gzip.compress(path.read_bytes())[:-2000])
    path.unlink()
    logs = logs_at(config("csv"), str(tmp_path), lambda: spark)
    with pytest.raises(DataError, match=r"0\.csv\.gz is damaged"):
        build(spark, plan_of(logs, tmp_path / "out", to=DATES[0], holdout=None))


def test_a_table_that_cannot_be_used_is_one_clear_error(spark: SparkSession, tmp_path: Path) -> None:
    def error_of(form: str, location: str) -> str:
        with pytest.raises(DataError) as caught:
            checked(spark, config(form, "timestamp"), location)
        return str(caught.value)

    assert "cannot open 'shop.impressions' as table: [TABLE_OR_VIEW_NOT_FOUND]" in error_of("table", "shop.impressions")
    assert "as table: [PARSE_SYNTAX_ERROR]" in error_of("table", "drop table; x")
    assert "as delta: [DATA_SOURCE_NOT_FOUND]" in error_of("delta", "/nowhere")
    write(tmp_path / "0.parquet", rows_of(DATES[0]))
    whole = spark.read.parquet(f"file://{tmp_path}")
    whole.createOrReplaceTempView("one_day")
    assert error_of("table", "one_day") == (
        "the logs in one_day have 1 problem(s):\n"
        "  date 2026-01-02, 2026-01-03, 2026-01-04: there are no rows. Write the log of that day, list it under "
        "input.empty_days if there was no traffic, or begin after it (nightly.history_from, --history-from)."
    )
    whole.selectExpr("clicked", "if(item = 0, null, at) at", "user", "item", "price").createOrReplaceTempView(
        "timeless"
    )
    assert "timeless holds " in error_of("table", "timeless")
    assert "row(s) without a at, which are of no day" in error_of("table", "timeless")
    whole.selectExpr("clicked", "cast(at as string) at", "user", "price").createOrReplaceTempView("poor")
    assert error_of("table", "poor") == (
        "the logs in poor have 2 problem(s):\n"
        "  the columns ['item'] are missing; the log has ['clicked', 'at', 'user', 'price']. Correct the feature spec "
        "or the log.\n"
        "  column 'at' (timestamp) has the type string; it must be a timestamp in milliseconds or microseconds. Cast "
        "it in the log."
    )


def test_rows_of_1970_and_of_next_century_are_told_and_begin_no_history(
    spark: SparkSession, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    days = {day: rows_of(day) for day in ("1970-01-01", *DATES, "2170-01-01")}
    for day, rows in days.items():
        write(tmp_path / f"{day}.parquet", rows)
    logs = logs_at(config("parquet", "timestamp"), str(tmp_path), lambda: spark)
    with caplog.at_level(logging.WARNING):
        assert logs.first_date(SPEC) == DATES[0]
    assert f"{len(days['1970-01-01']) + len(days['2170-01-01'])} rows are of days before 2000-01-01" in caplog.text
