"""The registry: one whole champion at every moment, whoever is killed, and a rollback that goes back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nightjar.features.contract import storage
from nightjar.features.contract.errors import DataError, UsageError
from nightjar.features.contract.manifests import ArtifactManifest
from nightjar.features.contract.publishing import MANIFEST, begin, commit, describe_files, manifest_digest
from nightjar.jobs import promote_model
from nightjar.jobs.nightly.lease import lease, lock_of
from nightjar.serving import registry

FILES = ("scoring/weights", "encoder/vocabulary")
LINES = 50


class Killed(BaseException):
    """The process died here."""


@pytest.fixture(params=["local", "memory", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty models root."""
    if request.param == "local":
        yield str(tmp_path / "models")
        return
    url = request.getfixturevalue("bucket") if request.param == "s3" else f"memory://models/{uuid.uuid4().hex}"
    yield f"{url}/models"
    storage.remove(url)


def publish(root: str, version: str, published_at: int | None = None) -> str:
    """A small artifact: two files that say which version they belong to."""
    directory = storage.join(root, version)
    begin(directory)
    for name in FILES:
        storage.write_bytes(storage.join(directory, name), f"{version}\n".encode() * LINES)
    commit(
        directory,
        ArtifactManifest(
            files=describe_files(directory),
            model="wide_deep",
            spec_fingerprint="0" * 16,
            columns=(),
            lineage={"version": version},
            metrics={},
        ),
    )
    set_published_at(directory, published_at)
    return directory


def set_published_at(directory: str, second: int | None) -> None:
    """Local manifests written within one tick of the clock are told apart."""
    if second is not None and "://" not in directory:
        os.utime(f"{directory}/{MANIFEST}", (second, second))


def publish_all(root: str, names: str) -> None:
    """Versions of one letter each, published in this order."""
    for second, name in enumerate(names, 1):
        publish(root, name, second)


def read_whole(directory: str) -> str:
    """The version that all lines of all files of a directory agree on."""
    lines = [line for name in FILES for line in storage.read_bytes(storage.join(directory, name)).split()]
    assert len(lines) == LINES * len(FILES)
    (version,) = set(lines)
    return version.decode()


def champion_of(root: str) -> str | None:
    pointer = registry.champion(root)
    return pointer.version if pointer else None


def contents(root: str) -> dict[str, bytes]:
    return {path: storage.read_bytes(storage.join(root, path)) for path in storage.list_files(root)}


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
    for second, version in enumerate("bac", 1):
        publish(root, version, second)
        time.sleep(1.1 if root.startswith("s3://") else 0.0)  # S3 tells no less than seconds
    storage.write_bytes(storage.join(root, "unfinished", "weights"), b"half")
    registry.promote(root, "a", "so that a history exists")
    assert registry.versions(root) == ["c", "a", "b"]


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


def history(root: str) -> None:
    """What the interrupted steps below start from: champion b, before it a; c, d and e are there, too."""
    publish_all(root, "abcde")
    for version in "ab":
        registry.promote(root, version, "the gate")


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


def kill_at(patched: pytest.MonkeyPatch, calls: int, after: bool) -> None:
    """Die before or after the storage call with this number, counted from 0, that writes or removes."""
    left = [calls]

    def deadly(real: Callable[..., None]) -> Callable[..., None]:
        def call(*args: object) -> None:
            left[0] -= 1
            if left[0] < 0 and not after:
                raise Killed
            real(*args)
            if left[0] < 0:
                raise Killed

        return call

    for name in ("write_bytes", "remove"):
        patched.setattr(storage, name, deadly(getattr(storage, name)))


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


def test_a_reader_overtaken_by_two_promotions_and_a_prune_gets_the_new_champion(root: str) -> None:
    publish_all(root, "abc")
    registry.promote(root, "a", "the gate")
    seen = []

    def overtaken(directory: str) -> str:
        seen.append(directory)
        if len(seen) == 1:
            registry.promote(root, "b", "the gate")
            registry.promote(root, "c", "the gate")
            registry.prune(root, 0)
        return read_whole(directory)

    assert registry.with_champion(root, overtaken) == "c"
    assert seen == [storage.join(root, "a"), storage.join(root, "c")]


def test_a_reader_s_own_failure_is_passed_on(root: str) -> None:
    publish(root, "a")
    registry.promote(root, "a", "the gate")

    def fail(directory: str) -> None:
        raise KeyError(directory)

    with pytest.raises(KeyError):
        registry.with_champion(root, fail)


READER = """
import sys
from nightjar.serving import registry
from tests.single.serving.test_registry import read_whole
root, seen = sys.argv[1], []
print("ready", flush=True)
while not seen or seen[-1] != "last":
    seen.append(registry.with_champion(root, read_whole))
    registry.versions(root)
print(len(seen), len(set(seen)))
"""


@pytest.mark.parametrize(("place", "nights"), [("local", 50), ("s3", 8)])
def test_readers_load_whole_champions_through_fifty_publications_and_rollbacks(
    place: str, nights: int, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    root = str(tmp_path) if place == "local" else f"{request.getfixturevalue('bucket')}/models"
    publish(root, "night00")
    registry.promote(root, "night00", "the gate")
    readers = [
        subprocess.Popen(
            [sys.executable, "-c", READER, root], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    try:
        for reader in readers:
            assert reader.stdout is not None
            assert reader.stdout.readline() == "ready\n"
        for night in range(1, nights + 1):
            publish(root, f"night{night:02d}", night)
            registry.promote(root, f"night{night:02d}", "the gate")
            if night % 3 == 0:
                registry.rollback(root)
            if night % 4 == 0:
                registry.prune(root, 0)
        publish(root, "last", 99)
        registry.promote(root, "last", "the gate")
        said = [reader.communicate(timeout=60) for reader in readers]
    finally:
        for reader in readers:
            reader.kill()
    for reader, (out, errors) in zip(readers, said, strict=True):
        assert reader.returncode == 0, errors
        loads, different = map(int, out.split())
        assert loads >= different > 1


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
        f"promote_model: error: {root} holds no published version 'b'; it holds ['c', 'a'].\n",
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
