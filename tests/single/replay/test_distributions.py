"""Skew that distributions show, where no key joins requests and logs; and none where there is none."""

from __future__ import annotations

import numpy as np
import pytest

from nightjar.serving.replay.distributions import find_shifts
from tests.kits.serving.requests_kit import SKEWS, make_day, skews
from tests.kits.serving.serving_oracle import Row

COLUMNS = ("user", "item_id", "premium", "seen", "tags", "words", "age", "price", "depth")
# What only a row by row comparison can tell, or hours that are evenly spread over the day.
UNSEEN = {
    "a time zone",
    "counted from one",
    "single precision",
    "inverted",
    "another order",
    "two columns exchanged",
    "another column's values",
    "the next row's values",
    "values of no known kind",
}


@pytest.fixture(scope="module")
def days() -> tuple[list[Row], list[Row]]:
    """Requests and a log: other rows of the same kind."""
    return make_day(4), make_day(3)


def test_other_rows_of_the_same_kind_have_no_difference(days: tuple[list[Row], list[Row]]) -> None:
    assert find_shifts(*days, COLUMNS) == []


@pytest.mark.parametrize(("name", "kind", "column"), [one for one in skews() if one[0] not in UNSEEN])
def test_skew_is_named(days: tuple[list[Row], list[Row]], name: str, kind: str, column: str) -> None:
    served, logged = days
    found = {(one.kind, one.column) for one in find_shifts(SKEWS[name][0](served), logged, COLUMNS)}
    assert (kind, column) in found
    assert {other for _, other in found} == {column}


def numbers(change, seed: int = 1) -> list[tuple[str, str]]:
    rng = np.random.default_rng(seed)

    def draw() -> list[Row]:
        hours = rng.normal(15, 3, 2000).clip(0, 23).astype(int).tolist()
        flags = (rng.uniform(size=2000) < 0.1).tolist()
        return [{"hour": hour, "age": hour + 20.5, "flag": flag} for hour, flag in zip(hours, flags, strict=True)]

    served = [change(row) for row in draw()]
    return [(one.kind, one.said) for one in find_shifts(served, draw(), ("hour", "age", "flag"))]


def test_hours_of_another_zone_a_shift_and_an_inverted_flag_are_named() -> None:
    assert numbers(dict) == []
    moved = numbers(lambda row: row | {"hour": (row["hour"] + 5) % 24})
    assert moved == [("time zone", "the log's values +5, modulo 24")]
    assert numbers(lambda row: row | {"age": row["age"] + 8}) == [("shifted", "about the log's values +8")]
    ((kind, _),) = numbers(lambda row: row | {"flag": not row["flag"]})
    assert kind == "inverted"
