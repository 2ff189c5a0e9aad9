"""The registry: promotions, and a rollback that goes back."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from nightjar.features.contract import storage
from nightjar.features.contract.errors import DataError, UsageError
from nightjar.features.contract.publishing import MANIFEST, manifest_digest
from nightjar.jobs import promote_model
from nightjar.jobs.nightly.lease import lease, lock_of
from nightjar.serving import registry
from tests.kits.registry_kit import (
    champion_of,
    publish,
    publish_all,
)


def test_an_empty_root_has_neither_versions_nor_a_champion(root: str) -> None:
    assert registry.versions(root) == []
    assert registry.champion(root) is None
    assert registry.prune(root, 1) == []
    with pytest.raises(UsageError, match="no champion to roll back from"):
        registry.rollback(root)
    with pytest.raises(DataError, match="has no champion"):
        registry.load_champion(root)


def test_a_promotion_moves_the_pointer_and_remembers_why(root: str) -> None:
    publish_all(root, "ab")
    registry.promote(root, "a", "the first")
    moved = registry.promote(root, "b", "the gate")
    assert registry.champion(root) == moved
    assert moved == registry.Pointer(
        version="b",
        digest=manifest_digest(storage.join(root, "b")),
        reason="the gate",
        sequence=2,
        previous=1,
    )
    first, second = (json.loads(storage.read_bytes(f"{root}/history/00000{n}.json")) for n in (1, 2))
    assert (first["version"], first["reason"]) == ("a", "the first")
    assert storage.read_bytes(f"{root}/champion.json") == storage.read_bytes(f"{root}/history/000002.json")
    assert second["version"] == "b"
    assert registry.load_champion(root) == storage.join(root, "b")


def test_promoting_the_champion_writes_nothing(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(root, "a")
    moved = registry.promote(root, "a", "once")
    monkeypatch.setattr(storage, "write_bytes", lambda *_: pytest.fail("wrote"))
    assert registry.promote(root, "a", "twice") == moved


def test_versions_are_listed_latest_first_and_only_when_published(root: str) -> None:
    """Whatever the order in which they were written: a restored registry keeps its order."""
    third, first, second, again = "2026-01-03-lr-0", "2026-01-01-lr-9", "2026-01-02-lr-5", "2026-01-02-lr-7"
    for version in (third, again, first, second, "imported"):
        publish(root, version)
    storage.write_bytes(storage.join(root, "unfinished", "weights"), b"half")
    assert registry.versions(root) == [third, again, second, first, "imported"]
    registry.promote(root, second, "so that a history exists")
    assert registry.versions(root) == [third, second, again, first, "imported"]
    assert sorted(registry.prune(root, 2)) == sorted([again, first, "imported"])


@pytest.mark.parametrize("version", ["missing", "history", "", ".", "../elsewhere", "champion.json"])
def test_an_unpublished_version_is_refused(root: str, version: str) -> None:
    publish(root, "a")
    publish(root.rpartition("/")[0], "elsewhere")
    with pytest.raises(UsageError, match=r"holds no published version .*; it holds \['a'\]"):
        registry.promote(root, version, "why not")
    assert registry.champion(root) is None


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: storage.write_bytes(f"{d}/scoring/weights", b"other"), r"\['scoring/weights'\] differ"),
        (lambda d: storage.remove(f"{d}/scoring/weights"), r"lacks \['scoring/weights'\]"),
        (lambda d: storage.write_bytes(f"{d}/{MANIFEST}", b'{"kind"'), "is damaged"),
        (lambda d: storage.write_bytes(f"{d}/{MANIFEST}", b'{"kind": "state", "files": []}'), "problem"),
    ],
    ids=["changed file", "missing file", "broken manifest", "another kind"],
)
def test_a_damaged_version_is_refused(root: str, damage: Callable[[str], None], message: str) -> None:
    damage(publish(root, "a"))
    with pytest.raises(DataError, match=message):
        registry.promote(root, "a", "why not")
    assert registry.champion(root) is None


def test_a_damaged_pointer_is_one_clear_error(root: str) -> None:
    publish(root, "a")
    registry.promote(root, "a", "the first")
    storage.write_bytes(storage.join(root, "champion.json"), b'{"version": "a"')
    with pytest.raises(DataError, match=r"champion\.json has 1 problem"):
        registry.champion(root)


def test_a_champion_that_changed_under_the_pointer_is_not_loaded(root: str) -> None:
    directory = publish(root, "a")
    registry.promote(root, "a", "the first")
    manifest = storage.read_bytes(f"{directory}/{MANIFEST}")
    storage.write_bytes(f"{directory}/{MANIFEST}", manifest + b"\n")
    with pytest.raises(DataError, match="has changed since"):
        registry.load_champion(root)
    storage.remove(directory)
    with pytest.raises(DataError, match="is not published"):
        registry.load_champion(root)


def test_rollbacks_go_back_and_never_forth(root: str) -> None:
    publish_all(root, "abcd")
    for version in "abc":
        registry.promote(root, version, "the gate")
    assert [registry.rollback(root).version for _ in range(2)] == ["b", "a"]
    with pytest.raises(UsageError, match=r"no champion before a. Promote one of \['d', 'c', 'b', 'a'\]"):
        registry.rollback(root)
    registry.promote(root, "d", "the gate")
    assert registry.rollback(root, "d is slow") == registry.Pointer(
        version="a", digest=manifest_digest(storage.join(root, "a")), reason="d is slow", sequence=7
    )


def test_a_rollback_skips_moves_of_the_same_version(root: str) -> None:
    publish_all(root, "ab")
    registry.promote(root, "a", "the gate")
    directory = publish_again(root, "b")
    registry.promote(root, "b", "the gate")
    storage.write_bytes(f"{directory}/{MANIFEST}", storage.read_bytes(f"{directory}/{MANIFEST}") + b"\n")
    assert registry.promote(root, "b", "restored").sequence == 3
    assert registry.rollback(root).version == "a"


def publish_again(root: str, version: str) -> str:
    storage.remove(storage.join(root, version))
    return publish(root, version)


def test_a_rollback_to_a_damaged_or_changed_version_is_refused(root: str) -> None:
    publish_all(root, "ab")
    for version in "ab":
        registry.promote(root, version, "the gate")
    manifest = storage.join(root, "a", MANIFEST)
    storage.write_bytes(manifest, storage.read_bytes(manifest) + b"\n")
    with pytest.raises(DataError, match="a has changed since it was champion"):
        registry.rollback(root)
    storage.remove(storage.join(root, "a"))
    with pytest.raises(UsageError, match="holds no published version 'a'"):
        registry.rollback(root)
    assert champion_of(root) == "b"


def test_prune_keeps_the_latest_the_champion_and_the_one_before(root: str) -> None:
    publish_all(root, "abcdefg")
    for version in "bca":
        registry.promote(root, version, "the gate")
    registry.rollback(root)
    assert champion_of(root) == "c"
    assert sorted(registry.prune(root, 2)) == ["a", "d", "e"]
    assert sorted(registry.versions(root)) == ["b", "c", "f", "g"]
    assert sorted(registry.prune(root, 0)) == ["f", "g"]
    assert registry.prune(root, 0) == []
    assert registry.rollback(root).version == "b"
    with pytest.raises(UsageError, match="0 or more; got -1"):
        registry.prune(root, -1)


def test_prune_keeps_a_finished_model_and_the_judged_one_together(tmp_path: Path) -> None:
    """The next night begins with the judged one; and `keep` counts nights, not versions."""
    root = str(tmp_path)
    publish_all(root, ("a", "b", "b-finished", "c", "c-finished", "d", "d-finished"))
    registry.promote(root, "a", "gate")
    registry.promote(root, "b-finished", "gate")
    assert registry.prune(root, 1) == ["c-finished", "c"]
    registry.promote(root, "d-finished", "gate")
    assert registry.prune(root, 1) == ["a"]
    assert sorted(registry.versions(root)) == ["b", "b-finished", "d", "d-finished"]


def test_the_command_line_lists_promotes_rolls_back_and_prunes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = str(tmp_path)
    publish_all(root, "abc")

    def run(*arguments: str) -> tuple[int, str, str]:
        code = promote_model.main(["--models", root, *arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    assert run("list") == (0, f"  c\n  b\n  a\nno champion; 3 published versions in {root}\n", "")
    assert run("promote", "a") == (0, "champion: a (move 1: by hand)\n", "")
    assert run("promote", "b", "--reason", "ticket 7") == (0, "champion: b (move 2: ticket 7)\n", "")
    assert run("list") == (0, "  c\n* b\n  a\nchampion: b (move 2: ticket 7)\n", "")
    assert run("rollback") == (0, "champion: a (move 3: by hand)\n", "")
    assert run("prune", "--keep", "1") == (0, "removed 1: b\n", "")
    assert run("prune", "--keep", "1") == (0, "nothing to remove\n", "")
    assert run("promote", "b") == (
        2,
        "",
        f"promote_model promote: error: {root} holds no published version 'b'; it holds ['c', 'a'].\n",
    )
    with lease(lock_of(root), "a night"):
        code, out, err = run("rollback")
        assert (code, out) == (5, "")
        assert "run a night (process " in err
        assert run("list")[0] == 0
    elsewhere = str(tmp_path / "elsewhere")
    assert promote_model.main(["--models", elsewhere, "rollback"]) == 2
    assert "holds no published version" in capsys.readouterr().err
    assert not (tmp_path / "elsewhere").exists()


def entries(root: str) -> list[registry.Pointer]:
    folder = storage.join(root, "history")
    names = [name for name in storage.list_files(folder) if name[0].isdigit()]
    return [registry.Pointer.model_validate_json(storage.read_bytes(storage.join(folder, name))) for name in names]


def require_same_as_entries(root: str) -> None:
    """What the registry knows of the past, against all entries read one by one."""
    found = entries(root)
    for version in "abcdef":
        assert registry.was_promoted(root, version) == any(version in (m.version, m.judged) for m in found), version


def test_a_damaged_move_of_long_ago_is_left_out_with_a_warning(root: str, caplog: pytest.LogCaptureFixture) -> None:
    publish_all(root, "abc")
    for version in "abc":
        registry.promote(root, version, "the gate")
    storage.write_bytes(f"{root}/history/000001.json", b"{")
    assert [registry.was_promoted(root, version) for version in "abc"] == [False, True, True]
    assert "a move of the pointer is left out" in caplog.text
    assert registry.load_champion(root) == f"{root}/c"


def test_a_version_that_ever_was_champion_is_known_however_many_moves_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And to know it costs as many reads after sixty moves as after twenty."""
    root, reads, real = str(tmp_path), [0], storage.read_bytes
    publish_all(root, "abcdef")

    def counted(url: str) -> bytes:
        reads[0] += 1
        return real(url)

    def cost() -> int:
        with monkeypatch.context() as patched:
            reads[0] = 0
            patched.setattr(storage, "read_bytes", counted)
            registry.was_promoted(root, "f")
        return reads[0]

    costs = []
    for number in range(60):
        registry.promote(root, "fab"[number % 3] if number < 3 else "ab"[number % 2], "gate")
        require_same_as_entries(root)
        costs.append(cost())
    assert max(costs[40:]) == max(costs[:20]) < 20
    assert not registry.was_promoted(root, "c")


def test_a_damaged_or_foreign_file_of_last_moves_is_made_good(tmp_path: Path) -> None:
    """Such as after a registry was restored from a copy that had other moves."""
    root, kept = str(tmp_path), tmp_path / "history" / "last-moves.json"
    publish_all(root, "abcdef")
    for version in "cdcdcdcdcd":
        registry.promote(root, version, "gate")
    foreign = kept.read_text()
    shutil.rmtree(tmp_path / "history")
    (tmp_path / "champion.json").unlink()
    for version in "abababababab":
        registry.promote(root, version, "gate")
    for text in (foreign, "{", "{}", foreign.replace('"sequences": {', '"sequences": {"../e": 1, ')):
        kept.write_text(text)
        require_same_as_entries(root)
    registry.promote(root, "f", "gate")
    assert json.loads(kept.read_text())["sequences"].keys() == {"a", "b"}
    require_same_as_entries(root)
