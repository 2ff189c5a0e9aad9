"""Where a log's files are, of which format and of which days, and a bounded, even sample of each file's rows."""

from __future__ import annotations

import csv
import io
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.json
import pyarrow.orc
import pyarrow.parquet as pq

from nightjar.features.contract import storage
from nightjar.features.contract.errors import DataError

_DATE_FOLDER = re.compile(r"date=(\d{4}-\d{2}-\d{2})")
_FORMATS = {
    ".parquet": "parquet",
    ".orc": "orc",
    ".csv": "csv",
    ".tsv": "csv",
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
}
_PACKED = (".gz", ".bz2", ".xz", ".zst")
_SEPARATORS = ",;\t|"
# Row groups of a file that are read: evenly spaced, so that a file sorted by time or by user is seen from end to end.
_ROW_GROUPS = 4


@dataclass(frozen=True)
class LogFiles:
    """The files of a log.

    days: URLs by date where the days are folders, else all of them under "". format: parquet, orc, csv or json.
    separator: of a csv.
    """

    location: str
    format: str
    days: dict[str, list[str]]
    separator: str = ","

    @property
    def in_folders(self) -> bool:
        """True if a day is a `date=` folder."""
        return "" not in self.days


@dataclass(frozen=True)
class FileSample:
    """Rows of one file. rows: how many the file has."""

    rows: int
    table: pa.Table


def find_files(location: str) -> LogFiles:
    """Look a folder or a file up. Raises DataError if there is no log in it that Nightjar reads from files."""
    if not storage.exists(location):
        raise DataError(f"there is no {location}. Give --logs the folder of the logs.")
    dates = [match[1] for name in storage.list_folders(location) if (match := _DATE_FOLDER.fullmatch(name))]
    if dates:
        folders = {date: storage.join(location, f"date={date}") for date in dates}
        days = {date: [storage.join(url, name) for name in _names_in(url)] for date, url in folders.items()}
    elif storage.is_file(location):
        days = {"": [location]}
    else:
        days = {"": [storage.join(location, name) for name in _names_in(location)]}
    formats = {url: _format_of(url) for urls in days.values() for url in urls}
    known = sorted({form for form in formats.values() if form})
    if not known:
        raise DataError(
            f"{location} holds neither date=YYYY-MM-DD folders nor files that end in one of {sorted(_FORMATS)} "
            f"(text may be packed: {', '.join(_PACKED)}). Give --logs the folder of the logs."
        )
    if len(known) > 1:
        raise DataError(f"{location} holds files of several formats: {known}. Give --logs a folder of one.")
    days = {date: kept for date, urls in days.items() if (kept := [url for url in urls if formats[url]])}
    separator = _separator_of(next(iter(days.values()))[0]) if known == ["csv"] else ","
    return LogFiles(location, known[0], days, separator)


def read_file(url: str, files: LogFiles, wanted: int) -> FileSample:
    """About `wanted` rows of a file, evenly spaced, or all of fewer; text files hold strings where not JSON says more.

    Raises DataError for a file that cannot be read.
    """
    try:
        if files.format == "parquet":
            with storage.open_binary(url) as stream:
                return _sample_parquet(pq.ParquetFile(stream), wanted)
        if files.format == "orc":
            with storage.open_binary(url) as stream:
                return _sample_orc(pa.orc.ORCFile(stream), wanted)
        return _sample_text(url, files, wanted)
    except (pa.ArrowException, OSError, EOFError, ValueError, csv.Error) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise DataError(f"{url} cannot be read as {files.format} ({reason}). Restore or remove it.") from error


def evenly(count: int, wanted: int) -> np.ndarray:
    """At most `wanted` positions of `count`, evenly spaced, ascending: int64."""
    return np.unique(np.linspace(0, count - 1, min(count, wanted)).astype(np.int64)) if count else np.empty(0, np.int64)


def _names_in(folder: str) -> list[str]:
    """A day reads the files of its folder itself, and none below."""
    return [name for name in storage.list_files(folder) if "/" not in name]


def _format_of(url: str) -> str | None:
    name = url.rpartition("/")[2].lower()
    packed = next((suffix for suffix in _PACKED if name.endswith(suffix)), "")
    form = next((form for suffix, form in _FORMATS.items() if name.removesuffix(packed).endswith(suffix)), None)
    return None if packed and form in ("parquet", "orc") else form


def _separator_of(url: str) -> str:
    with storage.open_unpacked(url) as stream:
        header = io.TextIOWrapper(stream, "utf-8-sig").readline()
    return max(_SEPARATORS, key=header.count)


def _sample_parquet(file: pq.ParquetFile, wanted: int) -> FileSample:
    sizes = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
    groups = evenly(len(sizes), _ROW_GROUPS).tolist()
    # Spread over the chosen groups in proportion to their rows.
    share = min(1.0, wanted / max(sum(sizes[i] for i in groups), 1))
    parts = [file.read_row_group(i).take(evenly(sizes[i], round(share * sizes[i]))) for i in groups]
    return FileSample(sum(sizes), pa.concat_tables(parts) if parts else file.schema_arrow.empty_table())


def _sample_orc(file: pa.orc.ORCFile, wanted: int) -> FileSample:
    stripes = [file.read_stripe(int(i)) for i in evenly(file.nstripes, _ROW_GROUPS)]
    if not stripes:
        return FileSample(0, file.schema.empty_table())
    read = pa.Table.from_batches(stripes)
    # ORC's timestamps are in nanoseconds, which Spark reads as microseconds.
    kinds = [(f.name, pa.timestamp("us") if pa.types.is_timestamp(f.type) else f.type) for f in read.schema]
    return FileSample(file.nrows, read.take(evenly(len(read), wanted)).cast(pa.schema(kinds), safe=False))


def _sample_text(url: str, files: LogFiles, wanted: int) -> FileSample:
    """Reservoir sampling (Vitter 1985, algorithm R) over the lines: the file is read once, and few are held."""
    draw = random.Random(0)
    held: list[tuple[int, str]] = []
    rows, header = 0, ""
    with storage.open_unpacked(url) as stream:
        for line in io.TextIOWrapper(stream, "utf-8-sig", newline=None):
            if not line.strip():
                continue
            if files.format == "csv" and not header:
                header = line
                continue
            if rows < wanted:
                held.append((rows, line))
            elif (place := draw.randint(0, rows)) < wanted:
                held[place] = (rows, line)
            rows += 1
    lines = [line for _, line in sorted(held)]
    return FileSample(rows, _parse_csv(header, lines, files.separator) if files.format == "csv" else _parse_json(lines))


def _parse_csv(header: str, lines: Sequence[str], separator: str) -> pa.Table:
    names, *rows = csv.reader([header, *lines], delimiter=separator)
    if odd := next((row for row in rows if len(row) != len(names)), None):
        raise ValueError(f"a row has {len(odd)} columns, the header {len(names)}: {odd[:3]}")
    columns = list(zip(*rows, strict=True)) or [()] * len(names)
    return pa.table({n: pa.array([x or None for x in c], pa.string()) for n, c in zip(names, columns, strict=True)})


def _parse_json(lines: Sequence[str]) -> pa.Table:
    if not lines:
        return pa.table({})
    # One block: Arrow settles a column's type by the block that it is first seen in.
    content = "".join(line if line.endswith("\n") else f"{line}\n" for line in lines).encode()
    options = pa.json.ReadOptions(use_threads=False, block_size=len(content) + 1)
    return pa.json.read_json(io.BytesIO(content), options)
