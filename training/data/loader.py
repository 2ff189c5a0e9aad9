"""The data set's files as batches, streamed through Petastorm in the plan's order. The one file that imports
petastorm.

Petastorm's own thread pool and ventilator lose rows without a word (a race between "all items handed out" and
"all workers idle"), and its list columns pass through pandas. Here a reader hands out all row groups before
it starts, runs in a thread of ours, and turns Arrow columns into NumPy arrays without a copy.

Every byte is compared with the manifest each time that it is read: a file comes into memory as a whole, is hashed
there (by XXH3, where the manifest has it), and only then does Arrow see it. The rows are counted, too. Of a data set
Petastorm sees these bytes alone, no folder and no metadata of its own, which it would unpickle.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import closing
from functools import cache
from typing import Any, NoReturn

import pyarrow as pa
from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem

from nightjar.features.contract import liveness, storage
from nightjar.features.contract.errors import DataError
from nightjar.features.contract.layout import TableLayout
from nightjar.features.contract.manifests import FileEntry
from nightjar.features.contract.verified import difference
from nightjar.training.data.batch import Batch, make_batch
from nightjar.training.data.columns import (
    ROW_KEY,
    Columns,
    ShuffledFile,
    empty_columns,
    join,
    row_keys,
)
from nightjar.training.data.dataset import REBUILD, Dataset, to_columns
from nightjar.training.data.plan import EpochPlan, Segment
from nightjar.training.data.prefetch import Prefetched

_BATCHES_AHEAD = 4
_ROWS_AHEAD = 1 << 18


def epoch_batches(dataset: Dataset, epoch: EpochPlan, rank: int, world: int, start: int = 0) -> Prefetched[Batch]:
    """This worker's shares of an epoch's global batches, read and laid out ahead; see Prefetched.

    Args:
        dataset: the rows.
        epoch: their order.
        rank: the worker's.
        world: how many workers there are.
        start: the first global batch of the epoch to give.
    """
    shares = epoch_columns(dataset, epoch, rank, world, start)
    return laid_out(shares, dataset.layout, epoch.plan.steps_before(epoch.number) + start)


def laid_out(shares: Iterable[Columns], layout: TableLayout, step: int) -> Prefetched[Batch]:
    """Batches of these rows, made ahead.

    Args:
        shares: the columns of each batch.
        layout: of the tables.
        step: the number of the first batch in the run; the others follow.
    """
    return Prefetched((make_batch(rows, layout, number) for number, rows in enumerate(shares, step)), _BATCHES_AHEAD)


def epoch_columns(
    dataset: Dataset, epoch: EpochPlan, rank: int, world: int, start: int = 0
) -> Generator[Columns, None, None]:
    """The columns of these shares, in the plan's order; files are read ahead in a thread of their own.

    Args:
        dataset: the rows.
        epoch: their order.
        rank: the worker's.
        world: how many workers there are.
        start: the first global batch of the epoch to give.
    """
    nothing = empty_columns(dataset.columns)
    order = epoch.reading_order(rank, world, start)
    loaded: dict[int, ShuffledFile] = {}
    with Prefetched(read_tables(dataset, order), _files_ahead(epoch, rank, world)) as tables:
        following = zip(order, tables, strict=True)
        for segments in epoch.batches(rank, world, start):
            for segment in segments:
                if segment.file not in loaded:
                    file, table = next(following)
                    keys = {ROW_KEY: row_keys(file, len(table))}
                    columns = {**to_columns(table, dataset.columns, dataset.url(file)), **keys}
                    loaded[file] = ShuffledFile.of(columns, epoch.permutation(file))
            parts = [(loaded[segment.file], slice(segment.start, segment.stop)) for segment in segments]
            yield join(parts) if parts else nothing
            _forget_finished(loaded, segments, dataset.rows)


def _files_ahead(epoch: EpochPlan, rank: int, world: int) -> int:
    """How many files are kept ready. Lanes end their files together where these are of a size, so that one for each
    lane is best; of large files there are two.
    """
    lanes, rows_a_file = len(epoch.lanes_of(rank, world)), epoch.plan.rows // len(epoch.plan.files)
    return max(2, min(lanes, _ROWS_AHEAD // max(rows_a_file, 1)))


def _forget_finished(loaded: dict[int, ShuffledFile], segments: Sequence[Segment], rows: Sequence[int]) -> None:
    for segment in segments:
        if segment.stop == rows[segment.file]:
            del loaded[segment.file]


def read_tables(dataset: Dataset, order: Sequence[int]) -> Generator[pa.Table, None, None]:
    """These files, one after the other. Raises DataError that names a file that is damaged or miscounted."""
    if not order:
        return
    with closing(_Stream(dataset, order)) as stream:
        for file in order:
            url = dataset.url(file)
            table, expected = stream.read(url), dataset.files[file].rows
            if table.num_rows != expected:
                raise DataError(
                    f"{url} holds {table.num_rows} rows, but the manifest of {dataset.directory} says "
                    f"{expected}. {REBUILD}"
                )
            liveness.advance()
            yield table


class _Stream:
    """A Petastorm reader over files of one row group each, in the order given."""

    def __init__(self, dataset: Dataset, order: Sequence[int]) -> None:
        fs, _ = storage.file_system(dataset.url(order[0]))
        paths = [storage.file_system(dataset.url(file))[1] for file in order]
        self._files = _VerifiedFiles(fs, dict(zip(paths, (dataset.files[file] for file in order), strict=True)))
        try:
            self._reader = _reader_class()(self._files, paths, [column.name for column in dataset.columns])
        except (pa.ArrowException, OSError) as error:
            self._files.close()
            raise _damaged(dataset.url(order[0]), error) from error
        except DataError:
            self._files.close()
            raise

    def read(self, url: str) -> pa.Table:
        """The next file, which is `url`."""
        try:
            return next(self._reader)
        except StopIteration as error:
            raise DataError(f"the reader ended before {url}; its rows would have been lost. Report this.") from error
        except (pa.ArrowException, OSError) as error:
            raise _damaged(url, error) from error

    def close(self) -> None:
        self._files.close()
        self._reader.stop()
        self._reader.join()


class _VerifiedFiles:
    """Files by their path in a file system, opened in this order as what is in memory once it has been compared with
    the entry. The next one is read and hashed meanwhile, in a thread of its own.
    """

    def __init__(self, fs: AbstractFileSystem, entries: Mapping[str, FileEntry]) -> None:
        self._fs, self._entries = fs, entries
        self._ahead = Prefetched(((path, self._read(path)) for path in entries), 1)
        self._ahead.__enter__()
        self._following = iter(self._ahead)
        self._last: tuple[str, pa.Buffer] | None = None

    def open(self, path: str, mode: str = "rb") -> pa.BufferReader:
        """Raises DataError that names a file that is damaged or missing."""
        # Petastorm opens the first file twice in a row: for its schema, and for its rows.
        if self._last is None or self._last[0] != path:
            self._last = next(self._following)
            assert self._last[0] == path
        return pa.BufferReader(self._last[1])

    def close(self) -> None:
        """Read no further."""
        self._ahead.__exit__(None, None, None)

    def _read(self, path: str) -> pa.Buffer:
        try:
            content = self._content(path)
        except OSError as error:
            raise _damaged(path, error) from error
        found = difference(memoryview(content), self._entries[path])
        if found:
            raise _damaged(path, f"it {found}")
        return content

    def _content(self, path: str) -> pa.Buffer:
        if isinstance(self._fs, LocalFileSystem):
            # Arrow reads a local file itself, without Python's lock.
            with pa.OSFile(path) as file:
                return file.read_buffer()
        return pa.py_buffer(self._fs.cat_file(path))


@cache
def _reader_class() -> type[Any]:
    """Petastorm's Reader, made to hand out row groups in our order, all at once, and to publish Arrow tables."""
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"petastorm\.")
    warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"petastorm\.")
    warnings.filterwarnings("ignore", category=FutureWarning, module=re.escape(__name__))
    logging.getLogger("petastorm").setLevel(logging.WARNING)
    from petastorm import reader as petastorm_reader
    from petastorm.arrow_reader_worker import ArrowReaderWorker
    from petastorm.etl import dataset_metadata
    from petastorm.reader import Reader
    from petastorm.unischema import Unischema
    from petastorm.workers_pool import EmptyResultError
    from petastorm.workers_pool.dummy_pool import DummyPool
    from petastorm.workers_pool.ventilator import Ventilator
    from pyarrow.filesystem import FileSystem
    from pyarrow.parquet import ParquetDatasetPiece

    # The schema is the Parquet file's own. Petastorm prefers a pickled one from a folder's metadata, if there is any:
    # whoever can write there would run code here.
    petastorm_reader.infer_or_load_unischema = Unischema.from_arrow_schema
    dataset_metadata.depickle_legacy_package_name_compatible = _refuse_to_unpickle

    class FilesOnly(FileSystem):
        """Of the kind of before pyarrow 15, without which pyarrow refuses Petastorm's options. It has no folders, in
        which Petastorm would look for metadata.
        """

        def __init__(self, files: _VerifiedFiles) -> None:
            self.open = files.open

        def isfile(self, path: str) -> bool:
            return True

        def isdir(self, path: str) -> bool:
            return False

    class Tables:
        """Hands a table on as it is."""

        batched_output = True

        def read_next(self, pool: Any, schema: Any, ngram: Any) -> pa.Table:
            try:
                return pool.get_results()[0]
            except EmptyResultError:
                raise StopIteration from None

    class Worker(ArrowReaderWorker):
        """Reads a row group through the file that is open already; publishes tables without rows too."""

        @staticmethod
        def new_results_queue_reader() -> Tables:
            return Tables()

        def _load_rows(self, pq_file: Any, piece: Any, shuffle_row_drop_range: Any) -> tuple[pa.Table]:
            with pq_file:
                if pq_file.num_row_groups != 1:
                    raise DataError(
                        f"{piece.path} must hold one row group, which is the unit that is dealt out; it holds "
                        f"{pq_file.num_row_groups}. {REBUILD}"
                    )
                return (pq_file.read_row_group(0, columns=list(self._schema.fields)),)

    class AllAtOnce(Ventilator):
        """Hands out every row group before the first is read: nothing is left to race with."""

        def __init__(self, ventilate: Any, row_groups: Sequence[int]) -> None:
            super().__init__(ventilate)
            self._row_groups = row_groups

        def start(self) -> None:
            for index in self._row_groups:
                self._ventilate_fn(piece_index=index, worker_predicate=None, shuffle_row_drop_partition=(0, 1))

        def processed_item(self) -> None:
            """Nothing waits for it."""

        def completed(self) -> bool:
            return True

        def stop(self) -> None:
            """There is no thread to stop."""

    class InOrder(Reader):
        """The only row group of each of these files, in their order. Petastorm would sort them, having read all their
        footers before the first row.
        """

        def __init__(self, files: _VerifiedFiles, paths: list[str], names: Sequence[str]) -> None:
            self._paths, self._fs = paths, FilesOnly(files)
            super().__init__(
                self._fs,
                paths[:1],
                schema_fields=[f"^{re.escape(name)}$" for name in names],
                worker_class=Worker,
                reader_pool=DummyPool(),
                shuffle_row_groups=False,
                is_batched_reader=True,
            )

        def _filter_row_groups(self, dataset: Any, row_groups: list[Any], *rest: Any) -> tuple[range, None]:
            row_groups[:] = [ParquetDatasetPiece(path, self._fs.open, row_group=0) for path in self._paths]
            return range(len(row_groups)), None

        def _create_ventilator(self, row_group_indexes: Sequence[int], *rest: Any) -> AllAtOnce:
            return AllAtOnce(self._workers_pool.ventilate, row_group_indexes)

    return InOrder


def _refuse_to_unpickle(content: bytes) -> NoReturn:
    raise DataError(f"Petastorm asks to unpickle {len(content)} bytes of metadata, which Nightjar never writes.")


def _damaged(url: str, reason: Exception | str) -> DataError:
    return DataError(f"{url} cannot be read: {reason}. {REBUILD}")
