"""A file system in this process that promises what HDFS does and no more, and whose client dies on command.

A file is there, empty, as soon as it is opened for writing, which makes its folders, and grows with what is written. A
rename does not overwrite, nor make a folder; onto a folder it moves into it.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from typing import Any, ClassVar

import fsspec
from fsspec import AbstractFileSystem

PROTOCOL = "fakehdfs"


class Killed(BaseException):
    """The process died here."""


class FakeHdfs(AbstractFileSystem):
    """One name space for all its instances. files: contents by path; folders: paths; written: when each file was."""

    protocol = PROTOCOL
    files: ClassVar[dict[str, bytes]] = {}
    folders: ClassVar[set[str]] = {""}
    written: ClassVar[dict[str, datetime]] = {}
    # How many steps are left until the client dies; None: it lives.
    left: ClassVar[int | None] = None

    @classmethod
    def step(cls) -> None:
        """Before every change that others could see. Dead clients do nothing more, not even tidy up."""
        if cls.left is not None:
            cls.left -= 1
            if cls.left < 0:
                raise Killed

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return "/" + path.removeprefix(f"{PROTOCOL}://").strip("/")

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        path = self._strip_protocol(path)
        if path in self.files:
            return [self.info(path)] if detail else [path]
        if path.rstrip("/") not in self.folders:
            raise FileNotFoundError(path)
        inside = [p for p in {*self.files, *self.folders} if p and p.rpartition("/")[0] == path.rstrip("/")]
        return [self.info(p) for p in sorted(inside)] if detail else sorted(inside)

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        path = self._strip_protocol(path)
        if path in self.files:
            return {"name": path, "size": len(self.files[path]), "type": "file"}
        if path.rstrip("/") in self.folders:
            return {"name": path, "size": 0, "type": "directory"}
        raise FileNotFoundError(path)

    def modified(self, path: str) -> datetime:
        path = self._strip_protocol(path)
        if path not in self.files:
            raise FileNotFoundError(path)
        return self.written[path]

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        path = self._strip_protocol(path).rstrip("/")
        if path not in self.folders:
            self.step()
        parts = path.split("/")
        self.folders.update("/".join(parts[:n]) for n in range(1, len(parts) + 1))

    def mv(self, path1: str, path2: str, **_: Any) -> None:
        source, target = self._strip_protocol(path1), self._strip_protocol(path2)
        if source not in self.files:
            raise FileNotFoundError(source)
        if target in self.folders:
            target = f"{target}/{source.rpartition('/')[2]}"
        if target in self.files or target.rpartition("/")[0] not in self.folders:
            raise OSError(f"rename of {source} to {target} failed")
        self.step()
        self.files[target] = self.files.pop(source)
        self.written[target] = self.written.pop(source)

    def rm_file(self, path: str) -> None:
        path = self._strip_protocol(path)
        if path not in self.files:
            raise FileNotFoundError(path)
        self.step()
        del self.files[path]

    def rm(self, path: str, recursive: bool = False, maxdepth: int | None = None) -> None:
        path = self._strip_protocol(path)
        if path in self.files:
            self.rm_file(path)
            return
        self.step()
        for inside in [p for p in self.files if p.startswith(f"{path}/")]:
            del self.files[inside]
        self.folders.difference_update([p for p in self.folders if p == path or p.startswith(f"{path}/")])

    def rmdir(self, path: str) -> None:
        path = self._strip_protocol(path)
        if path not in self.folders or any(p.startswith(f"{path}/") for p in (*self.files, *self.folders)):
            raise OSError(f"{path} is no empty folder")
        self.step()
        self.folders.remove(path)

    def _open(self, path: str, mode: str = "rb", *_: Any, **__: Any) -> io.BytesIO:
        path = self._strip_protocol(path)
        if mode == "rb":
            if path not in self.files:
                raise FileNotFoundError(path)
            return io.BytesIO(self.files[path])
        self.makedirs(path.rpartition("/")[0], exist_ok=True)
        self.step()
        self.files[path] = b""
        self.written[path] = datetime.now(UTC)
        return _Growing(self, path)


class _Growing(io.BytesIO):
    """Half of every write is seen before the other half."""

    def __init__(self, fs: FakeHdfs, path: str) -> None:
        super().__init__()
        self.fs, self.path = fs, path

    def write(self, data: Any) -> int:
        content = bytes(data)
        half = len(content) // 2
        for piece in (content[:half], content[half:]):
            self.fs.step()
            self.fs.files[self.path] += piece
            self.fs.written[self.path] = datetime.now(UTC)
        return len(content)


@contextmanager
def fake_hdfs() -> Iterator[str]:
    """The URL of an empty place."""
    fsspec.register_implementation(PROTOCOL, FakeHdfs, clobber=True)
    FakeHdfs.files.clear()
    FakeHdfs.folders.clear()
    FakeHdfs.folders.add("")
    try:
        yield f"{PROTOCOL}://place"
    finally:
        FakeHdfs.left = None


def deaths() -> Iterator[AbstractContextManager[None]]:
    """Blocks that die at their first step, at their second, and so on; the last one lives to its end."""
    for steps in itertools.count():
        died: list[bool] = []
        yield _dying_at(steps, died)
        if not died:
            return


@contextmanager
def _dying_at(step: int, died: list[bool]) -> Iterator[None]:
    FakeHdfs.left = step
    try:
        yield
    except Killed:
        died.append(True)
    finally:
        FakeHdfs.left = None
