"""Reading files of a published directory as the bytes that its manifest lists, and nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import xxhash

from nightjar.features.contract import liveness, storage
from nightjar.features.contract.errors import DataError
from nightjar.features.contract.manifests import FileEntry, Manifest

_compared: dict[str, tuple[str, int, float]] = {}
"""Of each file that this process has compared: its sha256, its size, and when it was written."""
REMEDY = "Restore it, or remove the directory and run its step again."


def entry_at(directory: str, manifest: Manifest, path: str) -> FileEntry:
    """The entry of one file. Raises DataError if the manifest lists no such file."""
    for entry in manifest.files:
        if entry.path == path:
            return entry
    raise DataError(f"the manifest of {directory} lists no {path}. {REMEDY}")


def difference(content: bytes | memoryview, entry: FileEntry) -> str | None:
    """What to say of a file whose bytes are not those of its entry; None if they are."""
    if len(content) != entry.bytes:
        return f"differs from the manifest: {len(content)} bytes instead of {entry.bytes}"
    if entry.xxh3 is None:
        name, wanted, found = "sha256", entry.sha256, hashlib.sha256(content).hexdigest()
    else:
        name, wanted, found = "xxh3", entry.xxh3, xxhash.xxh3_128_hexdigest(content)
    return None if found == wanted else f"differs from the manifest: {name} {found[:12]}... instead of {wanted[:12]}..."


def read_verified(directory: str, entry: FileEntry) -> bytes:
    """The whole file, compared with its entry. Raises DataError that names the file if it differs or is missing."""
    url = storage.join(directory, entry.path)
    try:
        content = storage.read_bytes(url)
    except OSError as error:
        raise DataError(f"{url} cannot be read: {error}. {REMEDY}") from error
    found = difference(content, entry)
    if found:
        raise DataError(f"{url} {found}. {REMEDY}")
    liveness.advance()
    return content


def verify_files(directory: str, entries: Iterable[FileEntry]) -> None:
    """Compare files with their entries, for readers that take a path and not bytes. Files that this process has
    compared already, and that nobody has written since, are passed over. Raises DataError that names each damaged file.
    """
    pending: dict[str, tuple[str, int, float]] = {}
    damaged = []
    for entry in entries:
        url = storage.join(directory, entry.path)
        try:
            known = entry.sha256, storage.size(url), storage.modified(url)
        except FileNotFoundError:
            damaged.append(entry.path)
            continue
        if _compared.get(url) != known:
            pending[url] = known
    for url, checksum in zip(pending, storage.sha256_all(pending), strict=True):
        if checksum == pending[url][0]:
            _compared[url] = pending[url]
        else:
            damaged.append(url.removeprefix(f"{directory.rstrip('/')}/"))
    if damaged:
        raise DataError(f"{directory} is damaged: {sorted(damaged)} differ from the manifest, or are gone. {REMEDY}")


@contextmanager
def parsing(url: str, *malformed: type[Exception]) -> Iterator[None]:
    """Turn what a parser raises for malformed content, ValueError and `malformed`, into a DataError naming `url`."""
    kinds: tuple[type[Exception], ...] = (ValueError, *malformed)
    try:
        yield
    except kinds as error:
        raise DataError(f"{url} cannot be read: {error}. {REMEDY}") from error
