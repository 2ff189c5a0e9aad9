"""Published directories: files first, manifest last.

A directory is published when it holds `manifest.json`; until then it does not exist for any reader. Names of published
directories end in a key, a digest of everything that they were made from: the same inputs find the published result,
changed inputs make a new directory, and nothing published is ever written again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, TypeVar

from pydantic import ValidationError

from nightjar.features.contract import storage
from nightjar.features.contract.errors import DataError
from nightjar.features.contract.manifests import FORMAT, FileEntry, Manifest
from nightjar.features.contract.strict import digest, explain

MANIFEST = "manifest.json"
_REMEDY = "Restore it, or remove the directory and run its step again."

M = TypeVar("M", bound=Manifest)


def key_of(**inputs: Any) -> str:
    """Twelve hexadecimal digits for a directory's name, from JSON values that say what it is made from, and FORMAT."""
    return digest({"format": FORMAT, "inputs": inputs})[:12]


def is_published(directory: str) -> bool:
    """True if a manifest stands in `directory`."""
    return storage.exists(storage.join(directory, MANIFEST))


def read_manifest(directory: str, model: type[M]) -> M:
    """The manifest of a published directory. Raises DataError if there is none or if it is not of this kind."""
    url = storage.join(directory, MANIFEST)
    try:
        document = json.loads(storage.read_bytes(url))
    except FileNotFoundError as error:
        raise DataError(f"{directory} is not a published directory: it has no {MANIFEST}.") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{url} is damaged: {error}. Remove {directory} and run the step again.") from error
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise DataError(explain(error, url)) from error


def manifest_digest(directory: str) -> str:
    """sha256 of the manifest: it stands for everything in the directory."""
    return storage.sha256(storage.join(directory, MANIFEST))


def unpublish(directory: str) -> None:
    """Remove a directory, its manifest first, so that a kill in between leaves none that seems whole."""
    storage.remove(storage.join(directory, MANIFEST))
    storage.remove(directory)


def begin(directory: str) -> None:
    """Prepare an empty directory to publish into; what a killed attempt left there is removed."""
    if is_published(directory):
        raise DataError(f"{directory} is published already and is never written again.")
    storage.remove(directory)
    storage.make_folder(directory)


def describe_files(directory: str, known: Iterable[FileEntry] = ()) -> tuple[FileEntry, ...]:
    """Entries of all files in `directory`, sorted by path; only those not `known` already are read."""
    entries = {entry.path: entry for entry in known}
    paths = [path for path in storage.list_files(directory) if path != MANIFEST]
    unknown = [path for path in paths if path not in entries]
    urls = [storage.join(directory, path) for path in unknown]
    for path, url, checksum in zip(unknown, urls, storage.sha256_all(urls), strict=True):
        entries[path] = FileEntry(path=path, bytes=storage.size(url), sha256=checksum)
    gone = sorted(set(entries) - set(paths))
    if gone:
        raise DataError(
            f"{directory} lacks {gone}, which were written a moment ago. Does every executor write to the same place, "
            f"and does only one run write there at a time?"
        )
    return tuple(entries[path] for path in paths)


def commit(directory: str, manifest: Manifest) -> None:
    """Publish: write the manifest, whole or not at all."""
    content = json.dumps(manifest.model_dump(mode="json"), indent=1, sort_keys=True) + "\n"
    storage.write_bytes(storage.join(directory, MANIFEST), content.encode())


def verify(directory: str, manifest: Manifest) -> None:
    """Read every file and compare it with the manifest. Raises DataError that names each damaged file."""
    urls = manifest.file_urls(directory)
    missing = [entry.path for entry, url in zip(manifest.files, urls, strict=True) if not storage.exists(url)]
    if missing:
        raise DataError(f"{directory} lacks {missing}, which its manifest lists. {_REMEDY}")
    checksums = storage.sha256_all(urls)
    damaged = [e.path for e, checksum in zip(manifest.files, checksums, strict=True) if checksum != e.sha256]
    if damaged:
        raise DataError(f"{directory} is damaged: {damaged} differ from the manifest. {_REMEDY}")
