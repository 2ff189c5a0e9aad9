"""What can be known of a log's files before Spark starts: by footers, by headers, by the first lines."""

from __future__ import annotations

import csv
import json
import logging
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from itertools import islice
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.orc as orc
import pyarrow.parquet as pq

from nightjar.features.contract import storage
from nightjar.features.contract.errors import DataError, did_you_mean
from nightjar.features.contract.spec import FeatureSpec
from nightjar.features.encoder.arrow_types import (
    as_spark_reads,
    is_categorical,
    is_categorical_list,
    is_number,
)
from nightjar.features.encoder.derived.evaluate import types_of
from nightjar.features.input.config import InputConfig
from nightjar.features.input.identity import identity_of, written
from nightjar.features.input.sides.joined import JoinedSide, side_problems, with_side_kinds
from nightjar.features.input.source_config import SourceConfig
from nightjar.features.input.text import csv_rows, lines_of

log = logging.getLogger(__name__)

# What helps where a day holds no rows, wherever in the history it is.
WITHOUT_ROWS = (
    "Write the log of that day, list it under input.empty_days if there was no traffic, or begin after it "
    "(nightly.history_from, --history-from)."
)

_THREADS = 16
_FIRST_LINES = 100
_MOMENT = pa.timestamp("us", tz="UTC")

Shape = tuple[int | None, pa.Schema]


@dataclass(frozen=True)
class FileHead:
    """A readable file at `url`. rows: None where only reading tells; schema: names and types as Spark reads them, empty
    where a text file is.

    identity: JSON values that are others when the content is.
    """

    rows: int | None
    schema: pa.Schema
    identity: list[Any]
    url: str


Known = dict[str, tuple[tuple[Any, ...], FileHead]]
"""Heads of files by URL, each with what its storage said of the file before it was read."""


def read_heads(location: str, config: SourceConfig, known: Known | None = None) -> tuple[list[FileHead], list[str]]:
    """The heads of a folder's files, or of the one file, and what is wrong with the others.

    Args:
        location: of the folder or the file.
        config: how files are read.
        known: of the same config; what is there and was not written since is not read again, and what is read is added.
    """
    urls, problems = _files_at(location, config)
    with ThreadPoolExecutor(_THREADS) as pool:
        found = list(pool.map(lambda url: _known_head(url, config, known), urls))
    problems += [failure for failure in found if isinstance(failure, str)]
    return [head for head in found if isinstance(head, FileHead)], problems


def header_of(location: str, config: SourceConfig) -> list[str]:
    """The names in the header of a folder's first csv file; none if it cannot be read, or has no header."""
    urls = _files_at(location, config)[0] if config.format == "csv" and config.is_on("header") else []
    head = _try_read_head(urls[0], config) if urls else ""
    return [] if isinstance(head, str) else list(head.schema.names)


def file_problems(
    heads: Sequence[FileHead], spec: FeatureSpec, config: InputConfig, sides: Sequence[JoinedSide] = ()
) -> Iterator[str]:
    """What is wrong with the files of one day, or of a whole table, taken together, and with what is joined to them."""
    if not heads:
        yield f"there are no {_NAMES[config.format]} files. {WITHOUT_ROWS}"
        return
    if all(head.rows == 0 for head in heads):
        yield f"the log is empty. {WITHOUT_ROWS}"
        return
    schemas = [head.schema for head in heads if len(head.schema)]
    if config.format == "json":
        first = {name for schema in schemas for name in schema.names}
        if absent := tuple(name for name in config.columns_of(spec) if name not in first):
            _warn_of_absent_keys(absent)
    yield from column_problems([schema_of(heads, config)] if config.format == "json" else schemas, spec, config, sides)


@cache
def _warn_of_absent_keys(absent: tuple[str, ...]) -> None:
    """Once for the same keys: a rare key comes late, and a misspelt one never."""
    log.warning(
        "none of the first %d lines of a day's files has the keys %s of input.columns, which the features read; where "
        "a line lacks a key, it holds null. Are they spelt as in the log?",
        *(_FIRST_LINES, list(absent)),
    )


def schema_of(heads: Sequence[FileHead], config: SourceConfig) -> pa.Schema:
    """The columns of files that have no problems: of JSON those that are declared, since a line may lack any."""
    if config.format == "json":
        return _as_spark_reads(list(config.columns), [config.arrow_type(name) for name in config.columns])
    return next(head.schema for head in heads if len(head.schema))


def column_problems(
    schemas: Sequence[pa.Schema], spec: FeatureSpec, config: InputConfig, sides: Sequence[JoinedSide] = ()
) -> Iterator[str]:
    """Columns that the spec reads and that are missing, repeated, of several types, or of one that is not allowed."""
    names = schemas[0].names
    missing = [c for c in config.columns_of(spec) if not all(c in schema.names for schema in schemas)]
    if missing:
        names = next(schema.names for schema in schemas if not all(c in schema.names for c in missing))
        brought = [name for side in config.side_tables for name in side.brought]
        hint = did_you_mean(missing, [*names, *brought]) or _separated_otherwise(names, config) or "."
        yield f"the columns {missing} are missing; the log has {names}{hint} Correct the feature spec or the log."
    repeated = [c for c in config.columns_of(spec) if any(schema.names.count(c) > 1 for schema in schemas)]
    if repeated:
        yield f"the columns {repeated} are there more than once; the log has {names}. Rename them."
    for column in (c for c in config.columns_of(spec) if c not in missing + repeated):
        types = sorted({str(schema.field(column).type) for schema in schemas})
        if len(types) > 1:
            yield f"column {column!r} has several types in one day: {types}. Write one type."
    problems = list(side_problems(schemas, sides))
    yield from problems
    if problems:
        return
    known = with_side_kinds(schemas[0], sides)
    if taken := [one.name for one in spec.derive if any(one.name in schema.names for schema in schemas)]:
        yield f"the log has the columns {taken}, which features.derive makes. Give the derived ones other names."
    derived: dict[str, pa.DataType] = {}
    try:
        if not missing + repeated:
            derived = derived_types(known, spec)
    except DataError as error:
        yield str(error)
        return
    taken += [] if derived else spec.derived_sources()
    for role, column, allowed, wanted in _requirements(spec, config):
        if column in missing + repeated + taken:
            continue
        if not allowed(kind := derived[column] if column in derived else known.field(column).type):
            remedy = "See int(...) and string(...)." if column in derived else "Cast it in the log."
            yield f"column {column!r} ({role}) has the type {kind}; it must be {wanted}. {remedy}"


def _separated_otherwise(names: Sequence[str], config: SourceConfig) -> str:
    """What to add to a message about a csv whose header is one name that holds what separates others' names."""
    found = [sep for sep in (",", ";", "\t", "|") if config.format == "csv" and len(names) == 1 and sep in names[0]]
    return f". Are they separated by {found[0]!r}? Set input.options.sep." if found else ""


def derived_types(schema: pa.Schema, spec: FeatureSpec) -> dict[str, pa.DataType]:
    """The types of the derived columns that features read. The timestamp is one by then, however it is written.

    Raises DataError if one cannot be computed of the columns' types.
    """
    odd = [name for name in spec.request_columns() if name in schema.names and _is_nanoseconds(schema.field(name).type)]
    if odd:
        raise DataError(f"the columns {odd} are in nanoseconds, which Spark does not read. Write microseconds.")
    if spec.timestamp in schema.names:
        schema = schema.set(schema.names.index(spec.timestamp), pa.field(spec.timestamp, _MOMENT))
    return types_of(schema, spec.derive, spec.derived_sources())


def types_read(schema: pa.Schema, spec: FeatureSpec, config: InputConfig) -> tuple[str, ...]:
    """The types of the columns that the spec reads."""
    made = {spec.timestamp: _MOMENT} if config.dealt_by else {}
    known = {name: schema.field(name).type for name in spec.source_columns() if schema.names.count(name) == 1} | made
    return tuple(str(known[name]) for name in spec.source_columns() if name in known)


def _files_at(location: str, config: SourceConfig) -> tuple[list[str], list[str]]:
    if storage.is_file(location):
        return [location], []
    names = [name for name in storage.list_files(location) if fnmatchcase(name.rpartition("/")[2], config.pattern)]
    deeper = [name for name in names if "/" in name]
    problem = f"files in sub-folders are not read: {deeper[:3]}. Put them into {location} itself."
    return [storage.join(location, name) for name in names if "/" not in name], [problem] if deeper else []


def _known_head(url: str, config: SourceConfig, known: Known | None) -> FileHead | str:
    """A file that goes while it is looked at is told by the attempt to read it."""
    if known is None or (moment := written(url)) is None:
        return _try_read_head(url, config)
    if url in known and known[url][0] == moment:
        return known[url][1]
    head = _try_read_head(url, config)
    if isinstance(head, FileHead):
        known[url] = moment, head
    return head


def _try_read_head(url: str, config: SourceConfig) -> FileHead | str:
    try:
        if config.is_text and url.endswith(".zip"):
            raise ValueError("Spark unpacks no zip archives; gzip, bzip2 and zstd it does")
        with storage.open_binary(url) as stream:
            identity = identity_of(stream, config.format)
            stream.seek(0)
            is_empty = config.is_text and not identity[0]
            rows, schema = _NOTHING if is_empty else _SHAPES[config.format](stream, url, config)
        return FileHead(rows, schema, identity, url)
    except (pa.ArrowException, OSError, EOFError, ValueError, csv.Error, zlib.error, zipfile.BadZipFile) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        return f"{url} is not a readable {_NAMES[config.format]} file ({reason}). Restore or remove it."


def _parquet(stream: BinaryIO, url: str, config: SourceConfig) -> Shape:
    """Two of Parquet's types are not what Arrow makes of them: INT96 is a moment, and an enumeration a string."""
    file = pq.ParquetFile(stream, coerce_int96_timestamp_unit="us")
    names, kinds = file.schema_arrow.names, list(file.schema_arrow.types)
    leaves = [file.schema.column(number) for number in range(len(file.schema.names))]
    for leaf in (leaf for leaf in leaves if leaf.path in names):
        if leaf.physical_type == "INT96":
            kinds[names.index(leaf.path)] = pa.timestamp("us", tz="UTC")
        elif leaf.logical_type.type == "ENUM":
            kinds[names.index(leaf.path)] = pa.string()
    return file.metadata.num_rows, _as_spark_reads(names, kinds)


def _orc(stream: BinaryIO, url: str, config: SourceConfig) -> Shape:
    """ORC's timestamps are in nanoseconds, which Spark reads as microseconds; it opens no file with another kind."""
    file = orc.ORCFile(stream)
    for name, kind in zip(file.schema.names, file.schema.types, strict=True):
        if pa.types.is_timestamp(kind) and kind.tz:
            raise ValueError(f"{name!r} is a `timestamp with local time zone`, which Spark cannot read")
    kinds = [pa.timestamp("us") if pa.types.is_timestamp(kind) else kind for kind in file.schema.types]
    return file.nrows, _as_spark_reads(file.schema.names, kinds)


def _as_spark_reads(names: Sequence[str], kinds: Sequence[pa.DataType]) -> pa.Schema:
    return pa.schema(list(zip(names, map(as_spark_reads, kinds), strict=True)))


def _csv(stream: BinaryIO, url: str, config: SourceConfig) -> Shape:
    """The names are the header's; without one they are the config's, and Spark counts each row's columns."""
    names = list(config.columns)
    if config.is_on("header"):
        names = next((row for _, row in csv_rows(url, config)), [])
    return _text(names, config)


def _json(stream: BinaryIO, url: str, config: SourceConfig) -> Shape:
    """The names are those in the first lines."""
    names: dict[str, None] = {}
    for number, line in enumerate(islice(filter(str.strip, lines_of(url, config)), _FIRST_LINES), 1):
        row = json.loads(line)
        if not isinstance(row, dict):
            raise ValueError(f"row {number} is not an object")
        names |= dict.fromkeys(row)
    return _text(names, config)


def _text(names: Iterable[str], config: SourceConfig) -> Shape:
    columns = list(names)
    return (None, _as_spark_reads(columns, [config.arrow_type(name) for name in columns])) if columns else _NOTHING


_NOTHING: Shape = (0, pa.schema([]))
_SHAPES: dict[str, Callable[[BinaryIO, str, SourceConfig], Shape]] = {
    "parquet": _parquet,
    "orc": _orc,
    "csv": _csv,
    "json": _json,
}
_NAMES = {"parquet": "Parquet", "orc": "ORC", "csv": "CSV", "json": "JSON"}


def _requirements(
    spec: FeatureSpec, config: InputConfig
) -> Iterator[tuple[str, str, Callable[[pa.DataType], bool], str]]:
    """(role, column, test of its type, the allowed types in words)."""
    categorical, number = "string, integral or boolean", "integral or floating"
    if isinstance(spec.label, str) or not spec.label.sql:
        for column in spec.label_columns:
            yield "label", column, is_number, f"{number} or boolean"
    if config.dealt_by:
        yield "days", config.dealt_by, is_categorical, categorical
    elif config.timestamp_format is None:
        yield "timestamp", spec.timestamp, _is_timestamp, "a timestamp in milliseconds or microseconds"
    elif config.is_epoch:
        yield "timestamp", spec.timestamp, _is_weight, f"{number}, as input.timestamp_format says"
    else:
        yield "timestamp", spec.timestamp, pa.types.is_string, "string, as input.timestamp_format says"
    for role in ("group", "request"):
        if column := getattr(spec, role):
            yield role, column, is_categorical, categorical
    for role in ("weight", "truth"):
        if column := getattr(spec, role):
            yield role, column, _is_weight, number
    for field in spec.fields:
        if field.boundaries:
            yield f"field {field.name}", field.source, is_number, f"{number} or boolean"
        elif field.split:
            yield f"field {field.name}", field.source, pa.types.is_string, "a string, which is split"
        elif field.multi_valued:
            yield f"field {field.name}", field.source, is_categorical_list, f"a list of {categorical} values"
        else:
            yield f"field {field.name}", field.source, is_categorical, categorical
    for feature in spec.dense:
        yield f"dense {feature.name}", feature.source, is_number, f"{number} or boolean"


def _is_nanoseconds(kind: pa.DataType) -> bool:
    return bool(pa.types.is_timestamp(kind) and kind.unit == "ns")


def _is_weight(kind: pa.DataType) -> bool:
    return is_number(kind) and not pa.types.is_boolean(kind)


def _is_timestamp(kind: pa.DataType) -> bool:
    # Spark does not read Parquet's nanosecond timestamps.
    return bool(pa.types.is_timestamp(kind)) and not _is_nanoseconds(kind)
