"""The server follows the pointer: an answer is wholly of one version and its counters, and none is lost meanwhile."""

from __future__ import annotations

import shutil
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nightjar.serving import registry
from nightjar.serving.model import load
from nightjar.serving.server.settings import Settings
from tests.kits.serving.counters_kit import publish
from tests.kits.serving.server_kit import Running, json_rows, model_of, running

ROWS = json_rows(12, seed=3)
PROMOTIONS = 20


@pytest.fixture
def moving(models: str, tmp_path: Path) -> str:
    """A registry of its own."""
    shutil.copytree(models, tmp_path / "models")
    return str(tmp_path / "models")


def test_twenty_promotions_lose_and_mix_nothing(moving: str) -> None:
    wanted = {version: model_of(moving, version).score(ROWS).tolist() for version in ("one", "two")}
    assert all(one != two for one, two in zip(wanted["one"], wanted["two"], strict=True))
    wrong: list[Any] = []
    answered = {"one": 0, "two": 0}
    with running(moving, Settings(every_seconds=0.01, seconds=60.0)) as server:
        done = threading.Event()

        def ask(start: int) -> None:
            with server.client() as client:
                while not done.is_set():
                    found = client.post("/score", {"rows": ROWS[start:]})
                    if found.status != 200 or found.json["scores"] != wanted[found.json["version"]][start:]:
                        wrong.append((found.status, found.content))
                    else:
                        answered[found.json["version"]] += 1

        threads = [threading.Thread(target=ask, args=(start,)) for start in (0, 5, 11)]
        for thread in threads:
            thread.start()
        for move in range(PROMOTIONS):
            version = ("two", "one")[move % 2]
            registry.promote(moving, version, f"move {move}")
            until_served(server, version)
        done.set()
        for thread in threads:
            thread.join(60)
        loads = server.metric('nightjar_server_loads_total{outcome="model"}')
    assert not wrong
    assert min(answered.values()) > 0
    assert loads == PROMOTIONS


def until_served(server: Running, version: str) -> None:
    with server.client() as client:
        for _ in range(6000):
            if client.get("/readyz").json["version"] == version:
                return
            threading.Event().wait(0.01)
    raise AssertionError(f"{version} is not served")


def test_a_damaged_version_is_not_served_and_a_repaired_one_is(moving: str) -> None:
    registry.promote(moving, "two", "by hand")
    registry.promote(moving, "one", "by hand")
    with running(moving) as server, server.client() as client:
        before = client.post("/score", {"rows": ROWS}).json
        registry.promote(moving, "two", "by hand")
        damaged = Path(moving) / "two" / "scoring" / "wide_weights.npy"
        whole = damaged.read_bytes()
        damaged.write_bytes(whole[:-1] + b"?")
        server.server.follower.look()
        assert client.post("/score", {"rows": ROWS}).json == before
        state = client.get("/readyz")
        assert (state.status, state.json["version"]) == (200, "one")
        (problem,) = state.json["problems"]
        assert "wide_weights.npy" in problem
        assert server.metric("nightjar_server_behind") == 1
        assert server.metric('nightjar_server_loads_total{outcome="failed"}') == 1
        damaged.write_bytes(whole)
        server.server.follower.look()
        assert client.post("/score", {"rows": ROWS}).json["version"] == "two"
        assert client.get("/readyz").json["problems"] == []
        assert server.metric("nightjar_server_behind") == 0


def test_a_pointer_that_cannot_be_read_ends_nothing(moving: str) -> None:
    with running(moving) as server, server.client() as client:
        (Path(moving) / "champion.json").write_text("{")
        server.server.follower.look()
        assert client.post("/score", {"rows": ROWS}).status == 200
        assert "champion.json" in client.get("/readyz").json["problems"][0]


def test_a_rollback_is_followed_with_its_description(moving: str) -> None:
    registry.promote(moving, "two", "by hand")
    with running(moving) as server, server.client() as client:
        assert "Serves two." in client.get("/openapi.json").json["info"]["description"]
        registry.rollback(moving)
        server.server.follower.look()
        assert "Serves one." in client.get("/openapi.json").json["info"]["description"]
        scores = np.array(client.post("/score", {"rows": ROWS}).json["scores"], np.float32)
        np.testing.assert_array_equal(scores, model_of(moving, "one").score(ROWS))


def test_newer_counters_are_followed_with_and_without_a_new_version(moving: str) -> None:
    """The third day's are a delta on those held; the fourth come with another version, and stay with a rollback."""
    registry.promote(moving, "two", "by hand", publish(moving, 1))
    with running(moving) as server, server.client() as client:
        for day, version in ((2, "two"), (3, "two"), (4, "one"), (4, "two")):
            name = publish(moving, day) if day != 4 or version == "one" else registry.newest_counters(moving, "two")
            assert name is not None
            if day < 4:
                registry.renew(moving, name, "night")
            elif version == "one":
                registry.promote(moving, version, "gate", name)
            else:
                registry.rollback(moving)
            server.server.follower.look()
            found = client.post("/score", {"rows": ROWS}).json
            own = load(f"{moving}/{version}", counters=f"{moving}/counters/{name}")
            assert (found["version"], found["counters"]) == (version, name)
            assert found["counters_as_of"] == own.counters_as_of.isoformat()
            np.testing.assert_array_equal(np.array(found["scores"], np.float32), own.score(ROWS))
        assert server.metric('nightjar_server_loads_total{outcome="counters"}') == 2
        assert server.metric('nightjar_server_loads_total{outcome="model"}') == 2
        assert server.metric(f'nightjar_server_model_info{{counters="{name}",version="two"}}') == 1


def test_counters_that_are_too_old_are_not_served_with(models: str) -> None:
    age = (datetime.now(UTC).date() - model_of(models, "one").counters_as_of).days
    with running(models, Settings(counters_days=age - 2)) as server, server.client() as client:
        found = client.post("/score", {"rows": ROWS})
        assert (found.status, found.headers["retry-after"]) == (503, "60")
        assert f"the counters are those for 2024-05-03, {age} days ago" in found.json["error"]
        assert client.get("/readyz").status == 503
        assert client.get("/healthz").status == 200
    with running(models, Settings(counters_days=age + 1)) as server, server.client() as client:
        assert client.post("/score", {"rows": ROWS}).status == 200
