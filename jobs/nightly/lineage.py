"""The code and libraries that a model was made with, for its manifest: the same in all runs of one installation."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from importlib.resources.abc import Traversable

import nightjar
from nightjar.features.contract.records import CodeVersion

LIBRARIES = ("torch", "horovod", "petastorm", "pyspark", "numpy", "pyarrow")


@cache
def code() -> CodeVersion:
    """The version of our packages, a digest of their source files, and the versions of what they stand on."""
    return CodeVersion(
        version=nightjar.__version__,
        sources=source_digest(files("nightjar")),
        libraries={"python": platform.python_version(), **{name: _version(name) for name in LIBRARIES}},
    )


def source_digest(package: Traversable) -> str:
    """sha256 over names and contents of all files of a package, which may lie in a folder or in a zip archive."""
    digest = hashlib.sha256()
    for path, content in sorted(_sources(package, package.name)):
        digest.update(f"{path}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def _sources(folder: Traversable, path: str) -> Iterator[tuple[str, bytes]]:
    for entry in folder.iterdir():
        inner = f"{path}/{entry.name}"
        if entry.is_dir():
            if entry.name != "__pycache__":
                yield from _sources(entry, inner)
        elif not entry.name.endswith(".pyc"):
            yield inner, entry.read_bytes()


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "not installed"
