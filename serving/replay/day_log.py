"""The rows of a day's log that requests brought, found by their key. Parquet in date folders, read without Spark."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import pyarrow as pa
import pyarrow.parquet as pq

from nightjar.features.contract import storage
from nightjar.features.contract.errors import DataError
from nightjar.features.contract.outputs import date_folder
from nightjar.serving.raw_values import Row, to_rows
from nightjar.serving.replay.hypotheses import text_of
from nightjar.serving.replay.skew import Joined, known

log = logging.getLogger(__name__)


def join(logs: str, days: Iterable[str], rows: Sequence[Row], key: Sequence[str], columns: Sequence[str]) -> Joined:
    """The rows that are in the log of one of the days, beside what the log has, in the order of `rows`.

    Args:
        logs: folder of date=YYYY-MM-DD folders of Parquet files.
        days: to look at.
        rows: as requests brought them.
        key: columns that name an impression in both; their types may differ.
        columns: that features read. The log must have them.

    Raises DataError if the log or a column is not there, or the key names several rows of the log.
    """
    lacking = sorted({name for name in key if not any(name in row for row in rows)})
    if lacking:
        raise DataError(f"no request brings {lacking}. Give --key columns that requests and the log have.")
    wanted = {_named(row, key) for row in rows}
    found: dict[tuple[str, ...], Row] = {}
    read = [*key, *(column for column in columns if column not in key)]
    for url in (url for day in sorted(set(days)) for url in _files(logs, day)):
        for row in _read(url, read):
            name = _named(row, key)
            if name in wanted and found.setdefault(name, row) is not row:
                raise DataError(
                    f"the key {list(key)} names several rows of the log, such as {name}. Give more columns."
                )
    both = [(found[name], row) for row in rows if (name := _named(row, key)) in found]
    return Joined([logged for logged, _ in both], [served for _, served in both])


def columns_of(logs: str, days: Iterable[str], columns: Sequence[str]) -> list[str]:
    """Those of the columns that the log of some days has; a warning tells the others, which side tables may bring.

    Raises DataError if the log is not there, or has none of them.
    """
    there = [_schema(url).names for day in sorted(set(days)) for url in _files(logs, day)]
    found = [name for name in columns if all(name in names for names in there)]
    if not found:
        raise DataError(f"the log in {logs} has none of the columns {list(columns)}, which features read.")
    if lacking := [name for name in columns if name not in found]:
        log.warning("the log in %s has no columns %s: they are not compared", logs, lacking)
    return found


def _schema(url: str) -> pa.Schema:
    with storage.open_binary(url) as stream:
        try:
            return pq.read_schema(stream)
        except pa.ArrowException as error:
            raise DataError(f"{url} is not a readable Parquet file: {error}. Restore or remove it.") from error


def _named(row: Row, key: Sequence[str]) -> tuple[str, ...]:
    return tuple("" if known(value) is None else text_of(value) for value in map(row.get, key))


def some_rows(logs: str, days: Iterable[str], columns: Sequence[str], rows: int) -> list[Row]:
    """About so many rows of the log of some days, from the beginning of each file. Raises DataError as `join` does."""
    urls = [url for day in sorted(set(days)) for url in _files(logs, day)]
    return [row for url in urls for row in islice(_read(url, columns), -(-rows // len(urls)))]


def _files(logs: str, day: str) -> list[str]:
    folder = storage.join(logs, date_folder(day))
    files = storage.list_files(folder, ".parquet")
    if not files:
        raise DataError(f"{folder} holds no Parquet file. Give --logs the folder of date-partitioned logs.")
    return [storage.join(folder, file) for file in files]


def _read(url: str, columns: Sequence[str]) -> Iterator[Row]:
    with storage.open_binary(url) as stream:
        try:
            parquet = pq.ParquetFile(stream)
            lacking = sorted(set(columns) - set(parquet.schema_arrow.names))
            if lacking:
                raise DataError(f"{url} lacks the columns {lacking}; it has {parquet.schema_arrow.names}.")
            for batch in parquet.iter_batches(columns=list(columns)):
                yield from to_rows(batch)
        except pa.ArrowException as error:
            raise DataError(f"{url} is not a readable Parquet file: {error}. Restore or remove it.") from error
