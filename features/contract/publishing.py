"""Published directories: files first, manifest last.

A directory is published when it holds `manifest.json`; until then it does not exist for any reader. Names of published
directories end in a key, a digest of everything that they were made from: the same inputs find the published result,
changed inputs make a new directory, and nothing published is ever written again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any, TypeVar

from fsspec.implementations.local import LocalFileSystem
from pydantic import ValidationError

from nightjar.features.contract import manifests, storage
from nightjar.features.contract.errors import DataError
from nightjar.features.contract.manifests import FileEntry, Manifest
from nightjar.features.contract.strict import digest, explain

MANIFEST = "manifest.json"
_REMEDY = "Restore it, or remove the directory and run its step again."

# The oldest that is read: the one before FORMAT, from the next one on.
OLDEST_FORMAT = 2
# Of an artifact that asks more of its reader than FORMAT does: tables in 16 or 8 bits, a calibrator. Readers that know
# FORMAT alone refuse it, and say which version it takes.
EXTENDED_FORMAT = 3
# Raise it when the same log gives other counts. The history is then counted again, for which its logs must be there.
COUNTS_FORMAT = 2
# Parts of a manifest that say how features are computed.
_OF_FEATURES = ("spec", "columns")

M = TypeVar("M", bound=Manifest)


def key_of(**inputs: Any) -> str:
    """Twelve hexadecimal digits for a directory's name, from JSON values that say what it is made from, and FORMAT."""
    return digest({"format": manifests.FORMAT, "inputs": inputs})[:12]


def key_of_counts(**inputs: Any) -> str:
    """`key_of` for daily counts and roll-ups, with COUNTS_FORMAT: they outlive a change of the format of all else."""
    return digest({"format": COUNTS_FORMAT, "inputs": inputs})[:12]


def is_published(directory: str) -> bool:
    """True if a manifest stands in `directory`."""
    return storage.exists(storage.join(directory, MANIFEST))


def read_manifest(directory: str, model: type[M]) -> M:
    """The manifest of a published directory, of this format or of the one before.

    Keys that a later version has added are left out, unless they say something of a feature that is read: one that is
    set, in the spec or in a column. Raises DataError if there is no manifest, if it is not of this kind, or if it needs
    another version.
    """
    url = storage.join(directory, MANIFEST)
    try:
        document = _json_of(directory)
    except FileNotFoundError as error:
        raise DataError(f"{directory} is not a published directory: it has no {MANIFEST}.") from error
    except OSError as error:
        raise DataError(f"{url} cannot be read: {error}. May this user read it? {_REMEDY}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{url} is damaged: {error}. Remove {directory} and run the step again.") from error
    if not isinstance(document, dict):
        raise DataError(f"{url} is damaged: it holds no object. {_REMEDY}")
    _require_format(document, directory)
    try:
        return model.model_validate(document)
    except ValidationError as error:
        return _without_what_is_new(document, error, model, directory)


def _require_format(document: Mapping[str, Any], directory: str) -> None:
    """Raise a DataError if the manifest is of a format that is not read any more, or not yet."""
    oldest, newest = OLDEST_FORMAT, max(manifests.FORMAT, EXTENDED_FORMAT)
    found = document.get("format", manifests.FORMAT)
    if isinstance(found, int) and not oldest <= found <= newest:
        remedy = (
            f"Make it again, or read it with a version of Nightjar that reads the format {found}."
            if found < oldest
            else f"It was made by {_maker(document, directory)}: install that version or a later one."
        )
        raise DataError(f"{directory} is of the format {found}; this version reads {oldest} to {newest}. {remedy}")


def _without_what_is_new(document: dict[str, Any], error: ValidationError, model: type[M], directory: str) -> M:
    """The manifest without unknown keys that change nothing. Raises DataError where they do, or for another problem."""
    problems = error.errors(include_url=False)
    for problem in problems:
        path, value = problem["loc"], problem["input"]
        matters = path[0] in _OF_FEATURES and value not in (None, False, "", 0, [], {})
        if problem["type"] != "extra_forbidden":
            raise DataError(explain(error, storage.join(directory, MANIFEST))) from error
        if matters:
            name = ".".join(map(str, path))
            raise DataError(
                f"{directory} needs {name} = {value!r}, which this version of Nightjar cannot compute. It was made by "
                f"{_maker(document, directory)}: install that version or a later one."
            ) from error
        _remove(document, path)
    try:
        return model.model_validate(document)
    except ValidationError as again:
        return _without_what_is_new(document, again, model, directory)


def _remove(document: Any, path: tuple[int | str, ...]) -> None:
    """Remove a key. Parts of the path that name no key or item are pydantic's names for the types of a union."""
    for part in path[:-1]:
        with suppress(KeyError, TypeError):
            document = document[part]
    del document[path[-1]]


def _maker(document: Mapping[str, Any], directory: str) -> str:
    """The version that made an artifact, or an artifact's part, for people."""
    try:
        whole = document if "lineage" in document else _json_of(directory.rpartition("/")[0])
        return f"Nightjar {whole['lineage']['code']['version']}"
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
        return "a later version"


def _json_of(directory: str) -> Any:
    return json.loads(storage.read_bytes(storage.join(directory, MANIFEST)))


def manifest_digest(directory: str) -> str:
    """sha256 of the manifest: it stands for everything in the directory."""
    return storage.sha256(storage.join(directory, MANIFEST))


def unpublish(directory: str) -> None:
    """Remove a directory, its manifest first, so that a kill in between leaves none that seems whole.

    Of a link only itself: what it leads to may be anybody's.
    """
    fs, path = storage.file_system(directory)
    if not (isinstance(fs, LocalFileSystem) and os.path.islink(path)):
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
