"""A directory is published by its manifest, once and for ever, and every damage is found."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from nightjar.features.contract import storage
from nightjar.features.contract.errors import DataError
from nightjar.features.contract.manifests import AggregateManifest, FileEntry, Manifest, StateManifest
from nightjar.features.contract.publishing import (
    MANIFEST,
    begin,
    commit,
    describe_files,
    is_published,
    key_of,
    manifest_digest,
    read_manifest,
    unpublish,
    verify,
)
from tests.kits.fake_hdfs import deaths


def publish(directory: Path) -> AggregateManifest:
    begin(str(directory))
    (directory / "a").mkdir()
    (directory / "a" / "1.parquet").write_bytes(b"one")
    (directory / "2.bin").write_bytes(b"")
    known = FileEntry(path="a/1.parquet", bytes=3, sha256=hashlib.sha256(b"one").hexdigest(), rows=7)
    manifest = AggregateManifest(
        inputs={"log": "abc"},
        files=describe_files(str(directory), [known]),
        spec_fingerprint="f",
        date="2026-03-01",
        rows=7,
        positives=2,
    )
    commit(str(directory), manifest)
    return manifest


def test_a_published_directory_is_read_back_as_it_was(tmp_path: Path) -> None:
    directory = tmp_path / "d"
    assert not is_published(str(directory))
    manifest = publish(directory)
    assert is_published(str(directory))
    assert read_manifest(str(directory), AggregateManifest) == manifest
    assert [(e.path, e.bytes, e.rows) for e in manifest.files] == [("2.bin", 0, None), ("a/1.parquet", 3, 7)]
    assert manifest.file_urls(str(directory)) == [f"{directory}/2.bin", f"{directory}/a/1.parquet"]
    verify(str(directory), manifest)


def test_of_a_link_nothing_goes_but_itself(tmp_path: Path) -> None:
    victim, link = tmp_path / "victim", tmp_path / "out" / "link"
    publish(victim)
    link.parent.mkdir()
    link.symlink_to(victim)
    unpublish(str(link))
    assert not link.is_symlink()
    assert is_published(str(victim))
    verify(str(victim), read_manifest(str(victim), AggregateManifest))


def test_a_killed_attempt_is_swept_away_and_a_published_one_never(tmp_path: Path) -> None:
    directory = tmp_path / "d"
    directory.mkdir()
    (directory / "leftover.parquet").write_bytes(b"half")
    publish(directory)
    assert not (directory / "leftover.parquet").exists()
    with pytest.raises(DataError) as caught:
        begin(str(directory))
    assert str(caught.value) == f"{directory} is published already and is never written again."


def test_every_damaged_or_missing_file_is_named(tmp_path: Path) -> None:
    directory = tmp_path / "d"
    manifest = publish(directory)
    (directory / "a" / "1.parquet").write_bytes(b"eno")
    with pytest.raises(DataError) as caught:
        verify(str(directory), manifest)
    assert str(caught.value) == (
        f"{directory} is damaged: ['a/1.parquet'] differ from the manifest. "
        "Restore it, or remove the directory and run its step again."
    )
    (directory / "2.bin").unlink()
    with pytest.raises(DataError, match=r"lacks \['2.bin'\], which its manifest lists"):
        verify(str(directory), manifest)


def test_a_manifest_that_cannot_be_used_is_explained(tmp_path: Path) -> None:
    directory = tmp_path / "d"
    with pytest.raises(DataError) as caught:
        read_manifest(str(directory), AggregateManifest)
    assert str(caught.value) == f"{directory} is not a published directory: it has no {MANIFEST}."
    publish(directory)
    with pytest.raises(DataError, match=r"manifest.json has \d+ problem\(s\):\n  kind: Input should be 'state'"):
        read_manifest(str(directory), StateManifest)
    (directory / MANIFEST).write_text('{"kind": ')
    with pytest.raises(DataError, match=r"manifest.json is damaged: .* Remove .* and run the step again"):
        read_manifest(str(directory), Manifest)


def test_keys_and_digests_follow_their_inputs_and_nothing_else(tmp_path: Path) -> None:
    assert key_of(a=1, b=[2]) == key_of(b=[2], a=1)
    assert len({key_of(a=1, b=[2]), key_of(a=1, b=[3]), key_of(a=1), key_of(b=1)}) == 4
    assert len(key_of(a=1)) == 12
    publish(tmp_path / "one")
    publish(tmp_path / "two")
    assert manifest_digest(str(tmp_path / "one")) == manifest_digest(str(tmp_path / "two"))


def test_a_file_that_was_written_and_is_not_there_stops_the_publication(tmp_path: Path) -> None:
    known = FileEntry(path="a/1.parquet", bytes=3, sha256="0" * 64, rows=7)
    with pytest.raises(DataError, match=r"lacks \['a/1\.parquet'\], which were written a moment ago"):
        describe_files(str(tmp_path), [known])


def test_what_is_killed_on_hdfs_is_published_whole_or_not_at_all(hdfs: str) -> None:
    directory, states = storage.join(hdfs, "d"), set()

    def publish_there() -> AggregateManifest:
        begin(directory)
        storage.write_bytes(storage.join(directory, "1.bin"), b"one")
        files = describe_files(directory)
        manifest = AggregateManifest(files=files, spec_fingerprint="f", date="2026-03-01", rows=7, positives=2)
        commit(directory, manifest)
        return manifest

    for death in deaths():
        storage.remove(hdfs)
        with death:
            publish_there()
        states.add(is_published(directory))
        if not is_published(directory):
            publish_there()
        verify(directory, read_manifest(directory, AggregateManifest))
    assert states == {False, True}
