"""Impression logs: `<root>/date=YYYY-MM-DD/*.parquet`, checked by their footers before Spark starts."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession

from features import storage
from features.errors import DataError, UsageError
from features.spec import FeatureSpec, digest
from features.tables import day_of_file, for_spark

DAY = "row:day"

_DATE = "date="
_DATE_FOLDER = re.compile(r"date=\d{4}-\d{2}-\d{2}")
_TAIL = 1 << 16
_THREADS = 16

_is_integer = pa.types.is_integer
_is_boolean = pa.types.is_boolean


@dataclass(frozen=True)
class LogPartition:
    """One day of the log, checked.

    types: of the columns that the spec reads. fingerprint: stands for the day's rows, see `_try_read_footer`.
    """

    date: str
    url: str
    rows: int
    types: tuple[str, ...]
    fingerprint: str


@dataclass(frozen=True)
class _Footer:
    rows: int
    schema: pa.Schema
    size: int
    tail_sha256: str
    modified: float


def dates_between(first: str, last: str) -> list[str]:
    """Every date from `first` through `last`, as YYYY-MM-DD. Raises UsageError on a malformed range."""
    try:
        start, end = date.fromisoformat(first), date.fromisoformat(last)
    except ValueError as error:
        raise UsageError(
            f"{first!r} to {last!r} is not a range of dates: {error}. Write dates as YYYY-MM-DD."
        ) from error
    if end < start:
        raise UsageError(f"the range of dates {first} to {last} is empty: it ends before it starts.")
    return [(start + timedelta(days=n)).isoformat() for n in range((end - start).days + 1)]


def first_logged_date(root: str) -> str:
    """The first day in the logs, as YYYY-MM-DD. Raises DataError if there is none."""
    dates = [name.removeprefix(_DATE) for name in storage.list_folders(root) if _DATE_FOLDER.fullmatch(name)]
    if not dates:
        raise DataError(f"{root} holds no {_DATE}YYYY-MM-DD folder. Give the folder of date-partitioned logs.")
    return min(dates)


def day_after(day: str) -> str:
    """The next date."""
    return (date.fromisoformat(day) + timedelta(days=1)).isoformat()


def day_number(day: str) -> int:
    """Days since 1970-01-01."""
    return (date.fromisoformat(day) - date(1970, 1, 1)).days


def check_logs(root: str, dates: Sequence[str], spec: FeatureSpec) -> list[LogPartition]:
    """Check that every date has rows and every column that `spec` reads, with a type that it allows.

    Reads Parquet footers only, no Spark. Raises one DataError that lists every problem.
    """
    problems: dict[str, list[str]] = defaultdict(list)
    partitions = []
    with ThreadPoolExecutor(_THREADS) as pool:
        for day in dates:
            folder = storage.join(root, _DATE + day)
            files = storage.list_files(folder, ".parquet")
            footers = list(pool.map(_try_read_footer, [storage.join(folder, name) for name in files]))
            good = [footer for footer in footers if isinstance(footer, _Footer)]
            for failure in (footer for footer in footers if isinstance(footer, str)):
                problems[failure].append(day)
            if len(good) == len(files):
                for problem in _partition_problems(good, spec):
                    problems[problem].append(day)
            partitions.append(
                LogPartition(
                    date=day,
                    url=folder,
                    rows=sum(footer.rows for footer in good),
                    types=_types(good, spec),
                    fingerprint=digest(sorted([footer.size, footer.tail_sha256, footer.modified] for footer in good)),
                )
            )
    if problems:
        lines = [f"  {_dates(days)}: {problem}" for problem, days in problems.items()]
        raise DataError(f"the logs in {root} have {len(lines)} problem(s):\n" + "\n".join(lines))
    return partitions


def read_logs(spark: SparkSession, partitions: Sequence[LogPartition]) -> list[DataFrame]:
    """Raw rows of several days with their `DAY` (int, days since 1970-01-01): one table a set of types."""
    by_types: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for partition in partitions:
        by_types[partition.types].append(for_spark(partition.url))
    reader = spark.read.option("pathGlobFilter", "*.parquet")
    return [reader.parquet(*urls).withColumn(DAY, day_of_file()) for urls in by_types.values()]


def _try_read_footer(url: str) -> _Footer | str:
    """The footer, or what is wrong with the file.

    A file is known by its size, the time it was written and its last 64 KiB, which hold the footer: a short read
    whatever the size of the log, and a rewritten file counts as another one even where its footer is the same. Spark's
    random names are left out.
    """
    try:
        with storage.open_binary(url) as stream:
            size = stream.seek(0, 2)
            stream.seek(max(size - _TAIL, 0))
            tail = hashlib.sha256(stream.read()).hexdigest()
            stream.seek(0)
            parquet = pq.ParquetFile(stream)
            return _Footer(parquet.metadata.num_rows, parquet.schema_arrow, size, tail, storage.modified(url))
    except (pa.ArrowInvalid, OSError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        return f"{url} is not a readable Parquet file ({reason}). Restore or remove it."


def _types(footers: Sequence[_Footer], spec: FeatureSpec) -> tuple[str, ...]:
    schemas = [footer.schema for footer in footers[:1]]
    return tuple(str(schema.field(c).type) for schema in schemas for c in spec.source_columns() if c in schema.names)


def _partition_problems(footers: Sequence[_Footer], spec: FeatureSpec) -> Iterator[str]:
    if not footers:
        yield "there are no Parquet files. Write the log of that day, or choose other dates."
        return
    if not any(footer.rows for footer in footers):
        yield "the log is empty. Write the log of that day, or choose other dates."
    names = footers[0].schema.names
    missing = [c for c in spec.source_columns() if not all(c in footer.schema.names for footer in footers)]
    if missing:
        yield f"the columns {missing} are missing; the log has {names}. Correct the feature spec or the log."
    for column in (c for c in spec.source_columns() if c not in missing):
        types = sorted({str(footer.schema.field(column).type) for footer in footers})
        if len(types) > 1:
            yield f"column {column!r} has several types in one day: {types}. Write one type."
    for role, column, allowed, wanted in _requirements(spec):
        if column not in missing and not allowed(kind := footers[0].schema.field(column).type):
            yield f"column {column!r} ({role}) has the type {kind}; it must be {wanted}. Cast it in the log."


def _requirements(spec: FeatureSpec) -> Iterator[tuple[str, str, Callable[[pa.DataType], bool], str]]:
    """(role, column, test of its type, the allowed types in words)."""
    categorical = "string, integral or boolean"
    number = "integral or floating"
    yield (
        "label",
        spec.label,
        lambda t: _is_integer(t) or _is_boolean(t) or _is_float(t),
        f"{number} or boolean",
    )
    yield "timestamp", spec.timestamp, _is_timestamp, "a timestamp in milliseconds or microseconds"
    for role in ("group", "request"):
        if column := getattr(spec, role):
            yield role, column, _is_categorical, categorical
    for role in ("weight", "truth"):
        if column := getattr(spec, role):
            yield role, column, lambda t: _is_integer(t) or _is_float(t), number
    for field in spec.fields:
        if field.multi_valued:
            yield f"field {field.name}", field.source, _is_categorical_list, f"a list of {categorical} values"
        else:
            yield f"field {field.name}", field.source, _is_categorical, categorical
    for feature in spec.dense:
        yield f"dense {feature.name}", feature.source, _is_dense, f"{number} or boolean"


def _is_float(kind: pa.DataType) -> bool:
    return bool(pa.types.is_float32(kind) or pa.types.is_float64(kind))


def _is_dense(kind: pa.DataType) -> bool:
    return bool(_is_integer(kind) or _is_boolean(kind) or _is_float(kind))


def _is_timestamp(kind: pa.DataType) -> bool:
    # Spark does not read Parquet's nanosecond timestamps.
    return bool(pa.types.is_timestamp(kind) and kind.unit != "ns")


def _is_categorical(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or _is_integer(kind) or _is_boolean(kind))


def _is_categorical_list(kind: pa.DataType) -> bool:
    return bool((pa.types.is_list(kind) or pa.types.is_large_list(kind)) and _is_categorical(kind.value_type))


def _dates(days: Sequence[str]) -> str:
    shown = ", ".join(days[:3])
    return f"date {shown}" if len(days) <= 3 else f"date {shown} and {len(days) - 3} more"
