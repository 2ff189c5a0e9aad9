"""Files on any fsspec URL or local path: reading, writing all or nothing, checksums.

The contract, on every file system: `write_bytes` replaces a file at once, a reader finds the old content or the new one
and never a part or nothing; `create_bytes` makes a file that is not there yet; a kill leaves what is hidden at most.
How that is kept depends on the file system:

* On a local disk a file is written beside and put into its place by a rename, which overwrites.
* An object store shows a put at its end, whole. Of a driver without a rename of its own the same is assumed.
* All others (HDFS, SFTP, SMB, DBFS) show the beginning of a file that is being written, and their rename may refuse to
  overwrite. There a file is written beside and renamed. One that is there is replaced by way of `.<name>.next`, which
  is whole: it is written, the old file is removed, and `.<name>.next` gets its name. Readers look for both, and
  find one at any moment. One writer a file at a time, as everywhere in Nightjar.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import BinaryIO, TextIO, TypeVar

import fsspec
from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem

from nightjar.features.contract.errors import UsageError

T = TypeVar("T")

_CHUNK = 1 << 20
_NEXT = ".next"
# fsspec's names for them. Some of their drivers have a `mv` of their own, which copies and deletes.
_OBJECT_STORES = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oss", "oci", "tos", "cos", "memory"}


def join(root: str, *parts: str) -> str:
    """`root` and `parts` as one path or URL."""
    return "/".join([root.rstrip("/"), *(part.strip("/") for part in parts)])


def name_of(url: str) -> str:
    """What a file or a directory is called: the last part of its path."""
    return url.rpartition("/")[2]


def open_text_writer(url: str) -> TextIO:
    """Open for writing lines. A local file grows with every flush; an object appears when it is closed."""
    fs, path = _file_system(url)
    fs.makedirs(fs._parent(path), exist_ok=True)
    stream: TextIO = fs.open(path, "w", encoding="utf-8")
    return stream


def open_binary(url: str) -> BinaryIO:
    """Open for reading. Raises FileNotFoundError."""
    fs, path = _file_system(url)
    stream: BinaryIO = _found(fs, path, lambda at: fs.open(at, "rb"))
    return stream


def open_unpacked(url: str) -> BinaryIO:
    """`open_binary` of what a compressed file holds, if its name ends in .gz, .bz2 and so on."""
    fs, path = _file_system(url)
    stream: BinaryIO = fs.open(path, "rb", compression="infer")
    return stream


def read_bytes(url: str) -> bytes:
    """The whole file. Raises FileNotFoundError."""
    fs, path = _file_system(url)
    content: bytes = _found(fs, path, fs.cat_file)
    return content


def exists(url: str) -> bool:
    """True if there is a file or a folder at `url`."""
    fs, path = _file_system(url)
    return _exists(fs, path)


def is_file(url: str) -> bool:
    """True if there is a file, not a folder, at `url`."""
    fs, path = _file_system(url)
    return bool(fs.isfile(path))


def write_bytes(url: str, content: bytes) -> None:
    """Write a file that readers see either whole or not at all, and that survives a crash once written."""
    fs, path = _file_system(url)
    if isinstance(fs, LocalFileSystem):
        with _written_beside(path, content) as temporary:
            os.replace(temporary, path)
    elif _shows_whole_files(fs):
        fs.pipe_file(path, content)
    else:
        with _put_beside(fs, path, content) as temporary:
            _replace(fs, temporary, path)


def create_bytes(url: str, content: bytes) -> None:
    """Write a file that is not there yet; of several writers at once, one wins. Raises FileExistsError.

    A local file appears by a hard link, one on HDFS by a rename, which does not overwrite. On S3 it is a conditional
    put. Of other drivers it is fsspec's mode `create`, or a look before the write: writers in the same instant may both
    win.
    """
    fs, path = _file_system(url)
    if isinstance(fs, LocalFileSystem):
        with _written_beside(path, content) as temporary:
            os.link(temporary, path)
    elif _shows_whole_files(fs):
        try:
            fs.pipe_file(path, content, mode="create")
        except (NotImplementedError, TypeError, ValueError):
            if fs.exists(path):
                raise FileExistsError(url) from None
            fs.pipe_file(path, content)
    else:
        if _exists(fs, path):
            raise FileExistsError(url)
        with _put_beside(fs, path, content) as temporary:
            if not _renamed(fs, temporary, path):
                raise FileExistsError(url)


@contextmanager
def _written_beside(path: str, content: bytes) -> Iterator[str]:
    """A complete temporary file in the folder of `path`, for one atomic step into its place."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    temporary = _beside(path)
    try:
        with open(temporary, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        yield temporary
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)


@contextmanager
def _put_beside(fs: AbstractFileSystem, path: str, content: bytes) -> Iterator[str]:
    """`_written_beside` on another file system; what a step has left of the file is removed."""
    fs.makedirs(fs._parent(path), exist_ok=True)
    temporary = _beside(path)
    try:
        fs.pipe_file(temporary, content)
        yield temporary
    finally:
        if fs.exists(temporary):
            fs.rm_file(temporary)


def _beside(path: str) -> str:
    folder, _, name = path.rpartition("/")
    return f"{folder}/.{name}.{uuid.uuid4().hex}.tmp"  # hidden: a killed writer's is no published file


def _next_of(path: str) -> str:
    folder, _, name = path.rpartition("/")
    return f"{folder}/.{name}{_NEXT}"


def _shows_whole_files(fs: AbstractFileSystem) -> bool:
    """True if a put appears at its end, whole."""
    protocols = {fs.protocol} if isinstance(fs.protocol, str) else set(fs.protocol)
    return not protocols.isdisjoint(_OBJECT_STORES) or type(fs).mv is AbstractFileSystem.mv


def _replace(fs: AbstractFileSystem, temporary: str, path: str) -> None:
    """Put a whole file into the place of another, whether or not a rename overwrites."""
    following = _next_of(path)
    if fs.exists(following):  # of a writer that was killed
        if fs.exists(path):
            fs.rm_file(following)
        else:
            _renamed(fs, following, path)
    if _renamed(fs, temporary, path):
        return
    if not _renamed(fs, temporary, following):
        raise OSError(f"{path} could not be replaced: {following} is there already. Does another run write it?")
    fs.rm_file(path)
    _renamed(fs, following, path)


def _renamed(fs: AbstractFileSystem, source: str, target: str) -> bool:
    """Rename a file; False if the target is there and was not overwritten: some drivers raise then, some do not."""
    try:
        fs.mv(source, target)
    except OSError:
        if not fs.exists(target):
            raise
        return False
    if not fs.exists(source):
        return True
    if not fs.exists(target):
        raise OSError(f"{source} could not be renamed to {target}.")
    return False


def _found(fs: AbstractFileSystem, path: str, use: Callable[[str], T]) -> T:
    """`use` of a file, or of what is about to replace it. Raises FileNotFoundError."""
    try:
        return use(path)
    except FileNotFoundError:
        if isinstance(fs, LocalFileSystem) or _shows_whole_files(fs):
            raise
    try:
        return use(_next_of(path))
    except FileNotFoundError:
        return use(path)  # in its place by now


def _exists(fs: AbstractFileSystem, path: str) -> bool:
    """True if a file, what is about to replace it, or a folder is there."""
    if fs.exists(path):
        return True
    if isinstance(fs, LocalFileSystem) or _shows_whole_files(fs):
        return False
    return bool(fs.exists(_next_of(path)) or fs.exists(path))


def list_files(url: str, suffix: str = "") -> list[str]:
    """Files below a folder that end in `suffix`, relative to it, sorted; none that Spark hides (`_`, `.`)."""
    fs, path = _file_system(url)
    prefix = path.rstrip("/") + "/"
    relative = {_replaced_by(found.removeprefix(prefix)) for found in fs.find(path)}
    return sorted(
        name
        for name in relative
        if name.endswith(suffix) and not any(part.startswith(("_", ".")) for part in name.split("/"))
    )


def _replaced_by(name: str) -> str:
    """What a file is called, if this is about to replace it; else the name itself."""
    folder, slash, last = name.rpartition("/")
    is_next = last.startswith(".") and last.endswith(_NEXT) and len(last) > len(_NEXT) + 1
    return f"{folder}{slash}{last[1 : -len(_NEXT)]}" if is_next else name


def list_folders(url: str) -> list[str]:
    """Names of the folders directly below `url`, sorted; none if there is no such folder."""
    fs, path = _file_system(url)
    if not fs.exists(path):
        return []
    entries = fs.ls(path, detail=True)
    return sorted(e["name"].rstrip("/").rpartition("/")[2] for e in entries if e["type"] == "directory")


def make_folder(url: str) -> None:
    """Make a folder and its parents where the file system has such a thing."""
    fs, path = _file_system(url)
    fs.makedirs(path, exist_ok=True)


def remove(url: str) -> None:
    """Remove a file or a folder with everything below it; nothing happens if it is not there."""
    fs, path = _file_system(url)
    if not (isinstance(fs, LocalFileSystem) or _shows_whole_files(fs)) and fs.exists(_next_of(path)):
        fs.rm_file(_next_of(path))
    if fs.exists(path):
        fs.rm(path, recursive=True)


def copy(source: str, target: str) -> None:
    """Copy one file, also between file systems."""
    fs, path = _file_system(target)
    fs.makedirs(fs._parent(path), exist_ok=True)
    with open_binary(source) as reader, fs.open(path, "wb") as writer:
        while chunk := reader.read(_CHUNK):
            writer.write(chunk)


def sha256(url: str) -> str:
    """Checksum of a file's content, 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with open_binary(url) as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def absolute(url: str) -> str:
    """A local path made absolute, since Spark's executors and Horovod's workers run elsewhere; a URL as it is."""
    return url if "://" in url else os.path.abspath(url)


def size(url: str) -> int:
    """Length of a file in bytes."""
    fs, path = _file_system(url)
    return int(fs.size(path))


def sha256_all(urls: Iterable[str], threads: int = 8) -> list[str]:
    """Checksums of several files, read side by side."""
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(sha256, urls))


def _file_system(url: str) -> tuple[AbstractFileSystem, str]:
    """The file system and the path on it. Listings are not cached: another process may have moved a pointer since."""
    try:
        fs, path = fsspec.url_to_fs(url, use_listings_cache=False)
    except (ValueError, ImportError) as error:
        raise UsageError(
            f"{url} is on no file system that can be reached from here: {error}. Give a local path, or a URL whose "
            f"fsspec driver is installed."
        ) from error
    return fs, path
