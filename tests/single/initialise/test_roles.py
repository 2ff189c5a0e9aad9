"""Which columns are taken for the label, the row's timestamp and the user, and what is said where that is open."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nightjar.features.contract.errors import DataError, NightjarError, UsageError
from nightjar.jobs.initialise.columns import look_at as columns_of
from nightjar.jobs.initialise.roles import Roles, is_id, is_user
from tests.single.initialise.sample_logs import look_at, write_logs


def coin(columns: dict[str, Any], rng: np.random.Generator) -> np.ndarray:
    return rng.integers(2, size=len(columns["clicked"]))


def roles_of(tmp_path: Path, given: dict[str, str] | None = None, **more: Any) -> Roles:
    return look_at(write_logs(tmp_path, rows=200, **more), **(given or {})).roles


def test_label_timestamp_and_user_are_told_by_types_values_and_names(tmp_path: Path) -> None:
    assert roles_of(tmp_path) == Roles("clicked", "shown_at", "user_id")


def test_another_column_of_zeros_and_ones_is_no_label_beside_one_that_is_called_so(tmp_path: Path) -> None:
    assert roles_of(tmp_path, is_weekend=coin).label == "clicked"


def test_a_boolean_or_a_number_can_be_the_label(tmp_path: Path) -> None:
    for name, kind in (("bought", bool), ("converted", float)):
        found = roles_of(tmp_path / name, {"label": name}, **{name: lambda c, r, kind=kind: c["clicked"].astype(kind)})
        assert found.label == name


def test_two_labels_are_listed_with_the_option_that_settles_it(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        roles_of(tmp_path, bought=coin)
    assert str(caught.value) == (
        "which column is the label? ['clicked', 'bought'] hold only 0 and 1. Give --label with one of them."
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"label": "clik"}, "--label: there is no column 'clik'; the log has ['clicked', 'shown_at', "),
        ({"label": "price"}, "must hold 0 or 1 in every row. Columns that do: ['clicked']."),
        ({"label": "device"}, "--label: 'device' (string, 2 values) must hold 0 or 1 in every row."),
        ({"timestamp": "price"}, "--timestamp: 'price' has the type double; a row's timestamp must be one in milli"),
        ({"group": "price"}, "--group: 'price' has the type double; it must be string or integral."),
    ],
)
def test_a_given_column_is_checked(tmp_path: Path, given: dict[str, str], message: str) -> None:
    with pytest.raises(NightjarError) as caught:
        roles_of(tmp_path, given)
    assert message in str(caught.value)


def test_a_label_that_is_the_same_in_every_row_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"the label 'never' is 0 in all 600 rows of the sample. Give more --rows"):
        roles_of(tmp_path, {"label": "never"}, never=lambda c, r: 0 * c["clicked"])


def test_the_timestamp_is_the_one_that_lies_in_the_rows_folder(tmp_path: Path) -> None:
    def two_days_later(columns: dict[str, Any], rng: np.random.Generator) -> pa.Array:
        return pa.array([moment.as_py().replace(year=2027) for moment in columns["shown_at"]])

    assert roles_of(tmp_path, delivered_at=two_days_later).timestamp == "shown_at"


def test_two_timestamps_of_the_day_are_listed(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        roles_of(tmp_path, sent_at=lambda c, r: c["shown_at"])
    assert "which timestamp is the row's own, the moment it was shown? ['shown_at', 'sent_at']" in str(caught.value)
    assert "Give --timestamp with one of them" in str(caught.value)


def test_without_a_timestamp_what_comes_close_is_named(tmp_path: Path) -> None:
    for folder in write_logs(tmp_path, rows=50).iterdir():
        [path] = folder.iterdir()
        table = pq.read_table(path)
        seconds = table["shown_at"].cast(pa.int64())
        pq.write_table(table.drop_columns(["shown_at"]).append_column("ts", seconds), path)
    with pytest.raises(UsageError, match=r"no column can be the row's timestamp: .* Close to it: ts \(int64\)\."):
        look_at(tmp_path)


def test_a_log_without_a_user_has_no_group_and_two_users_are_listed(tmp_path: Path) -> None:
    assert roles_of(tmp_path / "a", customer_country=coin).group == "user_id"
    with pytest.raises(UsageError, match=r"which column names the user\? \['user_id', 'user'\] could. Give --group"):
        roles_of(tmp_path / "b", user=coin)


def test_names_tell_ids_and_users_from_what_is_known_of_them() -> None:
    names = ("user_id", "userId", "USER", "memberKey", "user_age", "itemId", "price", "paid", "userid")
    columns = columns_of(pa.table({name: ["a", "b"] for name in names}))
    assert [name for name in names if is_user(columns[name])] == ["user_id", "userId", "USER", "memberKey", "userid"]
    assert [name for name in names if is_id(columns[name])] == ["user_id", "userId", "memberKey", "itemId", "userid"]
