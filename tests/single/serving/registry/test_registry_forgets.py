"""The pointer's history does not grow with the nights, and what is asked of it has the answer that all moves give."""

from __future__ import annotations

import shutil
from datetime import date, timedelta
from pathlib import Path

import pytest

from nightjar.features.contract import storage
from nightjar.features.contract.errors import DataError, LockedError
from nightjar.features.contract.outputs import numbered_file
from nightjar.jobs.nightly.retention import KeepConfig, Past, prune
from nightjar.serving import pointer, registry
from tests.kits.fake_hdfs import deaths
from tests.kits.feature_logs import SPEC
from tests.kits.registry_kit import Killed, champion_of, kill_at, publish

FIRST = date(2026, 1, 1)
KEEP = KeepConfig(models=3, nights=5)


def night_of(number: int) -> str:
    return (FIRST + timedelta(number)).isoformat()


def version_of(number: int) -> str:
    return f"{night_of(number)}-lr-aa"


def entries(root: str) -> list[int]:
    return pointer.numbers(storage.join(root, "history"))


def retain(output: str, number: int, keep: KeepConfig = KEEP) -> list[str]:
    return prune(keep, output, FIRST + timedelta(number), Past(SPEC, FIRST))


def run(root: str, numbers: range, keep: KeepConfig = KEEP) -> None:
    """Nights: publish, record, move and retain. Every fifth is rejected, after every eleventh a person rolls back."""
    output = root.removesuffix("/models")
    for number in numbers:
        publish(root, version_of(number))
        storage.write_bytes(f"{output}/nights/{night_of(number)}-aa/record", b"x")
        if number % 5 != 4:
            registry.promote(root, version_of(number), "gate", token=number + 1)
        if number % 11 == 10:
            registry.rollback(root, token=number + 1)
        retain(output, number, keep)


@pytest.fixture
def history(tmp_path: Path) -> str:
    """After sixty nights: the last one was published."""
    root = str(tmp_path / "models")
    run(root, range(59))
    return root


def contents(root: str) -> dict[str, bytes]:
    return {path: storage.read_bytes(storage.join(root, path)) for path in storage.list_files(root)}


def test_moves_stay_as_long_as_they_may_be_asked_for_and_no_longer(tmp_path: Path) -> None:
    """Against a registry in which all of them stay."""
    kept, whole = str(tmp_path / "a" / "models"), str(tmp_path / "b" / "models")
    for number in range(60):
        run(kept, range(number, number + 1))
        run(whole, range(number, number + 1), KeepConfig(models=3))
        assert registry.champion(kept) == registry.champion(whole)
        assert registry.versions(kept) == registry.versions(whole)
        for recent in range(max(number - 4, 0), number + 1):
            version = version_of(recent)
            assert registry.was_promoted(kept, version) == registry.was_promoted(whole, version), version
        line = [move.sequence for move in registry.line(kept)]
        assert line == [move.sequence for move in registry.line(whole)][: len(line)]
        # Of nights that may be run again, the newest champion before each.
        assert number < 8 or pointer.night_of(list(registry.line(kept))[-1].version) < night_of(number - 4)
        assert number < 30 or len(entries(kept)) <= 24
    assert len(entries(whole)) == registry.champion(whole).sequence
    last = storage.read_bytes(f"{kept}/history/last-moves.json")
    assert len(last) < 2_000, "the summary does not grow, either"
    assert registry.rollback(kept) == registry.rollback(whole)


def test_an_older_release_s_history_is_thinned_out_at_once(tmp_path: Path) -> None:
    root = str(tmp_path / "models")
    run(root, range(40), KeepConfig(models=3))
    moves, champion = len(entries(root)), registry.champion(root)
    removed = retain(str(tmp_path), 39)
    assert len(entries(root)) == moves - len([path for path in removed if "history/" in path]) < 20
    assert registry.champion(root) == champion


def test_without_both_bounds_every_move_stays(tmp_path: Path) -> None:
    root = str(tmp_path / "models")
    for keep in (KeepConfig(), KeepConfig(models=3), KeepConfig(nights=5)):
        storage.remove(root)
        run(root, range(14), keep)
        assert entries(root) == list(range(1, registry.champion(root).sequence + 1)), keep


def test_moves_by_hand_to_an_old_version_and_to_one_without_a_night_hold_up_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The old one is promoted again and rolled back, so that its last move is older than champions of later nights."""
    root = str(tmp_path / "models")
    publish(root, "imported")
    registry.promote(root, "imported", "by hand", token=1)
    run(root, range(24))
    old = registry.versions(root)[-1]
    for version in (old, version_of(23)):
        registry.promote(root, version, "by hand", token=24)
    registry.rollback(root, token=24)
    for number in range(24, 60):
        run(root, range(number, number + 1))
        assert [*registry.line(root)][:1] == [registry.champion(root)], "all of it is read"
    assert len(entries(root)) < 24
    assert "imported" not in registry.versions(root)
    assert "retention is left" not in caplog.text


def test_a_champion_that_stays_for_long_keeps_its_line(tmp_path: Path) -> None:
    """Counters are renewed every night, which moves the pointer and makes no line longer."""
    root, output = str(tmp_path / "models"), str(tmp_path)
    run(root, range(20))
    champion, before = registry.champions(root)
    for number in range(20, 60):
        publish(root, version_of(number))
        storage.write_bytes(f"{output}/nights/{night_of(number)}-aa/record", b"x")
        last = pointer.settled(root)
        assert last is not None
        pointer.make(root, last.model_copy(update={"sequence": last.sequence + 1, "reason": "counters"}), number + 1)
        retain(output, number)
    assert [move.version for move in registry.champions(root)] == [champion.version, before.version]
    assert len(entries(root)) < 24
    assert registry.rollback(root).version == before.version


def test_a_reader_with_an_old_pointer_goes_on_behind_the_gap(history: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has read champion.json, and slept while nights went by; or its writer did, and wrote it then."""
    old = storage.read_bytes(f"{history}/champion.json")
    real = storage.read_bytes

    def slept(url: str) -> bytes:
        content = real(url)
        if url.endswith("champion.json"):
            monkeypatch.setattr(storage, "read_bytes", real)
            run(history, range(59, 90))
        return content

    monkeypatch.setattr(storage, "read_bytes", slept)
    assert champion_of(history) == version_of(88)
    storage.write_bytes(f"{history}/champion.json", old)
    assert champion_of(history) == version_of(88)
    run(history, range(90, 91))
    assert storage.read_bytes(f"{history}/champion.json") != old
    storage.remove(f"{history}/champion.json")
    assert champion_of(history) == version_of(90)


@pytest.mark.parametrize("token", [None, 60])
def test_a_writer_that_slept_over_many_nights_moves_nothing(
    token: int | None, history: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It wakes where an entry was, and is not there any more."""
    publish(history, version_of(59))
    real = storage.create_bytes
    places = []

    def wakes_late(url: str, content: bytes) -> None:
        monkeypatch.setattr(storage, "create_bytes", real)
        run(history, range(60, 100))
        places.append(url)
        assert not storage.exists(url)
        real(url, content)

    monkeypatch.setattr(storage, "create_bytes", wakes_late)
    with pytest.raises(LockedError, match=r"has moved the pointer of .* while this one stood still; this one has not"):
        registry.promote(history, version_of(59), "slept", token=token)
    assert champion_of(history) == version_of(97)
    assert registry.was_promoted(history, version_of(97))
    assert not registry.was_promoted(history, version_of(59))
    assert list(registry.line(history)), "what it has left there is of no line"
    run(history, range(100, 101))
    assert not storage.exists(places[0])
    assert champion_of(history) == version_of(100)


@pytest.mark.parametrize("damage", [None, b"{", b"{}"])
def test_a_summary_that_is_lost_after_moves_were_removed_is_made_anew(damage: bytes | None, history: str) -> None:
    url, line = f"{history}/history/last-moves.json", list(registry.line(history))
    known = {number: registry.was_promoted(history, version_of(number)) for number in range(55, 59)}
    storage.remove(url)
    if damage:
        storage.write_bytes(url, damage)
    assert list(registry.line(history)) == line
    assert known == {number: registry.was_promoted(history, version_of(number)) for number in known}
    run(history, range(59, 61))
    assert pointer.LastMoves.model_validate_json(storage.read_bytes(url))
    assert champion_of(history) == version_of(60)


def test_a_hole_in_the_line_is_damage_and_its_end_is_not(history: str) -> None:
    line = list(registry.line(history))
    assert not pointer.is_whole(history)
    storage.remove(f"{history}/history/{numbered_file(line[2].sequence)}")
    with pytest.raises(DataError, match=r"json is missing\. Promote a version by name"):
        list(registry.line(history))


def test_a_kill_at_any_removal_is_made_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = tmp_path / "begun"
    run(str(begun / "models"), range(24), KeepConfig(models=3))

    def copy(name: str) -> str:
        return str(shutil.copytree(begun, tmp_path / name))

    undisturbed = copy("undisturbed")
    retain(undisturbed, 23)
    for calls in range(60):
        output = copy(f"killed {calls}")
        root = f"{output}/models"
        try:
            with monkeypatch.context() as patched:
                kill_at(patched, calls, after=calls % 2 == 0)
                retain(output, 23)
        except Killed:
            assert champion_of(root) == version_of(23)
            assert registry.was_promoted(root, version_of(23))
            retain(output, 23)
        else:
            break
        assert contents(root) == contents(f"{undisturbed}/models")
    assert calls > 8


def test_a_kill_at_any_step_of_hdfs_is_made_good(hdfs: str) -> None:
    root = storage.join(hdfs, "models")
    run(root, range(24), KeepConfig(models=3))
    before = contents(root)
    retain(hdfs, 23)
    after = contents(root)
    for death in deaths():
        for path, content in before.items():
            storage.write_bytes(storage.join(root, path), content)
        with death:
            retain(hdfs, 23)
        assert champion_of(root) == version_of(23)
        retain(hdfs, 23)
        assert contents(root) == after
