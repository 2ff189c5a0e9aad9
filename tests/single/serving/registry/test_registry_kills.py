"""Whoever is killed, the registry has one whole champion, and the next attempt ends the same."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from nightjar.features.contract import storage
from nightjar.features.contract.errors import LockedError
from nightjar.serving import registry
from tests.kits.fake_hdfs import deaths
from tests.kits.registry_kit import (
    Killed,
    champion_of,
    history,
    kill_at,
    moved,
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


def again(root: str, step: str, *, done: bool) -> None:
    """The next attempt; a rollback that is done must not be done again, and any other command makes its end good."""
    if step == "rollback" and done:
        registry.promote(root, str(champion_of(root)), "the champion, by hand")
    else:
        STEPS[step](root)


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
            again(root, step, done=champion_of(root) != done)
        assert contents(root) == expected
        if kills <= calls:
            break
    assert kills == {"promote": 2, "rollback": 2, "prune": 6}[step]


@pytest.mark.parametrize("step", STEPS)
def test_a_kill_at_any_step_of_hdfs_leaves_a_champion_and_the_same_end(hdfs: str, step: str) -> None:
    """Every put, half a put, rename and removal, where no put and no rename overwrites."""
    root = storage.join(hdfs, "models")
    history(root)
    STEPS[step](root)
    expected, ends = contents(root), set()
    for death in deaths():
        storage.remove(root)
        history(root)
        with death:
            STEPS[step](root)
        ends.add(champion_of(root))
        assert read_whole(registry.load_champion(root)) == champion_of(root)
        again(root, step, done=champion_of(root) == "a")
        assert contents(root) == expected
    assert ends == {"promote": {"b", "c"}, "rollback": {"b", "a"}, "prune": {"b"}}[step]


def test_a_killed_prune_spares_what_was_published_again(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    history(root)
    with monkeypatch.context() as patched:
        kill_at(patched, 1, after=True)
        with pytest.raises(Killed):
            registry.prune(root, 1)
    begun = json.loads(storage.read_bytes(storage.join(root, "history/pruning.json")))["versions"]
    assert begun == ["d", "c"]
    publish(root, "d")
    assert registry.prune(root, 2) == ["c"]
    assert registry.versions(root) == ["e", "d", "b", "a"]


def test_a_move_is_made_with_its_entry_whether_or_not_the_pointer_file_followed(
    root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    history(root)
    with monkeypatch.context() as patched:
        kill_at(patched, 0, after=True)
        with pytest.raises(Killed):
            registry.promote(root, "c", "killed")
    assert champion_of(root) == "c"
    registry.promote(root, "d", "another night")
    assert registry.rollback(root).version == "c"


def sleep_before(monkeypatch: pytest.MonkeyPatch, root: str, step: str) -> None:
    """Before the next call of that function of storage, another run makes a move."""
    real = getattr(storage, step)

    def wakes_late(url: str, content: bytes) -> None:
        monkeypatch.setattr(storage, step, real)
        registry.promote(root, "d", "another run", token=6)
        real(url, content)

    monkeypatch.setattr(storage, step, wakes_late)


def test_a_run_that_slept_between_its_look_and_its_move_moves_nothing(
    root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    history(root)
    sleep_before(monkeypatch, root, "create_bytes")
    with pytest.raises(LockedError, match=r"another run has moved the pointer of .* in the same moment"):
        registry.promote(root, "c", "slept", token=5)
    for late in (lambda: registry.promote(root, "c", "slept", token=5), lambda: registry.rollback(root, token=5)):
        with pytest.raises(LockedError, match="its lease has the number 6, this run's 5"):
            late()
    assert moved(root) == ["a", "b", "d"]
    assert read_whole(registry.load_champion(root)) == "d"
    assert registry.rollback(root).token == 6, "by hand, without a lease"


def test_a_run_that_slept_after_its_move_leaves_no_older_champion(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    history(root)
    sleep_before(monkeypatch, root, "write_bytes")
    registry.promote(root, "c", "slept", token=5)
    assert json.loads(storage.read_bytes(f"{root}/champion.json"))["version"] == "c"
    assert read_whole(registry.load_champion(root)) == "d"
    registry.promote(root, "e", "the next night", token=7)
    assert moved(root) == ["a", "b", "c", "d", "e"]
    assert json.loads(storage.read_bytes(f"{root}/champion.json"))["version"] == "e"


@pytest.mark.parametrize("how", ["has taken the lease", "has moved the pointer"])
def test_a_prune_that_slept_through_a_takeover_removes_nothing_more(
    root: str, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other run goes back to a version that this one was about to remove."""
    history(root)
    registry.promote(root, "e", "gate", token=5)
    storage.write_bytes(f"{root}/lock/000005.json", b"{}")
    real = registry.unpublish

    def overtaken(directory: str) -> None:
        real(directory)
        monkeypatch.setattr(registry, "unpublish", real)
        if how == "has taken the lease":
            storage.write_bytes(f"{root}/lock/000006.json", b"{}")
        else:
            registry.promote(root, "a", "by hand", token=6)

    monkeypatch.setattr(registry, "unpublish", overtaken)
    with pytest.raises(LockedError, match=r"its lease has the number 6, this run's 5\. It removes nothing more"):
        registry.prune(root, 0, token=5)
    left = registry.versions(root)
    assert len(left) == 4, "one of three was removed before"
    assert "a" in left
    if how == "has moved the pointer":
        assert read_whole(registry.load_champion(root)) == "a"
    assert registry.prune(root, 0, token=6), "the other run goes on"
