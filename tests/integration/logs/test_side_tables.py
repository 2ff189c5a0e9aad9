"""A row gets what its key's row said when the row's day began, and stays one row; Spark against a loop in Python."""

from __future__ import annotations

import logging
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from nightjar.features.contract.errors import DataError
from nightjar.features.contract.spec import FeatureSpec
from nightjar.features.counts.aggregate import check_values
from nightjar.features.input.config import InputConfig
from nightjar.features.input.folders import LogPartition, check_logs, read_logs
from nightjar.features.input.passes import require_unchanged
from nightjar.features.input.timestamped import logs_at
from nightjar.features.spark.rows import row_hash

FIRST = (date(2026, 3, 1) - date(1970, 1, 1)).days
DATES = [f"2026-03-0{n}" for n in range(1, 5)]
SPEC = FeatureSpec.model_validate(
    {
        "name": "side",
        "label": "clicked",
        "timestamp": "at",
        "fields": [{"name": "item"}, {"name": "kind"}, {"name": "long", "column": "is_long"}],
        "dense": [{"name": "age"}],
        "derive": [{"name": "is_long", "expression": "minutes > 90"}],
    }
)
Log = list[dict[str, Any]]
# Item 3 is in no table; 2 has no version before the third day; -0 and 0 are one age.
ITEMS = [0, 1, 2, 3, None]


def make_log(root: Path) -> Log:
    """Two hundred rows, many of them equal in all that is read."""
    rng = np.random.default_rng(3)
    rows = []
    for day in DATES:
        begin = datetime.fromisoformat(day).replace(tzinfo=UTC)
        of_day = [
            {"clicked": int(rng.integers(2)), "at": begin, "item": ITEMS[rng.integers(5)], "who": f"u{rng.integers(3)}"}
            for _ in range(50)
        ]
        (root / f"date={day}").mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(of_day), root / f"date={day}" / "0.parquet")
        rows += of_day
    return rows


USERS = [{"id": f"u{n}", "age": [0.0, -0.0, 40.5][n]} for n in range(3)]


def item(key: int | None, since: datetime, kind: str | None, minutes: int) -> dict[str, Any]:
    return {"id": key, "since": since, "kind": kind, "minutes": minutes}


def moment(day: int, hour: int = 0) -> datetime:
    return datetime(2026, 3, day, hour, tzinfo=UTC)


VERSIONS = [
    item(0, moment(1) - timedelta(400), "old", 80),
    item(0, moment(2), "new", 100),
    item(0, moment(3, 12), "noon", 100),
    item(0, moment(3, 15), None, 90),
    item(1, moment(1), "first", 91),
    item(2, moment(3), "late", 200),
    item(2, moment(9), "never", 200),
    item(None, moment(1), "nobody", 1),
]


def as_of(key: int | None, day: date) -> dict[str, Any]:
    """The last version that was there when the day began."""
    begin = datetime(day.year, day.month, day.day, tzinfo=UTC)
    known = [one for one in VERSIONS if one["id"] == key is not None and one["since"] <= begin]
    return max(known, key=lambda one: one["since"], default={"kind": None, "minutes": None})


def write(path: Path, rows: Log, kinds: dict[str, pa.DataType] | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist(rows)
    for name, kind in (kinds or {}).items():
        table = table.set_column(table.column_names.index(name), name, table.column(name).cast(kind))
    pq.write_table(table, path)


def config(place: Path, days: str, **items: Any) -> InputConfig:
    sides = [
        {
            **{"name": "items", "location": str(place / "items.parquet"), "key": {"item": "id"}},
            **{"brings": ["kind", "minutes"], "versions": "valid_from(since)", **items},
        },
        {"name": "users", "location": str(place / "users.parquet"), "key": {"who": "id"}, "brings": ["age"]},
    ]
    return InputConfig.model_validate({"days": days, "side_tables": sides})


def checked(spark: SparkSession, place: Path, days: str = "folders", **items: Any) -> list[LogPartition]:
    if days == "timestamp" and not (place / "all").exists():
        for day in DATES:
            (place / "all").mkdir(exist_ok=True)
            (place / "all" / f"{day}.parquet").write_bytes((place / "logs" / f"date={day}" / "0.parquet").read_bytes())
    root = place / ("logs" if days == "folders" else "all")
    return check_logs(logs_at(config(place, days, **items), str(root), lambda: spark), DATES, SPEC)


def found(spark: SparkSession, days: list[LogPartition]) -> Counter[tuple[Any, ...]]:
    [table] = read_logs(spark, days)
    names = ["row:day", "clicked", "item", "kind", "minutes", "is_long", "age"]
    return Counter(tuple(row) for row in table.select(*(f"`{name}`" for name in names)).collect())


def expected(log: Log) -> Counter[tuple[Any, ...]]:
    rows = []
    for row in log:
        side = as_of(row["item"], row["at"].date())
        long = None if side["minutes"] is None else side["minutes"] > 90
        age = {one["id"]: one["age"] for one in USERS}[row["who"]]
        day = (row["at"].date() - date(1970, 1, 1)).days
        rows.append((day, row["clicked"], row["item"], side["kind"], side["minutes"], long, age))
    return Counter(rows)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    # The key's type is another than the log's, and the versions lie in two files.
    half = len(VERSIONS) // 2
    write(tmp_path / "items.parquet" / "0.parquet", VERSIONS[:half], {"id": pa.int32()})
    write(tmp_path / "items.parquet" / "1.parquet", VERSIONS[half:], {"id": pa.int32()})
    write(tmp_path / "users.parquet", USERS)
    return tmp_path


def test_a_row_gets_the_last_version_that_was_there_when_its_day_began(
    spark: SparkSession, place: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = make_log(place / "logs")
    wanted = expected(log)
    assert {kind for _, _, _, kind, *_ in wanted} == {None, "old", "new", "first", "late"}
    folders, timestamps = checked(spark, place), checked(spark, place, "timestamp")
    assert found(spark, folders) == found(spark, timestamps) == wanted
    assert max(wanted.values()) > 3
    # The same by large tables, which Spark does not broadcast.
    threshold = spark.conf.get("spark.sql.autoBroadcastJoinThreshold")
    spark.conf.set("spark.sql.autoBroadcastJoinThreshold", "-1")
    try:
        [broadcast] = read_logs(spark, folders)
        assert "Broadcast" not in str(broadcast._jdf.queryExecution().executedPlan())
        assert found(spark, folders) == wanted
    finally:
        spark.conf.set("spark.sql.autoBroadcastJoinThreshold", str(threshold))
    with caplog.at_level(logging.WARNING):
        totals = check_values(spark, SPEC, folders)
    for day in DATES:
        rows = [row for row in log if row["at"].date().isoformat() == day]
        lost = sum(as_of(row["item"], date.fromisoformat(day)) == {"kind": None, "minutes": None} for row in rows)
        assert (totals[day].rows, totals[day].unmatched) == (50, {"items": lost, "users": 0})
        assert f"date {day}: {lost} rows have a ['item'] that the side table 'items' in " in caplog.text
    assert "'users'" not in caplog.text


def test_every_version_may_be_a_folder(spark: SparkSession, place: Path) -> None:
    log = make_log(place / "logs")
    for day in [date(2026, 2, 27), date(2026, 3, 2), date(2026, 3, 3), date(2026, 3, 4)]:
        rows = [{"id": key, **as_of(key, day)} for key in (0, 1, 2) if as_of(key, day)["minutes"] is not None]
        write(place / "daily" / f"date={day}" / "0.parquet", [{**row, "since": None} for row in rows])
    [*days] = checked(spark, place, versions="folders", location=str(place / "daily"))
    # What item 1 is from the first of March on is in the folder of the second.
    wanted = Counter({row: n for row, n in expected(log).items() if row[0] != FIRST})
    table = found(spark, days)
    assert Counter({row: n for row, n in table.items() if row[0] != FIRST}) == wanted
    assert {row[2:5] for row in table if row[0] == FIRST} == {
        *((key, None, None) for key in (1, 2, 3, None)),
        (0, "old", 80),
    }


@pytest.mark.parametrize("days", ["folders", "timestamp"])
def test_a_later_version_changes_no_day_before_it_and_an_older_one_does(
    spark: SparkSession, place: Path, days: str
) -> None:
    make_log(place / "logs")

    def known() -> list[str]:
        return [day.fingerprint for day in checked(spark, place, days)]

    first = known()
    write(place / "items.parquet" / "2.parquet", [item(1, moment(3), "first again", 91)], {"id": pa.int32()})
    later = known()
    assert [one == other for one, other in zip(first, later, strict=True)] == [True, True, False, False]
    write(place / "items.parquet" / "2.parquet", [item(1, moment(3, 1), "first again", 91)], {"id": pa.int32()})
    assert [one == other for one, other in zip(first, known(), strict=True)] == [True, True, True, False]
    write(place / "items.parquet" / "2.parquet", [item(1, moment(2), "first again", 91)], {"id": pa.int32()})
    assert [one == other for one, other in zip(first, known(), strict=True)] == [True, False, False, False]
    (place / "items.parquet" / "2.parquet").unlink()
    # Rows in another order, in one file, are the same table.
    write(place / "items.parquet" / "0.parquet", VERSIONS[::-1], {"id": pa.int32()})
    (place / "items.parquet" / "1.parquet").unlink()
    assert known() == first
    # Without versions the table is as it is for all days.
    write(place / "users.parquet", [{**one, "age": 1.0} for one in USERS])
    assert all(one != other for one, other in zip(first, known(), strict=True))


def test_a_key_that_is_there_twice_is_one_error_with_its_values(spark: SparkSession, place: Path) -> None:
    make_log(place / "logs")
    write(place / "items.parquet" / "2.parquet", [item(0, moment(2), "twin", 1)] * 2, {"id": pa.int32()})
    days = checked(spark, place)
    with pytest.raises(DataError) as caught:
        check_values(spark, SPEC, days)
    assert (
        f"the side table 'items' in {place}/items.parquet has more than one row of a key: id = '0' from 2026-03-02 "
        in (str(caught.value))
    )
    assert "(3 rows). Keep one of each." in str(caught.value)
    # A version of a later day is not yet looked at.
    write(place / "items.parquet" / "2.parquet", [item(0, moment(7), "twin", 1)] * 2, {"id": pa.int32()})
    assert [totals.rows for totals in check_values(spark, SPEC, checked(spark, place)).values()] == [50] * 4
    write(place / "users.parquet", [*USERS, USERS[0]])
    with pytest.raises(DataError, match=r"more than one row of a key: id = 'u0' \(2 rows\). Keep one of each, or say"):
        check_values(spark, SPEC, checked(spark, place))
    write(
        place / "items.parquet" / "2.parquet",
        [item(0, None, "ever", 1)],
        {"id": pa.int32(), "since": pa.timestamp("us", "UTC")},
    )  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"has 1 row\(s\) whose since is missing"):
        checked(spark, place)


def test_a_table_that_is_written_during_a_night_ends_it(spark: SparkSession, place: Path) -> None:
    make_log(place / "logs")
    days = checked(spark, place)
    require_unchanged(days)
    write(place / "users.parquet", [*USERS, {"id": "u9", "age": 1.0}])
    with pytest.raises(DataError, match=r"\n  the side table 'users' in "):
        require_unchanged(days)


def test_equal_rows_have_equal_hashes_whatever_is_joined(spark: SparkSession, place: Path) -> None:
    make_log(place / "logs")
    [table] = read_logs(spark, checked(spark, place))
    hashes = Counter(row[0] for row in table.select(row_hash(SPEC)).collect())
    assert sum(hashes.values()) == 200
    assert sorted(hashes.values()) == sorted(
        Counter(
            tuple(r) for r in table.select("`row:day`", "clicked", "item", "kind", "minutes", "age").collect()
        ).values()
    )
