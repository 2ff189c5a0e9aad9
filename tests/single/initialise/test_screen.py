"""Columns that no feature may read, and why they are left out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from nightjar.jobs.initialise.look import Look
from tests.single.initialise.sample_logs import ROWS, look_at, write_logs

Make = Callable[[dict[str, Any], np.random.Generator], Any]


def look_with(tmp_path: Path, **more: Make) -> Look:
    return look_at(write_logs(tmp_path, **more), label="clicked", timestamp="shown_at")


def truth(columns: dict[str, Any], rng: np.random.Generator) -> np.ndarray:
    """The probability that `impressions` draws the click by, with a little noise, so that values differ."""
    odd = np.char.replace(columns["item"], "i", "").astype(int) % 2
    return np.where(odd, 0.5, 0.1) + rng.uniform(-0.01, 0.01, len(odd))


@pytest.mark.parametrize(
    ("name", "make", "reason"),
    [
        ("constant", lambda c, r: ["x"] * ROWS, "the same value in every row"),
        ("empty", lambda c, r: pa.nulls(ROWS, pa.string()), "no row has a value"),
        ("struct", lambda c, r: [{"a": 1}] * ROWS, "its type, struct<a: int64>, is none that a feature can read"),
        ("born", lambda c, r: c["shown_at"], "a timestamp other than the row's own"),
        ("impression_id", lambda c, r: r.permutation(ROWS) + r.integers(2**40), "an identifier of the row: "),
        ("token", lambda c, r: [f"{x:x}" for x in r.integers(2**60, size=ROWS)], "an identifier of the row: "),
        ("session_id", lambda c, r: r.integers(2**40) + np.arange(ROWS) // 10, "names a request or a session: "),
        ("dwell", lambda c, r: np.where(c["clicked"], r.gamma(2, 5, ROWS) + 1, 0), "tells the label by itself (AUC "),
        (
            "paid",
            lambda c, r: np.where(c["clicked"] * (r.random(ROWS) < 0.4), 9.5, 0.0),
            "known only afterwards: 100 %",
        ),
        ("pctr", truth, "the label's probability (calibrated, AUC 0."),
    ],
)
def test_is_left_out(tmp_path: Path, name: str, make: Make, reason: str) -> None:
    look = look_with(tmp_path, **{name: make})
    assert set(look.screening.left_out) == {name}
    assert look.screening.left_out[name].startswith(reason)
    assert name not in {column.name for column in look.usable}


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("note", lambda c, r: [f"one of {n} free texts" for n in r.integers(10_000, size=ROWS)]),
        ("amount", lambda c, r: r.integers(10**9, size=ROWS)),
        ("quality", lambda c, r: np.where(c["clicked"], r.beta(3, 2, ROWS), r.beta(2, 3, ROWS))),
        ("gift", lambda c, r: np.where(r.random(ROWS) < 0.3, c["clicked"] + 1, 0)),
        ("campaign_id", lambda c, r: r.integers(300, size=ROWS)),
    ],
)
def test_is_kept(tmp_path: Path, name: str, make: Make) -> None:
    """Texts and amounts may all differ; numbers in [0, 1] and good ones need not be the label's probability."""
    look = look_with(tmp_path, **{name: make})
    assert look.screening.left_out == {}
    assert name in {column.name for column in look.usable}


def test_the_true_probability_is_the_truth_if_it_is_called_so(tmp_path: Path) -> None:
    look = look_with(tmp_path, true_probability=truth)
    assert look.screening.truth == "true_probability"
    assert look_with(tmp_path / "other", predicted=truth).screening.truth is None


def test_a_request_is_known_for_the_sampling(tmp_path: Path) -> None:
    look = look_with(tmp_path, request_id=lambda c, r: r.integers(2**40) + np.arange(ROWS) // 10)
    assert look.screening.request == "request_id"


def test_the_auc_of_a_column_alone_is_that_of_its_label_rates(tmp_path: Path) -> None:
    """Half of the items are clicked with 0.5, half with 0.1: the AUC of that alone is known."""
    look = look_with(tmp_path)
    rate = 0.3
    odd, even = 0.5 * 0.5 / rate, 0.5 * 0.1 / rate  # of the positives
    odd_negative, even_negative = 0.5 * 0.5 / (1 - rate), 0.5 * 0.9 / (1 - rate)
    expected = odd * even_negative + 0.5 * (odd * odd_negative + even * even_negative)
    assert look.screening.auc["item"] == pytest.approx(expected, abs=0.03)
    assert look.screening.auc["device"] == pytest.approx(0.5, abs=0.03)
