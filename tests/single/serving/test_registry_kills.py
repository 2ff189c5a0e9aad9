"""Whoever is killed, the registry has one whole champion, and the next attempt ends the same."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest

from nightjar.features.contract import storage
from nightjar.serving import registry
from tests.kits.registry_kit import (
    Killed,
    champion_of,
    history,
    kill_at,
    publish,
    read_whole,
)


def contents(root: str) -> dict[str, bytes]:
    return {path: storage.read_bytes(storage.join(root, path)) for path in storage.list_files(root)}


STEPS: dict[str, Callable[[str], object]] = {
    "promote": lambda root: registry.promote(root, "c", "the gate"),
    "rollback": lambda root: registry.rollback(root),
    "prune": lambda root: registry.prune(root, 1),
}


@pytest.mark.parametrize("root", ["local", "memory"], indirect=True)
@pytest.mark.parametrize("torn", [False, True], ids=["before the call", "after the call"])
@pytest.mark.parametrize("step", STEPS)
def test_a_kill_at_any_write_leaves_a_champion_and_the_same_end(
    root: str, step: str, torn: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    history(root)
    STEPS[step](root)
    expected = contents(root)
    kills = 0
    for calls in range(20):
        storage.remove(root)
        history(root)
        done = champion_of(root)
        try:
            with monkeypatch.context() as patched:
                kill_at(patched, calls, torn)
                STEPS[step](root)
        except Killed:
            kills += 1
            assert read_whole(registry.load_champion(root)) in ("b", "c" if step == "promote" else "a")
            if not (step == "rollback" and champion_of(root) != done):
                STEPS[step](root)
        assert contents(root) == expected
        if kills <= calls:
            break
    assert kills == {"promote": 2, "rollback": 2, "prune": 6}[step]


def test_a_killed_prune_spares_what_was_published_again(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    history(root)
    with monkeypatch.context() as patched:
        kill_at(patched, 1, after=True)
        with pytest.raises(Killed):
            registry.prune(root, 1)
    begun = json.loads(storage.read_bytes(storage.join(root, "history/pruning.json")))["versions"]
    assert begun == ["d", "c"]
    if "://" in root:
        time.sleep(1.1)  # object stores tell when something was written to the second
    publish(root, "d", 9)
    assert registry.prune(root, 1) == ["e", "c"]
    assert sorted(registry.versions(root)) == ["a", "b", "d"]


def test_an_entry_that_no_pointer_reached_is_overwritten(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    history(root)
    with monkeypatch.context() as patched:
        kill_at(patched, 0, after=True)
        with pytest.raises(Killed):
            registry.promote(root, "c", "killed")
    assert champion_of(root) == "b"
    registry.promote(root, "d", "another night")
    assert registry.rollback(root).version == "b"
