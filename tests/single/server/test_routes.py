"""What the routes answer: scores to the bit, explanations, their own description, and one message for every refusal."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from openapi_spec_validator import validate

from nightjar.features.contract.errors import DataError
from nightjar.serving import InContext
from nightjar.serving.model import ServingModel
from nightjar.serving.server.answers import without_score
from nightjar.serving.server.settings import Settings
from tests.kits.serving.server_kit import JSON, Client, Running, json_rows, model_of, running

ROWS = json_rows(60, seed=5)
ONLY = {name: value for name, value in ROWS[0].items() if name in ("user", "premium", "seen")}
CANDIDATES = [{name: value for name, value in row.items() if name not in ONLY} for row in ROWS]


def floats(scores: list[float]) -> np.ndarray:
    found = np.array(scores, np.float32)
    assert found.tolist() == scores
    return found


def test_scores_are_those_of_the_model_to_the_bit_with_and_without_a_context(models: str, client: Client) -> None:
    model = model_of(models, "one")
    plain = client.post("/score", {"rows": ROWS}).json
    assert (plain["version"], plain["counters"], plain["counters_as_of"]) == ("one", None, "2024-05-03")
    np.testing.assert_array_equal(floats(plain["scores"]), model.score(ROWS))
    within = client.post("/score", {"context": ONLY, "rows": CANDIDATES}).json
    np.testing.assert_array_equal(floats(within["scores"]), model.score(InContext(ONLY, CANDIDATES)))
    assert client.post("/score", {"rows": []}).json["scores"] == []


@pytest.mark.parametrize("k", [1, 7, 1000, None])
def test_the_best_come_first_with_their_scores(models: str, client: Client, k: int | None) -> None:
    request = InContext(ONLY, CANDIDATES)
    model = model_of(models, "one")
    body = {"context": ONLY, "candidates": CANDIDATES} | ({"k": k} if k else {})
    found = client.post("/rank", body).json
    assert found["positions"] == model.rank(request, k).tolist()
    np.testing.assert_array_equal(floats(found["scores"]), model.score(request)[found["positions"]])


def test_an_explanation_adds_up_and_is_the_models(models: str, client: Client) -> None:
    found = client.post("/explain", {"row": ROWS[3]}).json
    own = model_of(models, "one").explain(ROWS[3])
    assert found["probability"] == own.probability
    assert [one["name"] for one in found["contributions"]] == [one.name for one in own.contributions]
    assert found["base"] + sum(one["logit"] for one in found["contributions"]) == pytest.approx(
        found["logit"], abs=1e-4
    )
    assert {one["frequency"] for one in found["counts"]} == {"item_rate", "pair"}


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"", 400, "the body is empty. Send a JSON object."),
        (b" \n", 400, "the body is empty. Send a JSON object."),
        (b'{"rows": [', 400, "the body is not JSON: Expecting value: line 1 column 11 (char 10)."),
        (b'\xef\xbb\xbf{"rows": []}', 400, "the body is not JSON: Expecting value: line 1 column 1 (char 0)."),
        ('{"rows": []}'.encode("utf-16"), 400, "the body is not UTF-8"),
        (b'{"rows": [{"user": NaN}]}', 400, "the body holds NaN, which is not JSON. Send null"),
        (b'{"rows": [{"user": -Infinity}]}', 400, "the body holds -Infinity, which is not JSON"),
        (b'{"rows": [{"price": 1e999}]}', 400, "the number 1e999, which is beyond a double's range"),
        (b'{"rows": [{"price": ' + b"9" * 5000 + b"}]}", 400, "Exceeds the limit (4300 digits)"),
        (b'{"rows": [{"user": "a", "user": "b"}]}', 400, 'the key "user" twice in one object. Keep one of them.'),
        (b"[" * 100_000 + b"]" * 100_000, 400, "nested too deeply"),
        (b'{"rows": [{"user": ' + b'{"a":' * 900 + b"1" + b"}" * 900 + b"}]}", 422, 'column "user" holds an object'),
        (b"[]", 422, 'the body is a list. Send an object: {"rows": …}.'),
        (b"null", 422, "the body is null"),
        (b"{}", 422, 'the body has no "rows"'),
        (b'{"row": []}', 422, "the body has the keys [\"row\"]; it may have ['context', 'rows']. Did you mean 'rows'"),
        (b'{"rows": {}}', 422, "rows is an object; it must be a list of objects."),
        (b'{"rows": [{}, 3]}', 422, "rows[1] is a number; it must be an object of columns."),
        (b'{"rows": [], "context": []}', 422, "context is a list; it must be an object of columns."),
        (b'{"rows": [{"seen": [[1]]}]}', 422, 'column "seen" holds a list with a list'),
        (b'{"rows": [{"usr": "ann"}]}', 422, "Did you mean 'user' for 'usr'?"),
    ],
)
def test_a_body_that_could_be_read_in_two_ways_or_in_none_is_refused(
    client: Client, body: bytes, status: int, said: str
) -> None:
    found = client.post("/score", body)
    assert (found.status, list(found.json)) == (status, ["error"])
    assert said in found.json["error"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"age": "old"}, "age"),
        ({"user": [1]}, "user"),
        ({"seen": "1,2"}, "seen"),
        ({"user": "\ud800"}, "holds a string that is not Unicode"),
        ({"price": 10**400}, "price"),
        ({"pair_impressions_so_far": -1}, "a count must lie between 0 and 2^53"),
        ({"pair_impressions_so_far": None}, "is missing in 1 rows"),
        ({"user": 1.5}, "user"),
    ],
)
@pytest.mark.parametrize("route", ["/score", "/explain"])
def test_rows_of_other_types_are_refused_in_the_models_words(
    models: str, client: Client, route: str, change: dict[str, Any], said: str
) -> None:
    row = ROWS[0] | change
    found = client.post(route, {"rows": [row]} if route == "/score" else {"row": row})
    assert (found.status, list(found.json)) == (422, ["error"])
    assert said in found.json["error"]
    with pytest.raises(DataError) as own:
        model_of(models, "one").score([row])
    assert str(own.value) == found.json["error"]


@pytest.mark.parametrize("k", [0, -1, 1.0, "3", True, []])
def test_k_is_a_number_of_candidates(client: Client, k: Any) -> None:
    found = client.post("/rank", {"candidates": ROWS[:2], "k": k})
    assert (found.status, found.json["error"]) == (
        422,
        f"k is {json.dumps(k)}; it must be an integer of 1 or more, or be left out for all.",
    )


def test_a_column_in_context_and_rows_is_refused(client: Client) -> None:
    found = client.post("/rank", {"context": ONLY, "candidates": ROWS[:2]})
    assert found.status == 422
    assert "context and candidates both bring the columns ['premium', 'seen', 'user']" in found.json["error"]


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/nowhere", {}, 404),
        ("GET", "/score/", {}, 404),
        ("GET", "/score", {}, 405),
        ("DELETE", "/", {}, 405),
        ("POST", "/score", {}, 415),
        ("POST", "/score", {"Content-Type": "text/plain"}, 415),
        ("POST", "/score", {"Content-Type": "application/json; charset=latin-1"}, 415),
        ("POST", "/score", JSON | {"Content-Encoding": "gzip"}, 415),
        ("GET", "/readyz", {"Host": "evil.example:80"}, 421),
        ("POST", "/score", JSON | {"Host": "localhost.evil.example"}, 421),
    ],
)
def test_other_requests_have_one_message_too(
    client: Client, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    found = client.ask(method, path, b"{}" if method == "POST" else None, headers)
    assert (found.status, list(found.json)) == (status, ["error"])


def test_a_charset_that_is_utf_8_is_taken(client: Client) -> None:
    assert (
        client.post("/score", {"rows": ROWS[:1]}, {"Content-Type": 'Application/JSON; Charset="UTF-8"'}).status == 200
    )


def test_sizes_are_bounded_and_the_connection_stays_of_use(models: str) -> None:
    with (
        running(models, Settings(body_bytes=50_000, rows=10, every_seconds=3600.0)) as server,
        server.client() as client,
    ):
        assert "11 rows; at most 10 are allowed" in client.post("/score", {"rows": ROWS[:11]}).json["error"]
        large = client.post("/score", b'{"rows": [' + b" " * 200_000 + b"]}")
        assert (large.status, large.json["error"]) == (413, "the body is larger than 50000 bytes. Send fewer rows.")
        assert client.post("/score", {"rows": ROWS[:10]}).status == 200


def test_the_description_is_valid_and_made_of_the_models_inputs(models: str, client: Client) -> None:
    found = client.get("/openapi.json").json
    validate(found)
    row = found["components"]["schemas"]["Row"]
    inputs = model_of(models, "one").inputs
    assert list(row["properties"]) == [column.name for column in inputs]
    assert row["required"] == [column.name for column in inputs if column.required]
    assert row["properties"]["seen"]["type"] == ["array", "null"]
    assert row["properties"]["pair_impressions_so_far"]["type"] == "integer"
    for path in ("/score", "/rank", "/explain"):
        example = found["paths"][path]["post"]["requestBody"]["content"]["application/json"]["example"]
        assert client.post(path, example).status == 200
    golden = client.post("/score", {"rows": row["examples"]}).json["scores"]
    np.testing.assert_allclose(golden, np.load(f"{models}/one/golden/scores.npy")[: len(golden)], atol=1e-6)


def test_golden_rows_need_not_be_shown(models: str) -> None:
    with running(models, Settings(examples=False, every_seconds=3600.0)) as server, server.client() as client:
        found = client.get("/openapi.json")
        validate(found.json)
        assert b"example" not in found.content


def test_figures_count_requests_rows_and_what_serves(server: Running, client: Client) -> None:
    names = {
        'nightjar_server_requests_total{route="/score",status="200"}': 1,
        'nightjar_server_requests_total{route="/score",status="422"}': 1,
        'nightjar_server_requests_total{route="other",status="404"}': 1,
        'nightjar_server_request_seconds_count{route="/score",status="200"}': 1,
        'nightjar_server_rows_total{route="/score"}': 60,
        "nightjar_server_request_rows_count": 1,
        "nightjar_server_batch_requests_count": 2,
    }
    before = {name: server.metric(name) for name in names}
    client.post("/score", {"rows": ROWS})
    client.post("/score", {"rows": 1})
    client.get("/a/b?c")
    assert {name: server.metric(name) - before[name] for name in names} == names
    assert server.metric('nightjar_server_model_info{counters="",version="one"}') == 1
    assert server.metric("nightjar_server_behind") == 0
    assert server.metric("nightjar_server_waiting") == 0


def test_a_bug_is_a_500_that_tells_nothing_and_the_server_goes_on(
    server: Running, client: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a secret place")

    with monkeypatch.context() as patched:
        patched.setattr(ServingModel, "score", broken)
        found = client.post("/score", {"rows": ROWS})
    assert (found.status, found.json) == (500, {"error": "the server has failed; its log says why."})
    assert "a secret place" in caplog.text
    assert client.post("/score", {"rows": ROWS}).status == 200


def test_where_any_name_is_allowed_any_is_answered(models: str) -> None:
    with running(models, hosts=()) as server, server.client() as client:
        assert client.get("/readyz", {"Host": "models.example:8080"}).status == 200


def test_a_row_without_a_score_is_named() -> None:
    assert without_score(np.array([0.0, 1.0], np.float32)) is None
    refused = without_score(np.array([0.5, np.nan, np.inf], np.float32))
    assert refused is not None
    assert (refused.status, str(refused)[:24]) == (422, "row 1 has no score: a nu")


def test_it_says_that_it_lives_and_what_it_serves(client: Client) -> None:
    assert client.get("/healthz").json == {"alive": True}
    found = client.get("/readyz").json
    assert (found["ready"], found["version"], found["problems"]) == (True, "one", [])
    assert client.get("/readyz").headers["x-content-type-options"] == "nosniff"
