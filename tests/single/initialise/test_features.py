"""Which fields and dense features a column becomes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nightjar.jobs.initialise.entries import named, power_of_two
from nightjar.jobs.initialise.features import propose_features
from tests.single.initialise.sample_logs import ROWS, impressions, look_at, write_logs

Make = Callable[[dict[str, Any], np.random.Generator], Any]
SIX_WORDS = "a text of some six words"


def features_of(tmp_path: Path, name: str, make: Make) -> tuple[list[dict[str, Any]], list[dict[str, Any]], str]:
    """Fields and dense features that read a further column, and the first one's comment."""
    features = propose_features(look_at(write_logs(tmp_path, **{name: make})))
    entries = [field.entry for field in features.fields], features.dense
    ours = [[entry for entry in kind if entry.settings.get("column", entry.name) == name] for kind in entries]
    return (*([entry.settings for entry in kind] for kind in ours), next(e.comment for kind in ours for e in kind))


@pytest.mark.parametrize(
    ("name", "make", "field", "dense"),
    [
        ("country", lambda c, r: r.choice(["at", "de"], ROWS), {"embedding": 8}, None),
        ("is_new", lambda c, r: r.random(ROWS) < 0.5, {"embedding": 8}, None),
        ("stars", lambda c, r: r.integers(5, size=ROWS), {"embedding": 8}, None),
        ("hour", lambda c, r: r.integers(24, size=ROWS), {"embedding": 8}, {"quantiles": 24}),
        ("age", lambda c, r: r.integers(80, size=ROWS), {}, {"quantiles": 80}),
        ("seconds", lambda c, r: r.integers(4000, size=ROWS), None, {}),
        ("score", lambda c, r: r.random(ROWS), None, {}),
        ("views", lambda c, r: np.floor(r.pareto(0.5, ROWS)) + 1.5, None, {"transform": "log"}),
        ("spent", lambda c, r: np.where(r.random(ROWS) < 0.7, 0.0, r.random(ROWS)), None, {"transform": "log"}),
        ("ad_id", lambda c, r: r.integers(150, size=ROWS), {"min_count": 2}, None),
        ("place_id", lambda c, r: r.zipf(1.5, ROWS) % 1500, {"min_count": 2}, None),
        (
            "tags",
            lambda c, r: [list(t) for t in r.choice(["a", "b"], (ROWS, 2))],
            {"multi_valued": True, "embedding": 8},
            None,
        ),
    ],
)
def test_a_column_becomes(
    tmp_path: Path, name: str, make: Make, field: dict[str, Any] | None, dense: dict[str, Any] | None
) -> None:
    fields, numbers, _ = features_of(tmp_path, name, make)
    assert fields == ([] if field is None else [{"name": name, **field}])
    assert numbers == ([] if dense is None else [{"name": name, **dense}])


def test_integers_are_names_where_their_values_tell_more_than_their_size(tmp_path: Path) -> None:
    """The rate of each of 400 codes is a coin's, whatever the codes beside it have."""
    lucky = np.random.default_rng(5).random(400) < 0.3

    def code(columns: dict[str, Any], rng: np.random.Generator) -> np.ndarray:
        of_clicked, others = np.flatnonzero(lucky), np.flatnonzero(~lucky)
        return np.where(columns["clicked"], rng.choice(of_clicked, ROWS), rng.choice(np.r_[others, of_clicked], ROWS))

    fields, numbers, _ = features_of(tmp_path, "code", code)
    assert [field["name"] for field in fields] == ["code"]
    assert numbers == []


def test_a_number_of_few_values_is_cut_between_them_too(tmp_path: Path) -> None:
    fields, numbers, comment = features_of(tmp_path, "size", lambda c, r: r.choice([0.5, 1.0, 2.5], ROWS))
    assert fields == [{"name": "size_band", "column": "size", "boundaries": [1.0, 2.5], "embedding": 8}]
    assert numbers == [{"name": "size", "quantiles": 3}]
    assert comment == "3 values: each an interval of its own"


def test_text_and_open_ended_strings_are_hashed(tmp_path: Path) -> None:
    fields, _, comment = features_of(
        tmp_path / "a", "title", lambda c, r: [f"{SIX_WORDS} {n}" for n in r.integers(900, size=ROWS)]
    )
    assert fields == [{"name": "title", "kind": "hashed", "buckets": 1024}]
    assert comment.startswith("free text: ")
    fields, _, comment = features_of(
        tmp_path / "b", "query", lambda c, r: [f"q{n} x" for n in r.integers(9000, size=ROWS)]
    )
    assert fields == [{"name": "query", "kind": "hashed", "buckets": 8192}]
    assert comment.startswith("open-ended: ")


def test_a_key_whose_values_are_mostly_new_is_only_counted(tmp_path: Path) -> None:
    def visitor(columns: dict[str, Any], rng: np.random.Generator) -> np.ndarray:
        return np.where(rng.random(ROWS) < 0.5, rng.integers(100, size=ROWS), rng.integers(1000, 10**6, ROWS))

    fields, _, comment = features_of(tmp_path, "visitor_id", visitor)
    assert fields == [{"name": "visitor_id", "min_count": 5, "embedding": 0, "wide": False}]
    assert " % of the newest rows hold new ones: a key of counts only" in comment


def test_what_the_ranking_decides_is_said(tmp_path: Path) -> None:
    _, _, comment = features_of(tmp_path, "position", lambda c, r: r.integers(10, size=ROWS))
    assert comment.endswith("known only after ranking: a request has none")


def test_a_number_that_goes_one_to_one_with_a_field_is_no_second_field(tmp_path: Path) -> None:
    def number(columns: dict[str, Any], rng: np.random.Generator) -> list[int]:
        return [10 * int(item[1:]) for item in columns["item"]]

    features = propose_features(look_at(write_logs(tmp_path, item_number=number)))
    assert features.left_out == {"item_number": "one to one with the field item"}
    assert "item_number" not in {field.name for field in features.fields} | {entry.name for entry in features.dense}


def test_a_log_of_numbers_alone_gets_a_field_of_ranges(tmp_path: Path) -> None:
    columns = impressions(0)
    kept = {name: columns[name] for name in ("clicked", "shown_at", "price")}
    pq.write_table(pa.table(kept), tmp_path / "a.parquet")
    [field] = propose_features(look_at(tmp_path)).fields
    assert field.name == "price_band"
    assert field.entry.settings["boundaries"] == pytest.approx(np.quantile(columns["price"], np.arange(0.1, 0.95, 0.1)))


def test_comments_give_the_figures(tmp_path: Path) -> None:
    def country(columns: dict[str, Any], rng: np.random.Generator) -> pa.Array:
        return pa.array(rng.choice(["at", "de"], ROWS), mask=rng.random(ROWS) < 0.25)

    _, _, comment = features_of(tmp_path, "country", country)
    assert comment.startswith("2 values, 25 % missing, AUC alone 0.")


def test_names_are_those_of_the_columns_as_far_as_they_can_be() -> None:
    assert named("user_id", []) == {"name": "user_id"}
    assert named("user id", []) == {"name": "user_id", "column": "user id"}
    assert named("7days", []) == {"name": "column_7days", "column": "7days"}
    assert named("Price", ["price"]) == {"name": "Price_2", "column": "Price"}
    assert len(named("x" * 200, [])["name"]) == 40


def test_sizes_are_powers_of_two_within_bounds() -> None:
    assert [power_of_two(n, 4, 64) for n in (1, 5, 8, 1000)] == [4, 8, 8, 64]
