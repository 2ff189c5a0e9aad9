"""Files of a published directory are read as the bytes that its manifest lists."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nightjar.features.contract.errors import DataError
from nightjar.features.contract.manifests import FileEntry, Manifest, StateManifest
from nightjar.features.contract.publishing import describe_files, read_manifest
from nightjar.features.contract.verified import difference, entry_at, parsing, read_verified, verify_files
from nightjar.features.encoder.state import load_vocabulary
from tests.kits.training.datasets import make_state


@pytest.fixture
def entries(tmp_path: Path) -> tuple[FileEntry, ...]:
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(name.encode() * 100)
    return describe_files(str(tmp_path))


def flip(path: Path, position: int = 10) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def test_what_is_whole_is_read(tmp_path: Path, entries: tuple[FileEntry, ...]) -> None:
    assert read_verified(str(tmp_path), entries[0]) == b"a" * 100
    verify_files(str(tmp_path), entries)


def test_damage_is_said_as_it_is(tmp_path: Path, entries: tuple[FileEntry, ...]) -> None:
    directory = str(tmp_path)
    flip(tmp_path / "a")
    with pytest.raises(
        DataError, match=rf"{directory}/a differs from the manifest: sha256 \w+\.\.\. instead of \w+\.\.\."
    ):
        read_verified(directory, entries[0])
    (tmp_path / "b").write_bytes(b"b" * 99)
    with pytest.raises(DataError, match=r"/b differs from the manifest: 99 bytes instead of 100\. Restore it"):
        read_verified(directory, entries[1])
    with pytest.raises(DataError, match=r"is damaged: \['a', 'b'\] differ from the manifest, or are gone"):
        verify_files(directory, entries)
    (tmp_path / "b").unlink()
    with pytest.raises(DataError, match=r"/b cannot be read: "):
        read_verified(directory, entries[1])
    with pytest.raises(DataError, match=r"is damaged: \['b'\]"):
        verify_files(directory, entries[1:])


def test_a_file_that_was_compared_is_compared_again_when_it_was_written(
    tmp_path: Path, entries: tuple[FileEntry, ...]
) -> None:
    verify_files(str(tmp_path), entries)
    was = (tmp_path / "a").stat()
    flip(tmp_path / "a")
    os.utime(tmp_path / "a", ns=(was.st_atime_ns, was.st_mtime_ns + 1000))
    with pytest.raises(DataError, match="'a'"):
        verify_files(str(tmp_path), entries)


def test_another_manifest_of_the_same_file_is_another_comparison(
    tmp_path: Path, entries: tuple[FileEntry, ...]
) -> None:
    verify_files(str(tmp_path), entries)
    with pytest.raises(DataError, match="'a'"):
        verify_files(str(tmp_path), [entries[0].model_copy(update={"sha256": "0" * 64})])


def test_an_entry_of_before_has_one_digest_and_reads_as_it_did(entries: tuple[FileEntry, ...]) -> None:
    before = FileEntry.model_validate(entries[0].model_dump(mode="json", exclude={"xxh3"}))
    assert before == entries[0]
    both = before.model_copy(update={"xxh3": "0" * 32})
    assert FileEntry.model_validate_json(both.model_dump_json()) == both
    assert difference(b"a" * 100, both) is not None
    assert difference(b"a" * 100, before) is None


def test_a_file_that_is_not_listed_is_named(entries: tuple[FileEntry, ...]) -> None:
    manifest = Manifest(kind="any", files=entries)
    assert entry_at("here", manifest, "b") == entries[1]
    with pytest.raises(DataError, match="the manifest of here lists no c"):
        entry_at("here", manifest, "c")


def test_what_a_parser_says_becomes_one_message() -> None:
    with pytest.raises(DataError, match="/f cannot be read: bad"), parsing("/f", pa.ArrowException):
        raise pa.ArrowInvalid("bad")
    with pytest.raises(KeyError), parsing("/f"):
        raise KeyError("a bug")


def test_no_bit_of_an_encoders_state_is_read_otherwise(tmp_path: Path) -> None:
    directory, rng = str(tmp_path / "state"), np.random.default_rng(0)
    make_state(directory, 0)
    manifest = read_manifest(directory, StateManifest)
    path = tmp_path / "state/vocabulary/user/part-0.parquet"
    content = path.read_bytes()
    assert pq.read_table(path).num_rows == load_vocabulary(directory, manifest, "f_user").size - 2
    for position in rng.integers(len(content), size=100).tolist():
        flip(path, position)
        with pytest.raises(DataError, match=r"vocabulary/user/part-0\.parquet differs from the manifest"):
            load_vocabulary(directory, manifest, "f_user")
        path.write_bytes(content)
