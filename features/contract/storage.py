"""Files on any fsspec URL or local path: reading, writing all or nothing, checksums.

The contract, on every file system: `write_bytes` replaces a file at once, a reader finds the old content or the new
one; `create_bytes` makes a file that is not there yet; a kill leaves what is hidden at most. How that is kept:

* On a local disk a file is written beside and put into its place by a rename, which overwrites.
* An object store shows a put at its end, whole. Of a driver without a rename of its own the same is assumed.
* All others (HDFS, SFTP, SMB, DBFS) show the beginning of a file that is being written, and their rename may refuse to
  overwrite. There a file is written beside and renamed. One that is there is replaced by way of `.<name>.next`: that is
  written, the old file is removed, and it gets its name. Readers look for both. A file has one writer at a time.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import BinaryIO, TextIO, TypeVar

import fsspec
from fsspec import AbstractFileSystem
from fsspec.core import has_magic
from fsspec.implementations.local import LocalFileSystem

from nightjar.features.contract import liveness
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
    """Open for writing lines. A local file grows with every flush, and is its owner's alone; an object appears when it
    is closed.
    """
    fs, path = file_system(url)
    fs.makedirs(fs._parent(path), exist_ok=True)
    if isinstance(fs, LocalFileSystem):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.fchmod(descriptor, 0o600)  # it may have been there
        return os.fdopen(descriptor, "w", encoding="utf-8")
    stream: TextIO = fs.open(path, "w", encoding="utf-8")
    return stream


def open_binary(url: str) -> BinaryIO:
    """Open for reading. Raises FileNotFoundError."""
    fs, path = file_system(url)
    stream: BinaryIO = _found(fs, path, lambda at: fs.open(at, "rb"))
    return stream


def open_unpacked(url: str) -> BinaryIO:
    """`open_binary` of what a compressed file holds, if its name ends in .gz, .bz2 and so on."""
    fs, path = file_system(url)
    stream: BinaryIO = fs.open(path, "rb", compression="infer")
    return stream


def read_bytes(url: str) -> bytes:
    """The whole file. Raises FileNotFoundError."""
    fs, path = file_system(url)
    content: bytes = _found(fs, path, fs.cat_file)
    return content


def exists(url: str) -> bool:
    """True if there is a file or a folder at `url`."""
    return _exists(*file_system(url))


def is_file(url: str) -> bool:
    """True if there is a file, not a folder, at `url`."""
    fs, path = file_system(url)
    return bool(fs.isfile(path))


def write_bytes(url: str, content: bytes) -> None:
    """Write a file that readers see either whole or not at all, and that survives a crash once written."""
    fs, path = file_system(url)
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
    fs, path = file_system(url)
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
    except OSError as error:
        if error.errno is not None:  # without a number, a file name would hide what it says
            error.filename = error.filename or path  # a write does not know what it writes to
        raise
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


def _beside(path: str, end: str | None = None) -> str:
    folder, _, name = path.rpartition("/")
    return f"{folder}/.{name}{end or f'.{uuid.uuid4().hex}.tmp'}"  # hidden: a killed writer's is no published file


def _has_next(fs: AbstractFileSystem) -> bool:
    return not (isinstance(fs, LocalFileSystem) or _shows_whole_files(fs))


def _shows_whole_files(fs: AbstractFileSystem) -> bool:
    """True if a put appears at its end, whole."""
    protocols = {fs.protocol} if isinstance(fs.protocol, str) else set(fs.protocol)
    return not protocols.isdisjoint(_OBJECT_STORES) or type(fs).mv is AbstractFileSystem.mv


def _replace(fs: AbstractFileSystem, temporary: str, path: str) -> None:
    """Put a whole file into the place of another, whether or not a rename overwrites."""
    following = _beside(path, _NEXT)
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
        if not _has_next(fs):
            raise
    try:
        return use(_beside(path, _NEXT))
    except FileNotFoundError:
        return use(path)  # in its place by now


def _exists(fs: AbstractFileSystem, path: str) -> bool:
    """True if a file, what is about to replace it, or a folder is there."""
    return bool(fs.exists(path) or (_has_next(fs) and (fs.exists(_beside(path, _NEXT)) or fs.exists(path))))


def list_files(url: str, suffix: str = "") -> list[str]:
    """Files below a folder that end in `suffix`, relative to it, sorted; none that Spark hides (`_`, `.`)."""
    fs, path = file_system(url)
    relative = {_replaced_by(found.removeprefix(path.rstrip("/") + "/")) for found in fs.find(path)}
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
    fs, path = file_system(url)
    if not fs.exists(path):
        return []
    entries = fs.ls(path, detail=True)
    return sorted(e["name"].rstrip("/").rpartition("/")[2] for e in entries if e["type"] == "directory")


def open_binary_writer(url: str) -> BinaryIO:
    """Open for writing; folders above are made. An object appears when it is closed."""
    fs, path = file_system(url)
    fs.makedirs(fs._parent(path), exist_ok=True)
    stream: BinaryIO = fs.open(path, "wb")
    return stream


def make_folder(url: str) -> None:
    """Make a folder and its parents where the file system has such a thing."""
    fs, path = file_system(url)
    fs.makedirs(path, exist_ok=True)


def remove(url: str) -> None:
    """Remove a file or a folder with everything below it; nothing happens if it is not there."""
    fs, path = file_system(url)
    if _has_next(fs) and fs.exists(_beside(path, _NEXT)):
        fs.rm_file(_beside(path, _NEXT))
    if not fs.exists(path):
        return
    if has_magic(path) and not isinstance(fs, LocalFileSystem):
        # fsspec takes [ ? * in what it removes for a pattern, which other folders may match.
        found = fs.find(path, withdirs=True, detail=True)
        folders = [name for name, entry in found.items() if entry["type"] == "directory"]
        for name in found.keys() - folders:
            fs.rm_file(name)
        for name in sorted({path, *folders}, reverse=True):
            with suppress(OSError, NotImplementedError):  # an object store has no folders
                fs.rmdir(name)
    else:
        fs.rm(path, recursive=True)


def copy(source: str, target: str) -> None:
    """Copy one file, also between file systems."""
    fs, path = file_system(target)
    fs.makedirs(fs._parent(path), exist_ok=True)
    with open_binary(source) as reader, fs.open(path, "wb") as writer:
        while chunk := reader.read(_CHUNK):
            writer.write(chunk)
            liveness.advance()


def sha256(url: str) -> str:
    """Checksum of a file's content, 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with open_binary(url) as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
            liveness.advance()
    return digest.hexdigest()


def absolute(url: str) -> str:
    """A local path made absolute, since Spark's executors and Horovod's workers run elsewhere; a URL as it is."""
    return url if "://" in url else os.path.abspath(url)


def size(url: str) -> int:
    """Length of a file in bytes."""
    fs, path = file_system(url)
    return int(_found(fs, path, fs.size))


def modified(url: str) -> float:
    """When a file was written last, in seconds since 1970."""
    fs, path = file_system(url)
    return float(_found(fs, path, fs.modified).timestamp())


def sha256_all(urls: Iterable[str], threads: int = 8) -> list[str]:
    """Checksums of several files, read side by side."""
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(sha256, urls))


def file_system(url: str) -> tuple[AbstractFileSystem, str]:
    """The file system and the path on it. Listings are not cached: another process may have moved a pointer since."""
    if "://" not in url:
        # Any character may be in a local name; to fsspec `::` joins several URLs.
        return LocalFileSystem(), os.path.abspath(url)
    try:
        try:
            fs, path = fsspec.url_to_fs(url, use_listings_cache=False)
        except TypeError:  # hdfs-native takes options for Hadoop's own, and keeps no listings
            fs, path = fsspec.url_to_fs(url)
    except (ValueError, ImportError) as error:
        raise UsageError(
            f"{url} is on no file system that can be reached from here: {error}. Give a local path, or a URL whose "
            f"fsspec driver is installed."
        ) from error
    return fs, path
