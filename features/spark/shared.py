"""Objects full of NumPy arrays that all processes of a machine share: one makes the object, all map its arrays.

Without it every Python worker of an executor would read the vocabularies and hold a copy of them.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import pickle
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

# Where processors like arrays to begin.
_ALIGNMENT = 64


def shared(path: str, make: Callable[[], T]) -> T:
    """`make()`, called by the first process that asks; its arrays are then read-only views of a mapped file.

    path: in a folder of this machine that goes away with the application. What is made must be the same wherever it is
    made, and its arrays contiguous.
    """
    with open(f"{path}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.exists(path):
            _write(path, make())
    mapped: T = _mapped(path)
    return mapped


def _write(path: str, value: object) -> None:
    """`path` holds the pickle and where its arrays are in `path`.arrays; it is there when all is written."""
    buffers: list[pickle.PickleBuffer] = []
    pickled = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    places = []
    with open(f"{path}.arrays", "wb") as stream:
        for buffer in buffers:
            stream.write(b"\0" * (-stream.tell() % _ALIGNMENT))
            start = stream.tell()
            stream.write(buffer.raw())
            places.append((start, stream.tell()))
        stream.write(b"\0")  # an empty file cannot be mapped
    with open(f"{path}.tmp", "wb") as stream:
        pickle.dump((pickled, places), stream)
    os.replace(f"{path}.tmp", path)


def _mapped(path: str) -> Any:
    with open(path, "rb") as stream:
        pickled, places = pickle.load(stream)
    with open(f"{path}.arrays", "rb") as stream:
        content = memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
    return pickle.loads(pickled, buffers=[content[start:stop] for start, stop in places])
