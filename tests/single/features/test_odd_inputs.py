"""Odd logs and requests, each with what becomes of it. docs/odd-inputs.md is the table of them."""

from __future__ import annotations

import bz2
import collections
import enum
import gzip
import io
import json
import re
import sqlite3
import types
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nightjar.features.contract.errors import DataError
from nightjar.features.contract.spec import FeatureSpec
from nightjar.features.encoder.encoder import EncoderState
from nightjar.features.encoder.hashing import hash_strings
from nightjar.features.encoder.ragged import Ragged
from nightjar.features.encoder.rows import hash_rows
from nightjar.features.encoder.state import FittedState
from nightjar.features.input.config import InputConfig
from nightjar.features.input.folders import check_logs
from nightjar.features.input.timestamped import logs_at

PAGE = Path(__file__).parents[3] / "docs" / "odd-inputs.md"
SPEC = FeatureSpec.model_validate(
    {
        "name": "odd",
        "label": "y",
        "timestamp": "t",
        "fields": [{"name": "user"}, {"name": "tags", "multi_valued": True}],
        "dense": [{"name": "price"}],
    }
)
STATE = FittedState(SPEC, EncoderState({}, {}), {})
NAN = float("nan")


@dataclass(frozen=True)
class Request:
    """outcome: for people. read: users, tags and prices that it is; or what its DataError says."""

    rows: Any
    outcome: str
    read: tuple[list[str | None], list[list[str]], list[float]] | str


class Colour(enum.StrEnum):
    RED = "red"


Point = collections.namedtuple("Point", ["user", "tags", "price"])


def one(user: Any = "a", tags: Any = (), price: Any = 1.0) -> list[dict[str, Any]]:
    return [{"user": user, "tags": tags, "price": price}]


def frame(user: Any, price: Any = (1.0, 2.0)) -> pd.DataFrame:
    return pd.DataFrame({"user": user, "tags": [[], []], "price": price})


def sqlite_rows() -> list[Any]:
    connection = sqlite3.connect(":memory:")
    connection.row_factory = sqlite3.Row
    return connection.execute("select 'a' as user, null as tags, 1 as price").fetchall()


A: tuple[list[str | None], list[list[str]], list[float]] = (["a"], [[]], [1.0])
TWO = [[], []]
NO_TABLE = "the request is no table of rows"
REQUESTS = {
    "NumPy scalars of every width": Request(
        one(np.int8(7), np.array(["b"]), np.float32(0.5)), "as Python's", (["7"], [["b"]], [0.5])
    ),
    "pandas' `NA` and `NaT` in mappings": Request(one(pd.NA, None, pd.NaT), "missing", ([None], [[]], [NAN])),
    "pandas' nullable integers": Request(frame(pd.array([7, None], "Int64")), "integers", (["7", None], TWO, [1, 2])),
    "pandas' categories": Request(frame(pd.Categorical(["a", None])), "their strings", (["a", None], TWO, [1, 2])),
    "ids that pandas has made floating, because one is missing": Request(
        frame([7.0, None]), "refused: `7.0` is no id", "column 'user' has the type double; a field must be"
    ),
    "a data frame with a repeated index": Request(
        frame(["a", "b"]).set_axis([0, 0]), "rows in their order", (["a", "b"], TWO, [1, 2])
    ),
    "columns that are Series with other indices": Request(
        {"user": pd.Series(["a", "b"], [5, 1]), "tags": TWO, "price": pd.Series([1.0, 2.0], [9, 8])},
        "by position",
        (["a", "b"], TWO, [1, 2]),
    ),
    "columns of a `MultiIndex`": Request(
        pd.DataFrame([[1, 2]], columns=pd.MultiIndex.from_tuples([("user", "x"), ("price", "y")])),
        "refused: the columns are lacking",
        "the rows lack the columns",
    ),
    "NumPy's masked arrays": Request(
        {"user": np.ma.array(["a", "b"], mask=[0, 1]), "tags": TWO, "price": np.ma.array([1.0, 2.0], mask=[0, 1])},
        "what is masked is missing",
        (["a", None], TWO, [1, NAN]),
    ),
    "a structured array": Request(np.array([("a", 1.0)], [("user", "U1"), ("price", "f8")]), "refused", NO_TABLE),
    "a column of two dimensions": Request(
        {"user": np.array([["a"]]), "tags": [[]], "price": [1]}, "refused", "column 'user' is ndarray; it must be one"
    ),
    "half floats": Request({"user": ["a"], "tags": [[]], "price": np.array([1.5], np.float16)}, "refused", "halffloat"),
    "chunked columns with empty chunks": Request(
        pa.table({"user": pa.chunked_array([["a"], [], ["b"]]), "tags": [["x"], []], "price": [1, 2]}),
        "one column",
        (["a", "b"], [["x"], []], [1, 2]),
    ),
    "a slice of a Table with null lists": Request(
        pa.table({"user": ["x", "a", "b"], "tags": [["x"], None, ["a", None]], "price": [0, 1, 2]}).slice(1),
        "the rows of the slice",
        (["a", "b"], [[], ["a"]], [1, 2]),
    ),
    "a null inside a dictionary": Request(
        pa.table({"user": pa.DictionaryArray.from_arrays([0, 1], pa.array(["a", None])), "tags": TWO, "price": [1, 2]}),
        "missing",
        (["a", None], TWO, [1, 2]),
    ),
    "run-end encoded columns": Request(
        pa.table({"user": pa.RunEndEncodedArray.from_arrays([2], ["a"]), "tags": TWO, "price": [1, 2]}),
        "refused",
        "column 'user' has the type run_end_encoded",
    ),
    "lists whose type is null": Request(
        pa.table({"user": ["a"], "tags": pa.array([[None]], pa.list_(pa.null())), "price": [1]}), "no values", A
    ),
    "a map for a list": Request(one(tags={"b": 1}), "refused", "column 'tags' has the type struct"),
    "tuples and sets for lists": Request(
        [*one(tags=("b", "c")), *one(tags={"d"})], "lists", (["a", "a"], [["b", "c"], ["d"]], [1, 1])
    ),
    "a string for a list": Request(one(tags="bc"), "refused", "column 'tags' has the type string"),
    "lists in lists": Request(one(tags=[["b"]]), "refused", "column 'tags' has the type list<item: string>"),
    "integers beyond 64 bits": Request(one(2**63, (), 2**64), "exact ids", ([str(2**63)], [[]], [2.0**64])),
    "integers beyond 128 bits": Request(one(price=10**40), "refused", "column 'price' mixes types, or holds"),
    "`Decimal` ids and prices": Request(one(Decimal(7), (), Decimal("1.5")), "numbers", (["7"], [[]], [1.5])),
    "a `Decimal` with a fraction for an id": Request(one(Decimal("7.5")), "refused", "'user' has the type decimal128"),
    "an enumeration of strings": Request(one(Colour.RED), "its value", (["red"], [[]], [1])),
    "bytes": Request(one(b"a"), "refused", "column 'user' has the type binary"),
    "a UUID object": Request(one(uuid.UUID(int=1)), "refused", "column 'user' mixes types, or holds what is no value"),
    "dates and times": Request(
        one(datetime(2026, 1, 1)), "refused for a field", "column 'user' has the type timestamp"
    ),
    "a complex number": Request(one(price=1 + 2j), "refused", "column 'price' mixes types, or holds what is no value"),
    "a lone surrogate": Request(one("\ud800"), "refused", "column 'user' holds a string that is not Unicode"),
    "a number written as a string": Request(one(price="1.5"), "refused", "column 'price' has the type string"),
    "`'nan'`, `'null'` and `''`": Request(
        [*one("nan"), *one("null"), *one("")], "strings like others", (["nan", "null", ""], [[], [], []], [1, 1, 1])
    ),
    "infinity": Request(one(price=np.inf), "the largest float32 once it is encoded", (["a"], [[]], [np.inf])),
    "booleans beside integers": Request([*one(True), *one(7)], "refused", "column 'user' mixes types"),
    "integers beside floats": Request([*one(), *one(price=2.5)], "numbers", (["a", "a"], TWO, [1, 2.5])),
    "`UserDict` and other mappings": Request(
        [collections.UserDict(one()[0]), types.MappingProxyType(one()[0])], "rows", (["a", "a"], TWO, [1, 1])
    ),
    "a generator of rows": Request((row for row in one()), "rows", A),
    "keys that are no strings": Request([{1: 2, **one()[0]}], "left out", A),
    "named tuples": Request([Point("a", [], 1)], "refused", NO_TABLE),
    "rows of sqlite": Request(sqlite_rows(), "refused; `dict(row)` is one", NO_TABLE),
    "JSON that was not parsed": Request(json.dumps(one()), "refused", NO_TABLE),
    "a column name in other case": Request(
        {"User": ["a"], "tags": [[]], "price": [1]}, "refused", r"the rows lack the columns \['user'\]"
    ),
}


@pytest.mark.parametrize("kind", REQUESTS)
def test_a_request_of(kind: str) -> None:
    request = REQUESTS[kind]
    if isinstance(request.read, str):
        with pytest.raises(DataError, match=request.read):
            hash_rows(STATE, request.rows)
        return
    users, tags, prices = request.read
    hashed = hash_rows(STATE, request.rows)
    assert hashed.hashes["user"].tolist() == hash_strings(users).tolist()
    lists = hashed.hashes["tags"]
    assert isinstance(lists, Ragged)
    found = [lists.values[a:b].tolist() for a, b in zip(lists.offsets, lists.offsets[1:], strict=False)]
    assert found == [hash_strings(of).tolist() for of in tags]
    np.testing.assert_array_equal(hashed.numbers["price"], prices)


NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = "2026-03-01"
ROW = b"y,t,user,tags,price\n0,2026-03-01T10:00:00Z,a,,1.5\n"
LINE = b'{"y":0,"t":"2026-03-01T10:00:00Z","user":"a","price":1.5}\n'
KINDS = {"y": "int", "t": "timestamp", "user": "string", "price": "double"}


@dataclass(frozen=True)
class Log:
    """files: of one day, by name. outcome: for people. said: what its DataError says; none if it is accepted."""

    files: Mapping[str, bytes]
    outcome: str
    said: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)


def table(order: Sequence[str] = (), **changes: Any) -> bytes:
    columns = {"y": pa.array([0, 1]), "t": pa.array([NOON] * 2), "user": ["a", "b"], "tags": TWO, "price": [1.0, 2.0]}
    columns["tags"] = pa.array(TWO, pa.list_(pa.string()))
    sink = io.BytesIO()
    made = pa.table({name: values for name, values in (columns | changes).items() if values is not None})
    pq.write_table(made.select(order or made.column_names), sink)
    return sink.getvalue()


UTF16 = {"options": {"encoding": "UTF-16"}}
LOGS = {
    "`_SUCCESS`, `.crc` and unfinished files": Log(
        {"0.parquet": table(), "_SUCCESS": b"", ".0.parquet.crc": b"x", "1.parquet.tmp": b"x"}, "left out"
    ),
    "a file of no bytes": Log(
        {"0.parquet": table(), "1.parquet": b""}, "refused by name", "1.parquet is not a readable"
    ),
    "a file that was cut off": Log({"0.parquet": table()[:-20]}, "refused by name", "0.parquet is not a readable"),
    "a CSV called `.parquet`": Log({"0.parquet": ROW}, "refused by name", "0.parquet is not a readable Parquet file"),
    "folders of hours in the day": Log({"hour=00/0.parquet": table()}, "refused", "files in sub-folders are not read"),
    "other orders of columns": Log(
        {"0.parquet": table(), "1.parquet": table(["price", "tags", "user", "t", "y"])}, "columns go by name"
    ),
    "a column that one file lacks": Log(
        {"0.parquet": table(), "1.parquet": table(price=None)}, "refused", r"the columns \['price'\] are missing"
    ),
    "int32 in one file, int64 in another": Log(
        {"0.parquet": table(y=pa.array([0, 1], pa.int32())), "1.parquet": table()},
        "refused",
        r"column 'y' has several types in one day: \['int32', 'int64'\]",
    ),
    "a column of nulls without a type": Log(
        {"0.parquet": table(user=pa.nulls(2))}, "refused: Parquet holds no type to read", "'user' .* has the type null"
    ),
    "labels as strings": Log(
        {"0.parquet": table(y=["0", "1"])}, "refused", r"column 'y' \(label\) has the type string"
    ),
    "labels as decimals": Log({"0.parquet": table(y=pa.array([Decimal(0), Decimal(1)]))}, "numbers"),
    "prices as decimals": Log({"0.parquet": table(price=pa.array([Decimal("1.25")] * 2))}, "numbers"),
    "a date for a timestamp": Log(
        {"0.parquet": table(t=pa.array([date(2026, 3, 1)] * 2))}, "refused", r"'t' \(timestamp\) has the type date32"
    ),
    "seconds for a timestamp": Log(
        {"0.parquet": table(t=[1, 2])}, "refused; `timestamp_format: epoch_s` reads them", "has the type int64"
    ),
    "binary ids": Log({"0.parquet": table(user=[b"a", b"b"])}, "refused", "'user' .* has the type binary"),
    "ids in a struct": Log({"0.parquet": table(user=[{"id": 1}] * 2)}, "refused", "'user' .* has the type struct"),
    "a space behind a column's name": Log(
        {"0.parquet": table(user=None, **{"user ": ["a", "b"]})},
        "refused, with the name",
        "Did you mean 'user ' for 'user'",
    ),
    "a column's name in other case": Log(
        {"0.parquet": table(user=None, User=["a", "b"])}, "refused, with the name", "Did you mean 'User' for 'user'"
    ),
    "CSV with a byte order mark": Log({"0.csv": b"\xef\xbb\xbf" + ROW}, "read without it"),
    "CSV with CR LF": Log({"0.csv": ROW.replace(b"\n", b"\r\n")}, "read"),
    "CSV separated by semicolons": Log(
        {"0.csv": ROW.replace(b",", b";")},
        "refused, with the option",
        "Are they separated by ';'. Set input.options.sep",
    ),
    "CSV with a space before each name": Log(
        {"0.csv": b"y, t, user, tags, price\n"}, "refused, with the names", "Did you mean ' t' for 't'"
    ),
    "CSV that names a read column twice": Log(
        {"0.csv": b"y,t,user,tags,price,user\n"}, "refused", r"the columns \['user'\] are there more than once"
    ),
    "CSV that names an unread column twice": Log({"0.csv": b"y,t,user,tags,price,x,x\n"}, "read"),
    "CSV in UTF-16": Log({"0.csv": ROW.decode().encode("utf-16")}, "read with `encoding: UTF-16`", "", UTF16),
    "CSV in UTF-16 that does not say so": Log(
        {"0.csv": ROW.decode().encode("utf-16")}, "refused", "0.csv is not a readable CSV file .'utf-8' codec"
    ),
    "CSV in gzip or bzip2": Log({"0.csv.gz": gzip.compress(ROW), "1.csv.bz2": bz2.compress(ROW)}, "unpacked"),
    "`.gz` that is not packed": Log({"0.csv.gz": ROW}, "refused", "Not a gzipped file"),
    "CSV in a zip archive": Log({"0.csv.zip": b"PK\x03\x04"}, "refused", "Spark unpacks no zip archives"),
    "an empty CSV beside others": Log({"0.csv": ROW, "1.csv": b""}, "no rows of it"),
    "JSON as one array": Log({"0.json": b"[" + LINE.strip() + b"]"}, "refused", "row 1 is not an object"),
    "JSON over several lines": Log({"0.json": json.dumps(json.loads(LINE), indent=1).encode()}, "refused", "line 2"),
    "JSON with blank lines": Log({"0.json": b"\n\n" + LINE + b"\n"}, "read"),
    "JSON whose last line was cut off": Log({"0.json": LINE + LINE[:20]}, "refused", "Unterminated string"),
}


@pytest.mark.parametrize("kind", LOGS)
def test_a_log_of(kind: str, tmp_path: Path) -> None:
    log = LOGS[kind]
    for name, content in log.files.items():
        path = tmp_path / f"date={DAY}" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    form = next(form for form in ("parquet", "csv", "json") if f".{form}" in next(iter(log.files)))
    lists = {"tags": "array<string>"} if form == "json" else {"tags": "string"}
    text = {} if form == "parquet" else {"columns": {**KINDS, **lists}}
    spec = SPEC
    if form == "csv":
        split = [{"name": "user"}, {"name": "tags", "multi_valued": True, "split": "|"}]
        spec = FeatureSpec.model_validate({**SPEC.model_dump(exclude_defaults=True), "fields": split})
    config = InputConfig.model_validate({"format": form, **text, **log.options})
    logs = logs_at(config, str(tmp_path), lambda: pytest.fail("Spark was started"))
    if log.said:
        with pytest.raises(DataError, match=log.said):
            check_logs(logs, [DAY], spec)
    else:
        assert [day.date for day in check_logs(logs, [DAY], spec)] == [DAY]


def test_the_page_is_the_table_of_these() -> None:
    listed = re.findall(r"^\| (.+?) \| (.+?) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    wanted = [(kind, odd.outcome) for odds in (LOGS, REQUESTS) for kind, odd in odds.items()]
    assert [row for row in listed if row[0] not in ("a log with", "a request with")] == wanted
