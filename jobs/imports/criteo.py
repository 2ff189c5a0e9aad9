"""Criteo's 40-column click logs to date-partitioned logs: will the ad be clicked?

Each line holds, separated by tabs, the label, 13 integers I1..I13 and 26 strings C1..C26; nothing stands for a missing
value. The lines are in the order of time, but have no time. Files become days, one after the other; a single file, as
train.txt of the Kaggle contest (seven days long), is cut into days of about as many bytes each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq

from nightjar.features.contract import storage
from nightjar.features.contract.artifact_files import part_file
from nightjar.features.contract.errors import DataError
from nightjar.features.contract.outputs import date_folder

NUMBERS = tuple(f"I{n}" for n in range(1, 14))
CATEGORIES = tuple(f"C{n}" for n in range(1, 27))
TYPES = {"label": pa.int32(), **dict.fromkeys(NUMBERS, pa.int64()), **dict.fromkeys(CATEGORIES, pa.string())}
TIMESTAMP = pa.timestamp("us", tz="UTC")
FIRST_DAY = date(2014, 6, 1)
_LARGEST_BLOCK = 64 << 20
_SMALLEST_BLOCK = 1 << 12
_BLOCKS_A_DAY = 8
_DAY_MICROS = 86_400_000_000


def read_clicks(url: str, days: int) -> Iterator[tuple[float, pa.Table]]:
    """The lines of a file in blocks, each with the number of days, of so many in the file, that are over before it.

    Raises DataError where a line has not the 40 columns, or no integers where they belong.
    """
    whole = storage.size(url)
    block = min(max(whole // (days * _BLOCKS_A_DAY), _SMALLEST_BLOCK), _LARGEST_BLOCK)
    options = csv.ReadOptions(column_names=list(TYPES), block_size=block)
    convert = csv.ConvertOptions(column_types=TYPES, null_values=[""], strings_can_be_null=True)
    parse = csv.ParseOptions(delimiter="\t", quote_char=False)
    try:
        with storage.open_binary(url) as stream:
            for n, batch in enumerate(csv.open_csv(pa.PythonFile(stream, mode="r"), options, parse, convert)):
                yield min(n * block / whole, 1.0 - 1e-9) * days, pa.Table.from_batches([batch])
    except pa.ArrowInvalid as error:
        raise DataError(f"{url} is not a click log of 40 columns: {error}. Give Criteo's files, unpacked.") from error


def write_block(output: str, number: int, over: float, rows: pa.Table) -> None:
    """One block of the log, `over` days after its beginning; its rows are a microsecond apart."""
    day = FIRST_DAY + timedelta(int(over))
    start = datetime(day.year, day.month, day.day) + timedelta(microseconds=int(over % 1 * _DAY_MICROS))
    micros = pa.array(np.datetime64(start, "us") + np.arange(len(rows)), pa.timestamp("us")).cast(TIMESTAMP)
    sink = pa.BufferOutputStream()
    pq.write_table(rows.append_column("timestamp", micros), sink, compression="zstd")
    storage.write_bytes(
        storage.join(output, part_file(date_folder(day.isoformat()), number)), sink.getvalue().to_pybytes()
    )


def import_clicks(sources: Sequence[str], output: str, days: int) -> str:
    """Write `<output>/date=*/part-*.parquet`; what was written.

    Args:
        sources: a file a day, in order; or one file of all days.
        output: folder of the logs; must not exist yet.
        days: in a single file.

    Raises DataError if a file is missing, is no click log, or if `output` is there.
    """
    for url in sources:
        if not storage.exists(url):
            raise DataError(f"there is no {url}. Give the files that Criteo's log was unpacked to.")
    if storage.exists(output):
        raise DataError(f"{output} exists already. Remove it or give another --output.")
    number, rows, days_a_file = 0, 0, days if len(sources) == 1 else 1
    for turn, url in enumerate(sources):
        for over, block in read_clicks(url, days_a_file):
            write_block(output, number, turn + over, block)
            number, rows = number + 1, rows + len(block)
    return f"{rows} rows, {FIRST_DAY} to {FIRST_DAY + timedelta(days_a_file * len(sources) - 1)}"
