"""A candidate's files of its tables, in the order of the rows' ids. The shards come to rank 0 block by block and go
on into the files: no worker ever holds more than a block of another's rows.

Shapes: R rows of the shard, K columns of an array, T touched rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from types import TracebackType

import numpy as np
import torch

from nightjar.features.contract import liveness, storage
from nightjar.features.contract.artifact_files import (
    WIDE,
    WIDE_IDS,
    WIDE_TOUCHED,
    WIDE_WEIGHTS,
    embedding,
    embedding_values,
    optimizer_state,
)
from nightjar.training.run.collective import Collective
from nightjar.training.tables.table import Table

_BLOCK_ROWS = 1 << 18
Select = Callable[[np.ndarray], Sequence[np.ndarray]]
"""Places of a shard -> arrays of as many rows each; the first: ids, int64[n]."""


class ArrayWriter:
    """A .npy file that is written as its rows arrive. A context manager."""

    def __init__(self, url: str, shape: tuple[int, ...], dtype: np.dtype) -> None:
        self._url = url
        self._header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}

    def __enter__(self) -> ArrayWriter:
        self._stream = storage.open_binary_writer(self._url)
        np.lib.format.write_array_header_1_0(self._stream, self._header)
        return self

    def append(self, rows: np.ndarray) -> None:
        """The next rows."""
        self._stream.write(np.ascontiguousarray(rows).data)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()


def write_array(output: str, path: str, array: np.ndarray) -> None:
    """A whole array as a .npy file."""
    with ArrayWriter(storage.join(output, path), array.shape, array.dtype) as file:
        file.append(array)


def write_wide(output: str, table: Table | None, collective: Collective) -> None:
    """The wide table's files; without a table, empty ones for scoring. Every worker calls this; rank 0 writes.

    scoring/wide_ids.npy, wide_weights.npy: rows whose weight is not 0. optimizer/wide_ids.npy and wide_<array>.npy for
    each array of table.state(): rows ever touched. optimizer/wide_<scalar>.npy for each of table.scalars().

    Args:
        output: the candidate's directory.
        table: None: the model has none.
        collective: the workers.
    """
    if table is None:
        if collective.rank == 0:
            write_array(output, WIDE_IDS, np.empty(0, dtype=np.int64))
            write_array(output, WIDE_WEIGHTS, np.empty(0, dtype=np.float32))
        return
    state = table.state()

    def touched(places: np.ndarray) -> list[np.ndarray]:
        places_T = places[table.touched(places)]
        arrays = (array[places_T] for array in state.values())
        return [table.shard.ids(places_T), table.weights(places_T)[:, 0], *arrays]

    rows, weighty = _totals(table, touched, collective)
    ids, weights, *arrays = touched(np.empty(0, dtype=np.int64))
    contents = [(WIDE_IDS, weighty, ids), (WIDE_WEIGHTS, weighty, weights)]
    contents += [(WIDE_TOUCHED, rows, ids)]
    contents += [(optimizer_state(WIDE, part), rows, array) for part, array in zip(state, arrays, strict=True)]
    with _writers(output, contents, collective) as files:
        for ids_T, weights_T, *arrays in gathered(table, touched, collective):
            [kept] = weights_T.nonzero()
            for file, block in zip(files, [ids_T[kept], weights_T[kept], ids_T, *arrays], strict=True):
                file.append(block)
    _write_scalars(output, WIDE, table, collective)


def write_embeddings(output: str, table: Table, collective: Collective) -> None:
    """The files of a table of embeddings, every row of it. Every worker calls this; rank 0 writes.

    scoring/embedding_<width>.npy: its values. optimizer/embedding_<width>_<array>.npy for each other array of
    table.state(), and ..._<scalar>.npy for each of table.scalars().

    Args:
        output: the candidate's directory.
        table: of one width.
        collective: the workers.
    """
    state, name = table.state(), embedding(table.width)

    def everything(places: np.ndarray) -> list[np.ndarray]:
        return [table.shard.ids(places), *(array[places] for array in state.values())]

    paths = {part: optimizer_state(name, part) for part in state} | {"values": embedding_values(table.width)}
    contents = [(paths[part], table.shard.rows, array) for part, array in state.items()]
    with _writers(output, contents, collective) as files:
        for _, *arrays in gathered(table, everything, collective):
            for file, block in zip(files, arrays, strict=True):
                file.append(block)
    _write_scalars(output, name, table, collective)


def gathered(table: Table, select: Select, collective: Collective) -> Iterator[list[np.ndarray]]:
    """Rows of every worker's shard, in the order of the ids: block by block on rank 0, nothing elsewhere. Every worker
    must exhaust this iterator.

    Args:
        table: the shards.
        select: what to take of a shard.
        collective: the workers.
    """
    for places in _blocks(table):
        liveness.advance()
        if table.shard.world == 1:
            if collective.rank == 0:
                yield list(select(places))
            continue
        arrays = select(places)
        packed = torch.from_numpy(np.hstack([_bytes(array) for array in arrays]))
        [(rows, _)] = collective.all_to_all([packed], [[len(packed)] + [0] * (collective.size - 1)])
        if collective.rank == 0:
            yield _unpacked(rows.numpy(), arrays)


@contextmanager
def _writers(
    output: str, contents: Sequence[tuple[str, int, np.ndarray]], collective: Collective
) -> Iterator[list[ArrayWriter]]:
    """For each (path, rows, an array of the same type and columns) an open file on rank 0, nothing elsewhere."""
    with ExitStack() as stack:
        files = []
        if collective.rank == 0:
            for path, rows, like in contents:
                file = ArrayWriter(storage.join(output, path), (rows, *like.shape[1:]), like.dtype)
                files.append(stack.enter_context(file))
        yield files


def _blocks(table: Table) -> Iterator[np.ndarray]:
    """Places of the shard; as many blocks on every worker, and blocks of all workers cover the same range of ids."""
    shard = table.shard
    for first in range(0, shard.largest_size, _BLOCK_ROWS):
        yield np.arange(first, min(first + _BLOCK_ROWS, shard.size))


def _bytes(array: np.ndarray) -> np.ndarray:
    """Rows as bytes: what has different types travels in one message."""
    return np.ascontiguousarray(array).reshape(len(array), math.prod(array.shape[1:])).view(np.uint8)


def _unpacked(packed: np.ndarray, like: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The arrays, ordered by the first."""
    ends = np.cumsum([array.itemsize * math.prod(array.shape[1:]) for array in like])
    columns = [np.ascontiguousarray(column) for column in np.split(packed, ends[:-1], axis=1)]
    arrays = [c.view(a.dtype).reshape(len(packed), *a.shape[1:]) for c, a in zip(columns, like, strict=True)]
    order = np.argsort(arrays[0])
    return [array[order] for array in arrays]


def _totals(table: Table, select: Select, collective: Collective) -> tuple[int, int]:
    """Of all workers: how many rows `select` takes, and how many of them have a weight, its second array."""
    totals = torch.zeros(2, dtype=torch.int64)
    for places in _blocks(table):
        weights = select(places)[1]
        totals += torch.tensor([len(weights), np.count_nonzero(weights)])
    if table.shard.world > 1:
        collective.all_reduce_sum_(totals)
    rows, weighty = totals.tolist()
    return rows, weighty


def _write_scalars(output: str, name: str, table: Table, collective: Collective) -> None:
    if collective.rank == 0:
        for scalar, value in table.scalars().items():
            write_array(output, optimizer_state(name, scalar), value)
