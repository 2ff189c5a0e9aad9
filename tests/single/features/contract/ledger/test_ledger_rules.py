"""The ledger names every step that has other rows than the one before it."""

from __future__ import annotations

from typing import Any

import pytest

from nightjar.features.contract.records import Ledger

DAY = {"in_files": 100, "counted": 100, "positives": 10}
GOOD: dict[str, Any] = {
    "days": [{**DAY, "date": f"2026-01-0{n}", "in_files": None if n == 2 else 100} for n in (1, 2, 3)],
    "train": {"directory": "train-x", "read": 200, "kept": 60, "positives": 20, "files": [30, 30]},
    "holdout": {"directory": "holdout-x", "read": 100, "kept": 100, "positives": 10, "files": [100]},
    "trained": [{"model": "wide_deep", "epochs": 3, "rows": 180, "held_out": False}],
    "evaluated": 100,
    "judged": 100,
}


def changed(path: str, value: Any) -> Ledger:
    """GOOD, with another value at a path."""
    document = Ledger.model_validate(GOOD).model_dump(mode="json")
    *way, last = [int(part) if part.isdecimal() else part for part in path.split(".")]
    node: Any = document
    for part in way:
        node = node[part]
    node[last] = value
    return Ledger.model_validate(document)


def test_rows_that_agree_are_no_problem() -> None:
    assert Ledger.model_validate(GOOD).problems() == []
    assert changed("train.read", None).problems() == []
    left_out = changed("days.0.in_files", 107).model_dump(mode="json")
    left_out["days"][0]["left_out"] = {"no label": 3, "no time": 4}
    assert Ledger.model_validate(left_out).problems() == []
    early = {"model": "wide_deep", "epochs": 3, "rows": 100, "held_out": True}
    assert changed("trained.0", early).problems() == []
    assert changed("finished", 100).problems() == []


def test_rows_of_the_judged_day_are_never_left_out_whatever_comes_after() -> None:
    document = changed("holdout", {**GOOD["holdout"], "kept": 99, "files": [99]}).model_dump(mode="json")
    [problem] = Ledger.model_validate({**document, "evaluated": 99, "judged": 99}).problems()
    assert problem == ("holdout-x: 100 rows with 10 positives were counted; 100 were read, and 99 with 10 encoded")


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("days.0.in_files", 101, "its files hold 101 rows; 0 were left out and 100 counted"),
        ("days.1.counted", 99, "train-x: 199 rows with 20 positives were counted; 200 were read"),
        ("days.1.positives", 9, "train-x: 200 rows with 19 positives were counted"),
        ("train.read", 199, "199 were read"),
        ("train.kept", 61, "its files hold 60 rows, not 61"),
        ("train.kept", 201, "201 with 20 encoded"),
        ("train.positives", 21, "60 with 21 encoded"),
        ("train.files", [30, 29], "its files hold 59 rows, not 60"),
        ("holdout.kept", 99, "99 rows of the day were encoded, 100 evaluated, 100 judged"),
        ("trained.0.rows", 179, "wide_deep has trained on 179 rows; 3 epochs of 60 are 180"),
        ("trained.0.rows", 181, "wide_deep has trained on 181 rows"),
        ("evaluated", 99, "100 rows of the day were encoded, 99 evaluated"),
        ("judged", 101, "101 judged"),
        ("finished", 99, "the finish has learned 99 rows of the day, of which 100 were encoded"),
    ],
)
def test_rows_that_differ_are_told_in_numbers(path: str, value: Any, said: str) -> None:
    assert any(said in problem for problem in changed(path, value).problems())
