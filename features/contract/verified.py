"""Reading files of a published directory as the bytes that its manifest lists, and nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

from nightjar.features.contract import storage
from nightjar.features.contract.errors import DataError
from nightjar.features.contract.manifest import FileEntry, Manifest

REMEDY = "Restore it, or remove the directory and run its step again."


def entry_at(directory: str, manifest: Manifest, path: str) -> FileEntry:
    """The entry of one file. Raises DataError if the manifest lists no such file."""
    for entry in manifest.files:
        if entry.path == path:
            return entry
    raise DataError(f"the manifest of {directory} lists no {path}. {REMEDY}")


def difference(content: bytes | memoryview, entry: FileEntry) -> str | None:
    """In which way bytes are not those of the entry; None if they are."""
    if len(content) != entry.bytes:
        return f"it holds {len(content)} bytes, and the manifest says {entry.bytes}"
    found = hashlib.sha256(content).hexdigest()
    if found != entry.sha256:
        return f"its sha256 is {found[:12]}..., and the manifest says {entry.sha256[:12]}..."
    return None


def read_verified(directory: str, entry: FileEntry) -> bytes:
    """The whole file, compared with its entry. Raises DataError that names the file if it differs or is missing."""
    url = storage.join(directory, entry.path)
    try:
        content = storage.read_bytes(url)
    except OSError as error:
        raise DataError(f"{url} cannot be read: {error}. {REMEDY}") from error
    found = difference(content, entry)
    if found:
        raise DataError(f"{url} is damaged: {found}. {REMEDY}")
    return content


@contextmanager
def parsing(url: str, *malformed: type[Exception]) -> Iterator[None]:
    """Turn what a parser raises for malformed content, ValueError and `malformed`, into a DataError naming `url`."""
    try:
        yield
    except (ValueError, *malformed) as error:
        raise DataError(f"{url} cannot be read: {error}. {REMEDY}") from error
