"""UCI's two files of the Adult census to date-partitioned logs: does a person earn more than 50,000 dollars?

The census has no time. So that days can express its split, the rows of the training file are dealt to the days
of TRAIN_DAYS in turn, and those of the test file are the day after. A missing value, " ?", becomes a null.
"""

from __future__ import annotations

import io
from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv
import pyarrow.parquet as pq

from nightjar.features.contract import storage
from nightjar.features.contract.errors import DataError
from nightjar.features.contract.outputs import date_folder

NUMBERS = ("age", "fnlwgt", "education_num", "capital_gain", "capital_loss", "hours_per_week")
COLUMNS = (
    *("age", "workclass", "fnlwgt", "education", "education_num", "marital_status", "occupation", "relationship"),
    *("race", "sex", "capital_gain", "capital_loss", "hours_per_week", "native_country", "income"),
)
FIRST_DAY = date(1994, 1, 1)
TRAIN_DAYS = 5
TEST_DAY = FIRST_DAY + timedelta(TRAIN_DAYS)


def read_census(url: str) -> pa.Table:
    """A file of the census: its columns, `high_income` (0 or 1), and age and working hours in buckets of five.

    Raises DataError if it is not one.
    """
    lines = [line for line in storage.read_bytes(url).split(b"\n") if line.strip() and not line.startswith(b"|")]
    try:
        options = csv.ReadOptions(column_names=list(COLUMNS))
        types = csv.ConvertOptions(column_types=dict.fromkeys(COLUMNS, pa.string()))
        read = csv.read_csv(io.BytesIO(b"\n".join(lines)), options, convert_options=types)
        table = {name: pc.utf8_trim_whitespace(read[name]) for name in COLUMNS}
        table |= {name: table[name].cast(pa.int64()) for name in NUMBERS}
    except pa.ArrowInvalid as error:
        raise DataError(f"{url} is not a file of the Adult census: {error}. Give UCI's folder.") from error
    income = pc.utf8_rtrim(table.pop("income"), ".")  # the test file ends its labels with a full stop
    if unknown := sorted(set(income.unique().to_pylist()) - {"<=50K", ">50K"}):
        raise DataError(f"{url} has the labels {unknown}, not only <=50K and >50K. Give UCI's folder.")
    for name in set(table) - set(NUMBERS):
        table[name] = pc.if_else(pc.equal(table[name], "?"), pa.scalar(None, pa.string()), table[name])
    for name, source in (("age_bucket", "age"), ("hours_bucket", "hours_per_week")):
        table[name] = pc.multiply(pc.divide(table[source], 5), 5)
    return pa.table({**table, "high_income": pc.equal(income, ">50K").cast(pa.int64())})


def write_day(output: str, day: date, rows: pa.Table) -> None:
    """One day of the logs; its rows are a second apart."""
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
    times = [midnight + timedelta(seconds=second) for second in range(len(rows))]
    folder = storage.join(output, date_folder(day.isoformat()))
    storage.make_folder(folder)
    sink = io.BytesIO()
    pq.write_table(rows.append_column("timestamp", pa.array(times, pa.timestamp("us", tz="UTC"))), sink)
    storage.write_bytes(storage.join(folder, "part-0.parquet"), sink.getvalue())


def import_census(source: str, output: str) -> str:
    """Write `<output>/date=*/part-0.parquet`: five days of the training file, one of the test file; what was written.

    source: the folder with adult.data and adult.test. Raises DataError if they are not there or `output` is.
    """
    files = [storage.join(source, name) for name in ("adult.data", "adult.test")]
    for url in files:
        if not storage.exists(url):
            raise DataError(f"there is no {url}. Give the folder that the Adult census was unpacked to.")
    if storage.exists(output):
        raise DataError(f"{output} exists already. Remove it or give another --output.")
    train, test = map(read_census, files)
    for turn in range(TRAIN_DAYS):
        rows = pa.array(range(turn, len(train), TRAIN_DAYS), pa.int64())
        write_day(output, FIRST_DAY + timedelta(turn), train.take(rows))
    write_day(output, TEST_DAY, test)
    return f"train: {len(train)} rows, {FIRST_DAY} to {TEST_DAY - timedelta(1)}\ntest: {len(test)} rows, {TEST_DAY}"
