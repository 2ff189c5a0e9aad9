"""Requests that are scored together have the scores, and the refusals, that each has alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nightjar.features.contract.errors import DataError
from nightjar.serving.model import ServingModel
from nightjar.serving.server.together import kinds_of, score_together
from tests.kits.serving.server_kit import json_rows, model_of

ROWS = json_rows(40, seed=8)
OTHERS: dict[str, list[Any]] = {
    "user": [3, True, "3", 2**70, 1.5],
    "item_id": ["3", 2**63, -(2**63), 2**63 - 1, False],
    "premium": ["true", 1],
    "seen": [["1", "2"], [1, "2"], [None], [1.5], "1", [True]],
    "tags": [[1], [], [None, None]],
    "age": [18, 2**53 + 1, True, "18", 10**30],
    "price": [1, 0, 2.5],
    "pair_impressions_so_far": [None, -1, 2.5, 2**60],
}


@pytest.fixture(scope="module")
def model(models: str) -> ServingModel:
    return model_of(models, "one")


def alone(model: ServingModel, rows: list[dict[str, Any]]) -> np.ndarray | str:
    try:
        return model.score(rows)
    except DataError as error:
        return str(error)


@st.composite
def rows(draw: st.DrawFn) -> dict[str, Any]:
    row = dict(draw(st.sampled_from(ROWS)))
    for name in draw(st.lists(st.sampled_from(sorted(OTHERS)), max_size=2, unique=True)):
        row[name] = draw(st.sampled_from(OTHERS[name]))
    for name in draw(st.lists(st.sampled_from(sorted(set(row) - {"pair_impressions_so_far"})), max_size=2)):
        row.pop(name, None)
    return row


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(rows(), max_size=3), max_size=6))
def test_together_is_as_alone_whatever_the_types(model: ServingModel, requests: list[list[dict[str, Any]]]) -> None:
    found = score_together(model, [column.name for column in model.inputs], requests)
    assert len(found) == len(requests)
    for one, request in zip(found, requests, strict=True):
        wanted = alone(model, request)
        if isinstance(one, DataError):
            assert str(one) == wanted
        else:
            np.testing.assert_array_equal(one, wanted)
            assert one.dtype == np.float32


def test_rows_of_one_kind_are_encoded_once(model: ServingModel, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    real = ServingModel.score_apart

    def counted(self: ServingModel, requests: Any) -> list[np.ndarray]:
        calls.append(len(requests))
        return real(self, requests)

    monkeypatch.setattr(ServingModel, "score_apart", counted)
    same = [row for row in ROWS if isinstance(row["age"], float) and isinstance(row["price"], float)]
    score_together(model, [column.name for column in model.inputs], [[row] for row in same])
    assert calls == [len(same)]


def test_a_column_is_of_one_kind_or_scored_alone() -> None:
    found = kinds_of([{"a": 1, "b": None, "c": ["x", None], "d": []}, {"a": 2, "c": None}], ["a", "b", "c", "d"])
    assert found == {"a": "integer", "b": "", "c": "list string", "d": "list "}
    assert kinds_of([{}], ["a"]) == {"a": ""}
    assert kinds_of([{}] * 65, ["a"]) is None
    odds: list[list[dict[str, Any]]] = [
        [{"a": 1}, {"a": 1.5}],
        [{"a": 2**63}],
        [{"a": [1, "x"]}],
        [{"a": "x"}, {"a": ["x"]}],
    ]
    for odd in odds:
        assert kinds_of(odd, ["a"]) is None
