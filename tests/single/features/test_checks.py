"""A day's figures against those of the days before: which differ too much, and which only as days do."""

from __future__ import annotations

from typing import Any

import pytest

from nightjar.features.checks.checks import CHECKS, Day, LogValidationConfig, drift_checks, simple_checks
from nightjar.features.checks.drift import Drift
from nightjar.features.contract.manifests import AggregateManifest, ColumnProfile, ProfileManifest, ValidationCheck
from nightjar.features.contract.spec import CategoricalField, FeatureSpec
from nightjar.features.input.folders import LogPartition

SPEC = FeatureSpec.model_validate(
    {
        "name": "tiny",
        "label": "clicked",
        "timestamp": "time",
        "fields": [{"name": "item"}, {"name": "weekday"}],
        "dense": [{"name": "price"}],
    }
)
CONFIG = LogValidationConfig()


def column(**changes: Any) -> ColumnProfile:
    return ColumnProfile(**{"values": 1000, "missing": 0, "constant": False, "content": 0, **changes})


def day(
    number: int, rows: int = 1000, positives: int = 100, types: tuple[str, ...] = ("int",) * 5, **columns: ColumnProfile
) -> Day:
    """A day whose columns hold other values than those of any other day."""
    date = f"2026-01-{number:02d}"
    of_column = {name: column(content=number) for name in ("clicked", "item", "price")}
    of_column["weekday"] = column(constant=True, content=number)
    return Day(
        LogPartition(date, "", rows, types, str(number)),
        AggregateManifest(files=(), spec_fingerprint="", date=date, rows=rows, positives=positives),
        ProfileManifest(files=(), spec_fingerprint="", date=date, columns=of_column | columns),
    )


BEFORE = [day(1), day(2, rows=1500, positives=120), day(3, rows=900, positives=99)]


def failed(newest: Day, **settings: Any) -> list[tuple[str, str | None]]:
    config = LogValidationConfig(**settings)
    return [(c.check, c.feature) for c in simple_checks(config, SPEC, newest, BEFORE) if not c.passed]


def test_a_day_like_the_others_passes_although_its_weekday_is_constant() -> None:
    checks = list(simple_checks(CONFIG, SPEC, day(4), BEFORE))
    assert all(check.passed for check in checks)
    assert {check.check for check in checks} == set(CHECKS) - {"drift", "unseen"}


@pytest.mark.parametrize(
    ("newest", "expected"),
    [
        (day(4, rows=299, positives=30), [("rows", None)]),
        (day(4, rows=4501, positives=450), [("rows", None)]),
        (day(4, positives=260), [("label_rate", None)]),
        (day(4, positives=5), [("label_rate", None)]),
        (day(4, types=("int", "int", "int", "int", "string")), [("schema", "price")]),
        (day(4, price=column(content=4, missing=90, values=910)), [("missing", "price")]),
        (day(4, price=column(content=4, constant=True)), [("constant", "price")]),
        (
            day(4, item=column(content=4, constant=True, missing=1000, values=0)),
            [("constant", "item"), ("missing", "item")],
        ),
    ],
)
def test_what_differs_too_much_is_named(newest: Day, expected: list[tuple[str, str | None]]) -> None:
    assert failed(newest) == expected


def test_margins_are_counted_from_the_extremes_of_the_reference_days() -> None:
    within = {"rows": 300, "positives": 31}
    assert failed(day(4, **within)) == []
    assert failed(day(4, **within), rows=2.9) == [("rows", None)]
    # 120 / 1500 / 1.5, less four standard errors of such a share of 1000 rows.
    rate = 0.08
    low = rate / 1.5 - 4 * (rate * (1 - rate) / 1000) ** 0.5
    assert failed(day(4, positives=int(low * 1000))) == [("label_rate", None)]
    assert failed(day(4, positives=int(low * 1000) + 1)) == []
    assert failed(day(4), label_rate_between=(0.15, 1.0)) == [("label_rate", None)]


def test_a_copy_of_an_earlier_day_is_recognised_by_what_varies_in_it() -> None:
    same = {name: column(content=2) for name in ("clicked", "item", "price")}
    copy = day(4, rows=1500, positives=120, **same)
    assert failed(copy) == [("repeated", None)]
    assert failed(day(4, rows=1500, positives=120, **{**same, "price": column(content=7)})) == []
    assert failed(day(4, rows=1499, positives=120, **same)) == []


@pytest.mark.parametrize(
    ("shares", "others", "passed"),
    [
        ((1 / 1236, 1 / 1236), "0.0008091", True),
        ((0.015, 0.01), "0.01", True),  # four standard errors of 0.01 among 1000 rows are 0.013
        ((0.03, 0.02), "0.02", False),
        ((1.0, 1.0), "1", False),
        ((None, 0.001), "0.001", True),  # a log that is gone
        ((None, None), "1", False),
    ],
)
def test_a_value_that_nearly_all_rows_held_before_may_be_the_only_one_now(
    shares: tuple[float | None, float | None], others: str, passed: bool
) -> None:
    newest, before = day(3, price=column(content=3, constant=True)), [day(1), day(2)]
    by_day = {of.log.date: share for of, share in zip(before, shares, strict=True) if share is not None}
    checks = simple_checks(CONFIG, SPEC, newest, before, {"price": by_day})
    [check] = [check for check in checks if (check.check, check.feature) == ("constant", "price")]
    assert (check.passed, f"at least {others} of the rows held another" in check.reason) == (passed, True)


def judge(newest: Drift, *before: Drift, feature: Any = SPEC.fields[0]) -> dict[str, ValidationCheck]:
    by_day = {f"2026-01-{n:02d}": found for n, found in enumerate([*before, newest], 1)}
    days = [day(n) for n in range(1, len(by_day) + 1)]
    return {check.check: check for check in drift_checks(CONFIG, [(feature, by_day)], days[-1], days[:-1])}


def test_drift_may_be_twice_what_the_days_before_have_among_themselves() -> None:
    usual = (Drift(0.2, 0.0), Drift(0.1, 0.0))
    assert judge(Drift(0.4, 0.0), *usual)["drift"].passed
    assert not judge(Drift(0.41, 0.0), *usual)["drift"].passed
    assert judge(Drift(0.1, 0.0), Drift(0.0, 0.0), Drift(0.0, 0.0))["drift"].passed
    assert not judge(Drift(0.11, 0.0), Drift(0.0, 0.0), Drift(0.0, 0.0))["drift"].passed
    assert judge(Drift(1.0, 1.0), Drift(1.0, 1.0), Drift(1.0, 1.0))["drift"].passed


def test_one_day_before_tells_nothing_of_how_much_days_differ() -> None:
    checks = judge(Drift(0.9, 0.9), Drift(None, None))
    assert checks["drift"].passed
    assert checks["drift"].high is None
    assert "too few days before" in checks["drift"].reason


def test_unseen_values_are_judged_for_fields_only() -> None:
    usual = (Drift(0.0, 0.2), Drift(0.0, 0.1))
    assert not judge(Drift(0.0, 0.36), *usual)["unseen"].passed
    assert judge(Drift(0.0, 0.34), *usual)["unseen"].passed
    assert "unseen" not in judge(Drift(0.0, 0.9), *usual, feature=SPEC.dense[0])
    hashed = CategoricalField(name="query", kind="hashed", buckets=8)
    assert judge(Drift(0.0, 0.9), *usual, feature=hashed).keys() == {"drift"}, "it knows all values"


def test_bounds_of_the_label_rate_must_ascend() -> None:
    with pytest.raises(ValueError, match="two shares in ascending order"):
        LogValidationConfig(label_rate_between=(0.5, 0.1))
