"""Small published versions of a registry, and a storage that dies on command."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable

import pytest

from nightjar.features.contract import storage
from nightjar.features.contract.manifests import ArtifactManifest
from nightjar.features.contract.publishing import begin, commit, describe_files
from nightjar.serving import registry

FILES = ("scoring/weights", "encoder/vocabulary")
LINES = 50


class Killed(BaseException):
    """The process died here."""


def publish(root: str, version: str) -> str:
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
    return directory


def publish_all(root: str, names: Iterable[str]) -> None:
    """Versions, of a text one for each letter; the last by name is the latest."""
    for name in names:
        publish(root, name)


def read_whole(directory: str) -> str:
    """The version that all lines of all files of a directory agree on."""
    lines = [line for name in FILES for line in storage.read_bytes(storage.join(directory, name)).split()]
    assert len(lines) == LINES * len(FILES)
    (version,) = set(lines)
    return version.decode()


def champion_of(root: str) -> str | None:
    pointer = registry.champion(root)
    return pointer.version if pointer else None


def moved(root: str) -> list[str]:
    """The version of every move, as the entries have it."""
    folder = storage.join(root, "history")
    urls = (storage.join(folder, name) for name in storage.list_files(folder) if name[0].isdigit())
    return [json.loads(storage.read_bytes(url))["version"] for url in urls]


def history(root: str) -> None:
    """What the interrupted steps below start from: champion b, before it a; c, d and e are there, too."""
    publish_all(root, "abcde")
    for version in "ab":
        registry.promote(root, version, "the gate")


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

    for name in ("write_bytes", "create_bytes", "remove"):
        patched.setattr(storage, name, deadly(getattr(storage, name)))
