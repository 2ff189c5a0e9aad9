"""Crosses and frequencies: what is measured, against counts and sums by hand, and what is chosen by it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nightjar.jobs.initialise.additive import (
    AdditiveModel,
    Coded,
    LabelledRows,
    auc,
    binned,
    model_of,
    pair,
)
from nightjar.jobs.initialise.features import propose_features
from nightjar.jobs.initialise.history import Times, history_of, share_unknown
from nightjar.jobs.initialise.interactions import Interactions
from nightjar.jobs.initialise.look import Look
from tests.single.initialise.sample_logs import ROWS, look_at, write_logs

MICROS_A_DAY = 86_400_000_000


def interactions_of(tmp_path: Path, **more: Any) -> tuple[Look, Interactions]:
    look = look_at(write_logs(tmp_path, **more), label="clicked")
    return look, Interactions(look, propose_features(look).fields)


def single(code: np.ndarray) -> Coded:
    return Coded(np.arange(len(code)), code, int(code.max()) + 1)


@pytest.fixture
def exclusive_or() -> tuple[LabelledRows, Coded, Coded]:
    """Labels that two coins tell together, and neither alone: 0.8 where they differ, else 0.2."""
    rng = np.random.default_rng(1)
    a, b = rng.integers(2, size=(2, 8000))
    label = (rng.random(8000) < np.where(a != b, 0.8, 0.2)).astype(np.float64)
    return LabelledRows(label, np.arange(8000) >= 6000), single(a), single(b)


def test_a_pair_is_worth_what_neither_side_says(exclusive_or: tuple[LabelledRows, Coded, Coded]) -> None:
    rows, a, b = exclusive_or
    model = model_of(rows, [a, b])
    gain = model.gain(pair(a, b), beyond=[a, b])
    expected = np.log(2) + 0.8 * np.log(0.8) + 0.2 * np.log(0.2)
    assert gain.is_certain
    assert gain.mean == pytest.approx(expected, abs=0.03)
    assert not model.gain(b, beyond=[a]).is_certain


def test_a_pair_of_two_good_features_is_worth_nothing_by_that() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.integers(3, size=(2, 12_000))
    label = (rng.random(12_000) < 1 / (1 + np.exp(-(a + b - 2.0)))).astype(np.float64)
    rows = LabelledRows(label, np.arange(12_000) >= 9000)
    model = model_of(rows, [single(a), single(b)])
    assert auc(label[rows.newest_R], model.logit_R[rows.newest_R]) > 0.7
    assert not model.gain(pair(single(a), single(b)), beyond=[single(a), single(b)]).is_certain


def test_nothing_is_learned_from_the_rows_that_judge() -> None:
    rng = np.random.default_rng(3)
    code = rng.integers(4, size=1000)
    label = rng.integers(2, size=1000).astype(np.float64)
    newest = np.arange(1000) >= 700
    turned = np.where(newest, 1 - label, label)
    logits = []
    for labels in (label, turned):
        model = AdditiveModel(LabelledRows(labels, newest))
        model.add(single(code))
        logits.append(model.logit_R)
    np.testing.assert_array_equal(*logits)


def test_a_list_has_a_conjunction_for_each_value() -> None:
    tags = Coded(np.array([0, 0, 2]), np.array([1, 2, 1]), 3, is_list=True)  # row 1 has none
    item = single(np.array([0, 1, 1]))
    both = pair(item, tags)
    assert both.row_V.tolist() == [0, 0, 2]
    assert both.codes == len(set(both.code_V.tolist())) == 3


def test_ranges_hold_as_many_rows_and_missing_ones_are_apart() -> None:
    number = np.r_[np.arange(1000.0), np.nan, np.nan]
    counts = np.bincount(binned(number).code_V)
    assert counts[0] == 2
    assert set(counts[1:].tolist()) <= {19, 20, 21, 39}


def test_the_auc_of_ties_is_a_half() -> None:
    label = np.array([0.0, 1.0, 0.0, 1.0])
    assert auc(label, np.zeros(4)) == 0.5
    assert auc(label, np.array([0.0, 1.0, 0.0, 1.0])) == 1.0
    assert auc(np.zeros(4), np.arange(4.0)) == 0.5


def test_counts_before_a_row_are_those_by_hand() -> None:
    rng = np.random.default_rng(4)
    code, day = rng.integers(5, size=(2, 300))
    time = day * MICROS_A_DAY + rng.integers(30, size=300)  # several rows share a moment
    label = rng.integers(2, size=300).astype(np.float64)
    found = history_of(code, LabelledRows(label, np.zeros(300, bool)), Times(time, day))
    for i in range(300):
        by_day = (code == code[i]) & (day < day[i])
        by_moment = (code == code[i]) & (time < time[i])
        assert found.rows_by_day_R[i] == by_day.sum()
        assert found.positives_by_day_R[i] == label[by_day].sum()
        assert found.rows_by_moment_R[i] == by_moment.sum()
        assert found.positives_by_moment_R[i] == label[by_moment].sum()
    rate = (found.positives_by_day_R + 0.2 * 5) / (found.rows_by_day_R + 5)
    np.testing.assert_allclose(found.log_odds(0.2, 5, "day"), np.log(rate / (1 - rate)) - np.log(0.2 / 0.8))


def test_new_keys_are_those_that_the_older_rows_hardly_hold() -> None:
    code = np.array([0, 0, 0, 1, 1, 2, 0, 1, 2, 3])
    rows = LabelledRows(np.zeros(10), np.arange(10) >= 6)
    assert share_unknown(code, rows, sampled=1.0) == 0.75
    assert share_unknown(code, rows, sampled=0.4) == 0.25, "of a thin sample one row is enough"


def test_the_pair_that_decides_becomes_a_cross_and_others_do_not(tmp_path: Path) -> None:
    """`shelf` and `weather` are coins, and so is `taste` but where they differ or not."""

    def told_together(columns: dict[str, Any], rng: np.random.Generator) -> np.ndarray:
        shelf = np.where(columns["device"] == "phone", 1, 0)
        return np.where(rng.random(ROWS) < 0.9, shelf ^ columns["clicked"], rng.integers(2, size=ROWS)).astype(str)

    _, interactions = interactions_of(tmp_path, weather=told_together)
    [cross] = interactions.crosses()
    assert cross.settings == {"name": "device_x_weather", "fields": ["device", "weather"], "buckets": 1024}
    assert cross.comment.startswith("4 pairs; takes 0.")


def test_users_and_items_become_frequencies_with_the_base_rate_as_prior(tmp_path: Path) -> None:
    look, interactions = interactions_of(tmp_path, item_id=lambda c, r: r.integers(40, size=ROWS))
    users, items = interactions.single_key_frequencies()
    assert users.settings == {
        "name": "user_id_rate",
        "keys": ["user_id"],
        "windows": ["1d", "7d"],
        "statistics": ["log_odds", "log_count"],
        "prior": float(f"{look.rows.base_rate:.2g}"),
    }
    assert (items.settings["keys"], items.settings["windows"]) == (["item_id"], ["1d", "7d"])
    assert users.comment == "150.0 rows a key"


def test_keys_of_few_rows_are_counted_over_all_days(tmp_path: Path) -> None:
    _, interactions = interactions_of(tmp_path, ad_id=lambda c, r: r.integers(900, size=ROWS))
    rare = interactions.single_key_frequencies()[1].settings
    assert (rare["windows"], rare["strength"]) == (["all"], 5)


def burst(columns: dict[str, Any], rng: np.random.Generator) -> np.ndarray:
    """Visitors of one day who click all the time or never."""
    day = columns["shown_at"][0].as_py().day
    return 1000 * day + 2 * rng.integers(100, size=ROWS) + columns["clicked"]


def test_the_days_own_counts_are_in_it_where_keys_come_and_go_within_a_day(tmp_path: Path) -> None:
    _, interactions = interactions_of(tmp_path, visit_key=lambda c, r: np.where(r.random(ROWS) < 0.5, burst(c, r), 7))
    visits = next(e for e in interactions.single_key_frequencies() if e.settings["keys"] == ["visit_key"])
    assert visits.settings["as_of"] == "impression"
    assert "; the day's own counts before the row: takes 0." in visits.comment


def test_a_users_taste_is_counted_by_what_an_item_is(tmp_path: Path) -> None:
    """Each user likes one of two colours, which an item's id settles."""

    def item_id(columns: dict[str, Any], rng: np.random.Generator) -> np.ndarray:
        user = np.char.replace(columns["user_id"], "u", "").astype(int)
        liked = (user // 2 + user + columns["clicked"]) % 2
        return 2 * rng.integers(60, size=ROWS) + np.where(rng.random(ROWS) < 0.9, liked, rng.integers(2, size=ROWS))

    kept: dict[str, Any] = {}

    def remembered(columns: dict[str, Any], rng: np.random.Generator) -> np.ndarray:
        kept["item"] = item_id(columns, rng)
        return kept["item"]

    _, interactions = interactions_of(
        tmp_path, thing_id=remembered, colour=lambda c, r: np.where(kept["item"] % 2, "red", "blue")
    )
    interactions.single_key_frequencies()
    [taste] = interactions.paired_frequencies()
    assert taste.settings["keys"] == ["user_id", "colour"]
    assert "takes 0." in taste.comment
