"""Files by path or URL, all or nothing: one contract for every kind of file system."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from nightjar.features.contract import storage
from nightjar.features.contract.errors import UsageError
from tests.kits.fake_hdfs import deaths
from tests.kits.real_hdfs import REAL_HDFS


@pytest.fixture(params=["path", "file url", "memory url", "bucket", "hdfs", *REAL_HDFS])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    roots = {"path": str(tmp_path), "file url": f"file://{tmp_path}", "memory url": f"memory://{tmp_path}"}
    return roots.get(request.param) or str(request.getfixturevalue(request.param))


def test_what_was_written_is_read(root: str) -> None:
    url = storage.join(root, "a/", "/b.txt")
    assert not storage.exists(url)
    storage.write_bytes(url, b"one")
    storage.write_bytes(url, b"three")
    assert storage.exists(url)
    assert storage.read_bytes(url) == b"three"
    assert storage.size(url) == 5
    assert storage.sha256(url) == hashlib.sha256(b"three").hexdigest()
    assert storage.list_files(root) == ["a/b.txt"]


def test_listing_leaves_out_what_spark_hides(root: str) -> None:
    for name in ("b/2.parquet", "b/1.parquet", "b/_SUCCESS", "b/.2.parquet.crc", "_spark/3.parquet", "c.txt"):
        storage.write_bytes(storage.join(root, name), b"x")
    assert storage.list_files(root) == ["b/1.parquet", "b/2.parquet", "c.txt"]
    assert storage.list_files(storage.join(root, "b"), ".parquet") == ["1.parquet", "2.parquet"]
    assert storage.list_files(storage.join(root, "nowhere")) == []


def test_files_are_copied_and_removed(root: str) -> None:
    first, second = (storage.join(root, name) for name in ("1", "deeper/still/2"))
    storage.write_bytes(first, b"x" * (3 << 20))
    storage.copy(first, second)
    assert storage.sha256_all([first, second]) == [storage.sha256(first)] * 2
    storage.remove(storage.join(root, "deeper"))
    storage.remove(storage.join(root, "deeper"))
    assert not storage.exists(second)


ODD = "a[1]?*{b,c}#1 100%25 ü"


def check_odd_names(root: str) -> None:
    """What [ ? * would match, if they were a pattern, is another folder, and stays."""
    odd, sibling = storage.join(root, ODD), storage.join(root, "a1xyb#1 100%25 ü")
    for folder in (odd, sibling):
        for name in ("x.txt", "deeper/y*.txt", "deeper/yz.txt"):
            storage.write_bytes(storage.join(folder, name), name.encode())
    assert storage.list_files(odd) == ["deeper/y*.txt", "deeper/yz.txt", "x.txt"]
    assert ODD in storage.list_folders(root)
    with storage.open_binary_writer(storage.join(odd, "new/z[0].bin")) as stream:
        stream.write(b"z")
    assert storage.read_bytes(storage.join(odd, "new/z[0].bin")) == b"z"
    storage.copy(storage.join(odd, "deeper/y*.txt"), storage.join(sibling, "copied?.txt"))
    assert storage.read_bytes(storage.join(sibling, "copied?.txt")) == b"deeper/y*.txt"
    storage.remove(storage.join(odd, "deeper/y*.txt"))
    assert storage.exists(storage.join(odd, "deeper/yz.txt"))
    storage.remove(odd)
    assert not storage.exists(odd)
    assert storage.list_files(sibling) == ["copied?.txt", "deeper/y*.txt", "deeper/yz.txt", "x.txt"]


def test_no_character_of_a_path_is_a_pattern(root: str) -> None:
    check_odd_names(root)


def test_nor_is_one_in_an_object_store(bucket: str) -> None:
    check_odd_names(bucket)


def test_a_local_name_may_look_like_joined_urls(tmp_path: Path) -> None:
    storage.write_bytes(storage.absolute(f"{tmp_path}/a::b/x:y.txt"), b"1")
    assert storage.list_files(f"{tmp_path}/a::b") == ["x:y.txt"]


def test_a_missing_file_is_an_error(root: str) -> None:
    with pytest.raises(FileNotFoundError):
        storage.read_bytes(storage.join(root, "nothing"))


def test_a_file_is_created_once(root: str) -> None:
    url = storage.join(root, "lock", "000001.json")
    storage.create_bytes(url, b"mine")
    with pytest.raises(FileExistsError):
        storage.create_bytes(url, b"theirs")
    assert storage.read_bytes(url) == b"mine"
    storage.remove(url)
    storage.create_bytes(url, b"theirs")
    assert storage.read_bytes(url) == b"theirs"
    assert storage.list_files(root) == ["lock/000001.json"]


def test_folders_are_listed_by_name(root: str) -> None:
    assert storage.list_folders(storage.join(root, "nowhere")) == []
    for name in ("b/1", "a/deeper/2", "3"):
        storage.write_bytes(storage.join(root, name), b"x")
    assert storage.list_folders(root) == ["a", "b"]


def test_a_failed_write_leaves_the_earlier_content_and_no_debris(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "champion.json"
    storage.write_bytes(str(target), b"old")

    def full(_: int) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(storage.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        storage.write_bytes(str(target), b"new")
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_what_a_killed_writer_leaves_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", die)
    monkeypatch.setattr("os.unlink", lambda *_: None)
    with pytest.raises(KeyboardInterrupt):
        storage.write_bytes(str(tmp_path / "a.parquet"), b"half")
    assert len(list(tmp_path.iterdir())) == 1
    assert storage.list_files(str(tmp_path)) == []


@pytest.mark.parametrize("url", ["s9://bucket/logs", "oci://bucket/logs"])
def test_a_url_without_a_driver_is_one_clear_error(url: str) -> None:
    """The first names no file system; the second one whose driver is not installed."""
    with pytest.raises(UsageError, match=f"{url} is on no file system that can be reached from here: .*Give a local"):
        storage.exists(url)


@pytest.mark.parametrize("before", [None, b"the content before"])
def test_a_writer_killed_on_hdfs_leaves_the_content_before_or_the_new_one(hdfs: str, before: bytes | None) -> None:
    url, after = storage.join(hdfs, "models", "champion.json"), b"the content after"
    seen = []
    for death in deaths():
        storage.remove(hdfs)
        if before:
            storage.write_bytes(url, before)
        with death:
            storage.write_bytes(url, after)
        seen.append(storage.read_bytes(url) if storage.exists(url) else None)
        assert storage.list_files(hdfs) == (["models/champion.json"] if seen[-1] else [])
        storage.write_bytes(url, b"the next writer's")
        assert storage.read_bytes(url) == b"the next writer's"
        storage.remove(url)
        assert not storage.exists(url)
    assert set(seen) == {before, after}
    assert len(seen) > 5
    assert seen == sorted(seen, key=[before, after].index)


def test_a_creator_killed_on_hdfs_leaves_nothing_or_all(hdfs: str) -> None:
    url = storage.join(hdfs, "lock", "000001.json")
    seen = []
    for death in deaths():
        storage.remove(hdfs)
        with death:
            storage.create_bytes(url, b"mine")
        seen.append(storage.read_bytes(url) if storage.exists(url) else None)
    assert set(seen) == {None, b"mine"}


def test_of_two_creators_on_hdfs_in_the_same_instant_one_wins(hdfs: str, monkeypatch: pytest.MonkeyPatch) -> None:
    url = storage.join(hdfs, "lock", "000001.json")
    storage.create_bytes(url, b"theirs")
    monkeypatch.setattr(storage, "_exists", lambda *_: False)  # looked the moment before
    with pytest.raises(FileExistsError):
        storage.create_bytes(url, b"mine")
    assert storage.read_bytes(url) == b"theirs"
