"""Any body at all is scored as the model scores it, or refused with one message and a 4xx.

NIGHTJAR_FUZZ_EXAMPLES says how many bodies are tried.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from nightjar.features.contract.errors import DataError
from nightjar.serving import InContext
from nightjar.serving.model import ServingModel
from tests.kits.serving.server_kit import Client, Running, json_rows, model_of

EXAMPLES = int(os.environ.get("NIGHTJAR_FUZZ_EXAMPLES", "300"))
ROWS = json_rows(40, seed=13)
COLUMNS = sorted(ROWS[0])
REFUSALS = {400, 413, 415, 422}

TEXTS = st.text(st.characters(codec=None, exclude_categories=()), max_size=5) | st.sampled_from(["ann", "été", "3"])
INTEGERS = st.integers(-3, 80) | st.sampled_from([2**53 + 1, 2**63, -(2**63) - 1, 2**70, 10**39, 10**400])
FLOATS = st.floats(allow_nan=True, allow_infinity=True) | st.sampled_from([0.5, 18.0, -0.0, 5e-324, 1.7e308])
SCALARS = st.none() | st.booleans() | INTEGERS | FLOATS | TEXTS
VALUES = SCALARS | st.lists(SCALARS, max_size=4)
ANYTHING = st.recursive(SCALARS, lambda of: st.lists(of, max_size=3) | st.dictionaries(TEXTS, of, max_size=3))


@st.composite
def rows(draw: st.DrawFn) -> dict[str, Any]:
    """A row, with some of its values exchanged, or taken from other rows, or gone, and others added."""
    row = dict(draw(st.sampled_from(ROWS)))
    for name in draw(st.lists(st.sampled_from(COLUMNS), max_size=3)):
        row[name] = draw(st.sampled_from(ROWS))[name] if draw(st.booleans()) else draw(VALUES)
    for name in draw(st.lists(st.sampled_from(COLUMNS), max_size=1)):
        row.pop(name, None)
    return row | draw(st.dictionaries(TEXTS, ANYTHING, max_size=1) if draw(st.integers(0, 9)) == 0 else st.just({}))


@st.composite
def envelopes(draw: st.DrawFn) -> tuple[str, Any]:
    """A route, and a body that is right or nearly so."""
    route = draw(st.sampled_from(["/score"] * 4 + ["/rank"] * 4 + ["/explain"]))
    if route == "/explain":
        return route, {"row": draw(rows())}
    found: dict[str, Any] = {"rows" if route == "/score" else "candidates": draw(st.lists(rows(), max_size=4))}
    if draw(st.booleans()):
        shared = draw(st.lists(st.sampled_from(COLUMNS), max_size=4, unique=True))
        context = draw(rows())
        found["context"] = {name: value for name, value in context.items() if name in shared}
        for row in next(iter(found.values())) if draw(st.integers(0, 4)) else ():
            for name in shared:
                row.pop(name, None)
    if route == "/rank" and draw(st.booleans()):
        found["k"] = draw(st.integers(1, 5)) if draw(st.booleans()) else draw(ANYTHING)
    if draw(st.integers(0, 9)) == 0:
        found[draw(st.sampled_from(["rows", "row", "k", "context", "candidates", "more"]))] = draw(ANYTHING)
    return route, found


@st.composite
def requests(draw: st.DrawFn) -> tuple[str, bytes]:
    """A route and the bytes of a body: of an envelope, of one with bytes exchanged, of any JSON, or any bytes."""
    kind = draw(st.integers(0, 9))
    route, body = draw(envelopes())
    if kind == 0:
        return route, draw(st.binary(max_size=30))
    if kind == 1:
        body = draw(ANYTHING)
    written = json.dumps(body).encode()
    if kind == 2:
        for _ in range(draw(st.integers(1, 3))):
            place = draw(st.integers(0, len(written)))
            written = written[:place] + draw(st.binary(max_size=3)) + written[place + draw(st.integers(0, 3)) :]
    return route, written


@pytest.fixture(scope="module")
def model(models: str) -> ServingModel:
    return model_of(models, "one")


@pytest.fixture(scope="module")
def held(server: Running) -> Iterator[Client]:
    with server.client() as found:
        yield found


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(request=requests())
def test_any_body_is_scored_as_the_model_does_or_refused(
    held: Client, model: ServingModel, request: tuple[str, bytes]
) -> None:
    route, body = request
    answer = held.post(route, body)
    event(f"{route} {answer.status}")
    if answer.status != 200:
        assert answer.status in REFUSALS, answer
        assert list(answer.json) == ["error"]
        assert answer.json["error"]
        return
    asked, found = json.loads(body), answer.json
    if route == "/explain":
        assert found["probability"] == model.explain([asked["row"]]).probability
        return
    of = asked["rows" if route == "/score" else "candidates"]
    wanted = model.score(of if asked.get("context") is None else InContext(asked["context"], of))
    if route == "/rank":
        order = model.rank(of if asked.get("context") is None else InContext(asked["context"], of), asked.get("k"))
        assert found["positions"] == order.tolist()
        wanted = wanted[order]
    assert found["scores"] == wanted.tolist()


@settings(max_examples=EXAMPLES // 3, deadline=None, suppress_health_check=list(HealthCheck))
@given(row=rows())
def test_what_the_model_scores_alone_is_not_refused(held: Client, model: ServingModel, row: dict[str, Any]) -> None:
    """Unless a column that the model needs is not there at all, or JSON cannot hold a value."""
    body = json.dumps({"rows": [row]})
    plain = all(not isinstance(value, dict) for value in row.values()) and set(COLUMNS) <= row.keys()
    try:
        model.score([row])
    except DataError:
        return
    if plain and "NaN" not in body and "Infinity" not in body and not any(_deep(value) for value in row.values()):
        assert held.post("/score", body.encode()).status == 200


def _deep(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(item, list | dict) for item in value)
