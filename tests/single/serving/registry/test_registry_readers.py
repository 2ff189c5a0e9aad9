"""Readers of a registry get one whole champion at every moment."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from nightjar.features.contract import storage
from nightjar.serving import registry
from tests.kits.registry_kit import (
    publish,
    publish_all,
    read_whole,
)


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
from tests.kits.registry_kit import read_whole
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
            publish(root, f"night{night:02d}")
            registry.promote(root, f"night{night:02d}", "the gate")
            if night % 3 == 0:
                registry.rollback(root)
            if night % 4 == 0:
                registry.prune(root, 0)
        publish(root, "last")
        registry.promote(root, "last", "the gate")
        said = [reader.communicate(timeout=60) for reader in readers]
    finally:
        for reader in readers:
            reader.kill()
    for reader, (out, errors) in zip(readers, said, strict=True):
        assert reader.returncode == 0, errors
        loads, different = map(int, out.split())
        assert loads >= different > 1
