"""The file in which one worker keeps its shards of the tables in a checkpoint.

A ZIP archive without compression. Every state array of every table is cut into blocks of places; a block is
the member `<table>/<array>/<rank>/<world>/<first place>` and holds three .npy arrays in a row: a blank row, the
places (within the block) of the rows that differ from it, and those rows. So a row that no batch has touched
costs nothing where all of them start alike, as FTRL's zeros and AdaGrad's accumulators do; embeddings start at
random values and are kept whole. Nothing depends on a table's rule, and what is read back is bit for bit what
was written.

A member says which rank of which world held it: rows find their place in any other world.

Shapes: R rows of a block, K rows kept of them, W words of a row.
"""

from __future__ import annotations

import hashlib
import math
import zipfile
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import IO

import numpy as np

from nightjar.features.contract import liveness, storage
from nightjar.features.contract.errors import DataError
from nightjar.features.contract.manifests import FileEntry
from nightjar.features.contract.verified import parsing
from nightjar.training.tables.shard import Shard
from nightjar.training.tables.table import Table

_BLOCK_ROWS = 1 << 18
_SAMPLED_ROWS = 32


def write_shards(directory: str, path: str, tables: Mapping[str, Table]) -> FileEntry:
    """Write these tables' shards into a file, block by block. Returns the file's entry.

    Args:
        directory: where the file goes.
        path: its name there.
        tables: by name.
    """
    with storage.open_binary_writer(storage.join(directory, path)) as stream:
        hashed = _Hashed(stream)
        with zipfile.ZipFile(hashed, "w") as archive:  # type: ignore[call-overload]
            for name, table in tables.items():
                for part, array in table.state().items():
                    for first in range(0, len(array), _BLOCK_ROWS):
                        member = zipfile.ZipInfo(f"{name}/{part}/{table.shard.rank}/{table.shard.world}/{first}")
                        with archive.open(member, "w", force_zip64=True) as block:
                            _write_block(block, array[first : first + _BLOCK_ROWS])
                        liveness.advance()
    return FileEntry(path=path, bytes=hashed.bytes, sha256=hashed.digest.hexdigest())


def read_shards(urls: Iterable[str], tables: Mapping[str, Table]) -> None:
    """Fill these tables' shards from the files of all workers that wrote a checkpoint, however many they were.

    Raises DataError if a row is in none of them, or if a block differs from the CRC-32 that the archive keeps of it.
    """
    restored: Counter[tuple[str, str]] = Counter()
    for url in urls:
        with (
            parsing(url, zipfile.BadZipFile, EOFError, LookupError, RuntimeError),
            storage.open_binary(url) as stream,
            zipfile.ZipFile(stream) as archive,
        ):
            for member in archive.namelist():
                name, part, *numbers = member.split("/")
                rank, world, first = map(int, numbers)
                shard = tables[name].shard
                writer = Shard(shard.rows, rank, world)
                if not shard.overlaps(writer):
                    continue
                target = tables[name].state()[part]
                with archive.open(member) as block:
                    rows = _read_block(block, min(_BLOCK_ROWS, writer.size - first))
                mine, places = shard.held(writer.ids(first + np.arange(len(rows))))
                theirs = rows[mine]
                # Rows that are right already are not written: the pages of a fresh table of zeros take no memory.
                differs = (_words(target[places]) != _words(theirs)).any(axis=1)
                target[places[differs]] = theirs[differs].reshape(-1, *target.shape[1:])
                restored[name, part] += len(mine)
                liveness.advance()
    for name, table in tables.items():
        for part in table.state():
            if restored[name, part] != table.shard.size:
                raise DataError(
                    f"checkpoint files {list(urls)} hold {restored[name, part]} rows of {name}/{part} for worker "
                    f"{table.shard.rank} of {table.shard.world}, which has {table.shard.size}. Remove the checkpoint."
                )


def _write_block(stream: IO[bytes], block: np.ndarray) -> None:
    rows = np.ascontiguousarray(block).reshape(len(block), -1)
    words_RW = _words(block)
    _, firsts, counts = np.unique(
        words_RW[:: max(1, len(rows) // _SAMPLED_ROWS)], axis=0, return_index=True, return_counts=True
    )
    blank = int(firsts[counts.argmax()]) * max(1, len(rows) // _SAMPLED_ROWS)
    differs_R = np.zeros(len(rows), dtype=bool)
    for word in range(words_RW.shape[1]):
        differs_R |= words_RW[:, word] != words_RW[blank, word]
    [places_K] = differs_R.nonzero()
    for array in (rows[blank : blank + 1], places_K.astype(np.int32), rows[places_K]):
        np.lib.format.write_array(stream, array, allow_pickle=False)


def _read_block(stream: IO[bytes], count: int) -> np.ndarray:
    blank, places_K, rows_K = (np.lib.format.read_array(stream, allow_pickle=False) for _ in range(3))
    rows = np.repeat(blank, count, axis=0)
    rows[places_K] = rows_K
    return rows


def _words(rows: np.ndarray) -> np.ndarray:
    """The bits of these rows, [R, W] unsigned integers as long as fit: -0 differs from 0, and NaN equals itself."""
    flat = np.ascontiguousarray(rows).reshape(len(rows), math.prod(rows.shape[1:]))
    size = flat.itemsize * flat.shape[1]
    return flat.view(next(f"u{n}" for n in (8, 4, 2, 1) if size % n == 0))


class _Hashed:
    """A stream that counts and hashes what passes. It cannot seek, which ZipFile takes from its lacking `tell`."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.bytes = 0
        self.digest = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self._stream.write(data)
        self.digest.update(data)
        self.bytes += len(data)
        return len(data)

    def flush(self) -> None:
        self._stream.flush()
