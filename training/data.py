"""The data set's files as batches, streamed through Petastorm in the plan's order. The one file that imports
petastorm.

Petastorm's own thread pool and ventilator lose rows without a word (a race between "all items handed out" and
"all workers idle"), and its list columns pass through pandas. Here a reader hands out all row groups before
it starts, runs in a thread of ours, and turns Arrow columns into NumPy arrays without a copy. The rows of
every file are counted against the manifest.
"""

from __future__ import annotations

import logging
import warnings
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from functools import cache
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from features import storage
from features.errors import DataError
from training.batch import ROW_KEY, Batch, Columns, concatenate, empty_columns, make_batch, row_keys, take
from training.dataset import REBUILD, Dataset, to_columns
from training.plan import EpochPlan, Segment
from training.prefetch import Prefetched

_BATCHES_AHEAD = 4
_FILES_AHEAD = 2


def epoch_batches(dataset: Dataset, epoch: EpochPlan, rank: int, world: int, start: int = 0) -> Prefetched[Batch]:
    """This worker's shares of the global batches start, start + 1, ... of an epoch, read ahead; see
    Prefetched.
    """
    return Prefetched(_batches(dataset, epoch, rank, world, start), _BATCHES_AHEAD)


def _batches(dataset: Dataset, epoch: EpochPlan, rank: int, world: int, start: int) -> Iterator[Batch]:
    layout, nothing = dataset.layout, empty_columns(dataset.columns)
    loaded: dict[int, Columns] = {}
    with Prefetched(_shuffled_files(dataset, epoch, epoch.reading_order(rank, world, start)), _FILES_AHEAD) as files:
        following = iter(files)
        first = epoch.number * epoch.plan.steps
        for step, segments in enumerate(epoch.batches(rank, world, start), start=first + start):
            for segment in segments:
                if segment.file not in loaded:
                    loaded[segment.file] = next(following)
            parts = [(loaded[segment.file], slice(segment.start, segment.stop)) for segment in segments]
            yield make_batch(concatenate(parts) if parts else nothing, layout, step)
            _forget_finished(loaded, segments, dataset.rows)


def _shuffled_files(dataset: Dataset, epoch: EpochPlan, order: Sequence[int]) -> Iterator[Columns]:
    """These files, each with its rows in the epoch's order."""
    with closing(read_files(dataset, order)) as files:
        for file, columns in zip(order, files, strict=True):
            keys = row_keys(file, dataset.rows[file])
            yield take({**columns, ROW_KEY: keys}, epoch.permutation(file))


def _forget_finished(loaded: dict[int, Columns], segments: Sequence[Segment], rows: Sequence[int]) -> None:
    for segment in segments:
        if segment.stop == rows[segment.file]:
            del loaded[segment.file]


def read_files(dataset: Dataset, order: Sequence[int]) -> Generator[Columns, None, None]:
    """These files' columns, one after the other. Raises DataError that names a file that is damaged or
    miscounted.
    """
    if not order:
        return
    urls = [dataset.url(file) for file in order]
    with closing(_Stream(urls, [column.name for column in dataset.columns])) as stream:
        for file, url in zip(order, urls, strict=True):
            table, expected = stream.read(url), dataset.files[file].rows
            if table.num_rows != expected:
                raise DataError(
                    f"{url} holds {table.num_rows} rows, but the manifest of {dataset.directory} says "
                    f"{expected}. {REBUILD}"
                )
            yield to_columns(table, dataset.columns, url)


class _Stream:
    """A Petastorm reader over files of one row group each, in the order given."""

    def __init__(self, urls: Sequence[str], names: Sequence[str]) -> None:
        fs, _ = fsspec.url_to_fs(urls[0])
        self._paths = [fsspec.url_to_fs(url)[1] for url in urls]
        try:
            self._reader = _reader_class()(fs, self._paths, names)
        except (pa.ArrowException, OSError) as error:
            url, reason = next(filter(None, map(_damage, urls)), (urls[0], error))
            raise _damaged(url, reason) from error

    def read(self, url: str) -> pa.Table:
        """The next file, which is `url`."""
        try:
            return next(self._reader)
        except StopIteration as error:
            raise DataError(f"the reader ended before {url}; its rows would have been lost. Report this.") from error
        except (pa.ArrowException, OSError) as error:
            raise _damaged(url, error) from error

    def close(self) -> None:
        self._reader.stop()
        self._reader.join()


@cache
def _reader_class() -> type[Any]:
    """Petastorm's Reader, made to hand out row groups in our order, all at once, and to publish Arrow tables."""
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"petastorm\.")
    warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"petastorm\.")
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"training\.data")
    logging.getLogger("petastorm").setLevel(logging.WARNING)
    from petastorm.arrow_reader_worker import ArrowReaderWorker
    from petastorm.reader import Reader
    from petastorm.workers_pool import EmptyResultError
    from petastorm.workers_pool.dummy_pool import DummyPool
    from petastorm.workers_pool.ventilator import Ventilator
    from pyarrow.filesystem import FileSystem

    class Fsspec(FileSystem):
        """Any fsspec file system as the kind of before pyarrow 15, without which pyarrow refuses Petastorm's
        options.
        """

        def __init__(self, fs: Any) -> None:
            self.isfile, self.isdir = fs.isfile, fs.isdir
            # Arrow reads a local file itself, without Python's lock.
            self.open = pa.OSFile if isinstance(fs, LocalFileSystem) else fs.open

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
                return (pq_file.read_row_group(piece.row_group, columns=list(self._schema.fields)),)

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
        """Row groups in the order of `paths`, where Petastorm sorts them by path."""

        def __init__(self, fs: Any, paths: list[str], names: Sequence[str]) -> None:
            self._paths = paths
            super().__init__(
                Fsspec(fs),
                paths,
                schema_fields=[f"^{name}$" for name in names],
                worker_class=Worker,
                reader_pool=DummyPool(),
                shuffle_row_groups=False,
                is_batched_reader=True,
            )

        def _filter_row_groups(self, dataset: Any, row_groups: Sequence[Any], *rest: Any) -> tuple[list[int], None]:
            index = {piece.path: i for i, piece in enumerate(row_groups)}
            several = sorted(path for path, n in Counter(piece.path for piece in row_groups).items() if n > 1)
            missing = sorted(set(self._paths) - set(index))
            if several or missing:
                raise DataError(
                    f"{several + missing} must hold one row group each, which is the unit that is dealt out. {REBUILD}"
                )
            return [index[path] for path in self._paths], None

        def _create_ventilator(self, row_group_indexes: Sequence[int], *rest: Any) -> AllAtOnce:
            return AllAtOnce(self._workers_pool.ventilate, row_group_indexes)

    return InOrder


def _damage(url: str) -> tuple[str, Exception] | None:
    try:
        with storage.open_binary(url) as stream:
            pq.read_metadata(stream)
    except (pa.ArrowException, OSError) as error:
        return url, error
    return None


def _damaged(url: str, reason: Exception) -> DataError:
    return DataError(f"{url} cannot be read: {reason}. {REBUILD}")
