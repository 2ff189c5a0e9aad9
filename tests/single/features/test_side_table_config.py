"""What is wrong with a side table is told before Spark starts."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from nightjar.features.contract.errors import DataError, SpecError
from nightjar.features.contract.spec import FeatureSpec
from nightjar.features.input.config import InputConfig
from nightjar.features.input.folders import DateFolders, LogPartition
from nightjar.features.input.passes import require_unchanged

DAY = "2026-03-01"
SPEC = FeatureSpec.model_validate(
    {
        "name": "side",
        "label": "clicked",
        "timestamp": "at",
        "fields": [{"name": "user"}, {"name": "genre", "column": "kind"}, {"name": "long", "column": "is_long"}],
        "derive": [{"name": "is_long", "expression": "minutes > 90"}],
    }
)
ITEMS: dict[str, Any] = {"name": "items", "key": "item", "brings": ["kind", "minutes"]}


def write_log(root: Path, **more: Any) -> None:
    at = datetime.fromisoformat(DAY).replace(tzinfo=UTC)
    row = {"clicked": 1, "at": at, "user": "u", "item": 7, **more}
    (root / f"date={DAY}").mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist([row]), root / f"date={DAY}" / "0.parquet")


def items(**changes: Any) -> pa.Table:
    row = {"item": 7, "kind": "drama", "minutes": 100, "since": date(2026, 2, 1), **changes}
    return pa.Table.from_pylist([{name: value for name, value in row.items() if value is not None}])


def checked(place: Path, spec: FeatureSpec = SPEC, **side: Any) -> LogPartition:
    location = {"location": str(place / "items.parquet")}
    config = InputConfig.model_validate({"side_tables": [{**ITEMS, **location, **side}]})
    [day] = DateFolders(str(place / "logs"), config).check([DAY], spec)
    return day


def error_of(place: Path, table: pa.Table, **side: Any) -> str:
    write_log(place / "logs")
    pq.write_table(table, place / "items.parquet")
    with pytest.raises((DataError, SpecError)) as caught:
        checked(place, **side)
    return str(caught.value)


def test_a_side_table_gives_a_day_its_columns_and_their_types(tmp_path: Path) -> None:
    write_log(tmp_path / "logs")
    pq.write_table(items(), tmp_path / "items.parquet")
    day = checked(tmp_path)
    assert SPEC.source_columns() == ["clicked", "at", "user", "kind", "minutes"]
    assert day.types == ("int64", "timestamp[us, tz=UTC]", "string", "string", "int64")
    assert [name for name, _ in day.columns] == ["clicked", "at", "user", "item"]
    [joined] = day.sides
    assert [name for columns, _ in joined.pieces for name, _ in columns] == ["item", "kind", "minutes"]


@pytest.mark.parametrize(
    ("table", "side", "message"),
    [
        (items(kind=None), {}, "column 'kind' is missing; it has ['item', 'minutes', 'since']"),
        (items(), {"brings": ["knd", "minutes"]}, r"the columns ['kind'] are missing"),
        (items(), {"brings": {"kind": "kinds", "minutes": "minutes"}}, "'kinds' is missing; it has ['item', 'kind', "),
        (items(item="7"), {}, "the key 'item' has the type int64 in the log and string in the side table 'items' in "),
        (items(item=7.5), {}, "the key 'item' has the type double; it must be string, integral or boolean."),
        (items(), {"versions": "valid_from(kind)"}, "valid_from(kind) has the type string; it must be a date"),
        (items(), {"key": {"itm": "item"}}, "the columns ['itm'] are missing; the log has ['clicked', 'at', 'user'"),
        (items(minutes="long"), {}, "is_long"),
        (items(kind=0.5), {}, "column 'kind' (field genre) has the type double; it must be string, integral or"),
        (items(), {"brings": {"kind": "kind", "minutes": "minutes", "user": "since"}}, "the log has the columns "),
        (items(), {"brings": ["kind", "minutes", "clicked"]}, "'clicked' (label) must be the log's own"),
        (items(), {"brings": ["kind", "minutes", "is_long"]}, "brings 'is_long', which features.derive makes"),
        (items(), {"versions": "folders"}, "has no date=YYYY-MM-DD folder of a day up to 2026-03-01; it has []"),
        (items(), {"format": "csv"}, "'items' lack the types of ['item', 'kind', 'minutes'], which are read."),
    ],
)
def test_what_cannot_be_joined_is_one_clear_error(tmp_path: Path, table: pa.Table, side: Any, message: str) -> None:
    assert message in error_of(tmp_path, table, **side)


def test_a_table_that_is_not_there_or_empty_is_told(tmp_path: Path) -> None:
    assert "holds no rows" in error_of(tmp_path, items(), location=str(tmp_path / "nowhere"))
    (tmp_path / "items.csv").write_text("item,kind,minutes\n")
    text = {"format": "csv", "columns": {"item": "bigint", "kind": "string", "minutes": "int"}}
    day_of = checked(tmp_path, **text, location=str(tmp_path / "items.csv"))
    assert [joined.side.name for joined in day_of.sides] == ["items"]
    (tmp_path / "items.csv").write_text("")
    assert "holds no rows" in error_of(tmp_path, items(), **text, location=str(tmp_path / "items.csv"))


def test_a_table_that_no_feature_reads_is_not_looked_at(tmp_path: Path) -> None:
    write_log(tmp_path / "logs")
    spec = FeatureSpec.model_validate(
        {"name": "s", "label": "clicked", "timestamp": "at", "fields": [{"name": "user"}]}
    )
    day = checked(tmp_path, spec)
    assert (day.sides, [name for name, _ in day.columns]) == ((), ["clicked", "at", "user"])
    alone = DateFolders(str(tmp_path / "logs")).check([DAY], spec)
    assert alone[0].fingerprint == day.fingerprint


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "table"}, "a side table is read from files of"),
        ({"brings": []}, "at least 1 item"),
        ({"brings": ["item"]}, "are its key, which the log has already"),
        ({"versions": "daily"}, "String should match pattern"),
        ({"location": None}, "location"),
        ({"carry": True}, "Extra inputs are not permitted"),
    ],
)
def test_a_config_that_makes_no_sense_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        InputConfig.model_validate({"side_tables": [{**ITEMS, "location": "items", **change}]})


def test_versions_need_days_that_are_time() -> None:
    side = {**ITEMS, "location": "items", "versions": "valid_from(since)"}
    with pytest.raises(ValidationError, match=r"\['items'\] have versions by day, and days: hash\(user\) is no time"):
        InputConfig.model_validate({"days": "hash(user)", "side_tables": [side]})
    assert InputConfig.model_validate({"days": "hash(user)", "side_tables": [{**side, "versions": "none"}]})


def test_two_side_tables_bring_different_columns() -> None:
    twice = [{**ITEMS, "location": "items"}, {**ITEMS, "location": "items", "name": "more"}]
    with pytest.raises(ValidationError, match=r"the column \['kind', 'minutes'\] is there more than once"):
        InputConfig.model_validate({"side_tables": twice})


def test_a_version_that_is_a_folder_counts_from_its_day_on(tmp_path: Path) -> None:
    write_log(tmp_path / "logs")

    def version(day: str, minutes: int) -> None:
        (tmp_path / "items" / f"date={day}").mkdir(parents=True, exist_ok=True)
        pq.write_table(items(minutes=minutes), tmp_path / "items" / f"date={day}" / "0.parquet")

    def known() -> str:
        return checked(tmp_path, versions="folders", location=str(tmp_path / "items")).fingerprint

    version("2026-01-01", 80)
    version("2026-02-01", 90)
    first = known()
    day = checked(tmp_path, versions="folders", location=str(tmp_path / "items"))
    require_unchanged([day, day])
    version("2026-01-01", 81)
    version("2026-03-02", 100)
    assert known() == first
    require_unchanged([day])
    version("2026-02-01", 91)
    with pytest.raises(DataError, match="\n  the side table 'items' in "):
        require_unchanged([day])
    assert known() != first
    version("2026-02-01", 90)
    assert known() == first
    version("2026-03-01", 90)
    assert known() == first  # the same content
    version("2026-03-01", 91)
    assert known() != first
