"""What a file of a log is known by.

A file is known by its content, so that a copy of a log is the same log, whenever it was written and whatever it is
called. Up to 1 MiB all of it counts. Of a larger one it is a short read: the size, the first and the last 64 KiB, 64
blocks of 4 KiB in between, and a Parquet file's whole footer, which has statistics, sizes and offsets of every row
group's columns. A change of a few bytes between the blocks of a larger text file, which leaves its size as it was, is
not seen; in compressed formats it moves what follows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, BinaryIO

from nightjar.features.contract import storage

_WHOLE = 1 << 20
_END = 1 << 16
_BLOCK, _BLOCKS = 1 << 12, 64
# What file systems' drivers call the moment of the last change, or a digest of the content.
_WRITTEN = ("mtime", "created", "ino", "ETag", "etag", "LastModified", "last_modified", "modification_time", "updated")


def identity_of(stream: BinaryIO, form: str) -> list[Any]:
    """The size, and a checksum of what is looked at."""
    size = stream.seek(0, 2)
    seen = hashlib.sha256()
    for begin, length in _looked_at(stream, size, form):
        stream.seek(begin)
        seen.update(stream.read(length))
    return [size, seen.hexdigest()]


def _looked_at(stream: BinaryIO, size: int, form: str) -> Iterator[tuple[int, int]]:
    """Offsets and lengths."""
    if size <= _WHOLE:
        yield 0, size
        return
    end = _END
    if form == "parquet":  # the footer's length, before the last four bytes
        stream.seek(size - 8)
        end = max(end, min(int.from_bytes(stream.read(4), "little") + 8, size))
    yield 0, _END
    yield size - end, end
    step = (size - 2 * _END) // _BLOCKS
    yield from ((_END + n * step, _BLOCK) for n in range(_BLOCKS))


def written(url: str) -> tuple[Any, ...] | None:
    """What changes when a file is written again, as far as its storage says that; None if it does not."""
    fs, path = storage.file_system(url)
    with suppress(OSError):
        entry = fs.info(path)
        moments = tuple(entry[name] for name in _WRITTEN if entry.get(name) is not None)
        return (entry["size"], *moments) if moments else None
    return None
