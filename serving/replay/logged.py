"""The request log, read back: batches of rows that one model with one state of counters answered."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import TypeAdapter

from nightjar.features.contract.errors import DataError
from nightjar.features.contract.strict import FileName, Version
from nightjar.features.contract.verified import parsing
from nightjar.serving.raw_values import Row, from_json, kind_of
from nightjar.serving.request_log import PREFIX, SCHEMA, SUFFIX

# Of directories below a registry.
_MODEL: TypeAdapter[tuple[str, str | None]] = TypeAdapter(tuple[Version, FileName | None])


@dataclass(frozen=True)
class Model:
    """What answered. counters: None for those that the version was packed with; as_of: the day that they are for."""

    version: str
    counters: str | None
    as_of: str | None

    def __str__(self) -> str:
        of = f" with the counters {self.counters}" if self.counters else ""
        return f"{self.version}{of}{f' as of {self.as_of}' if self.as_of else ''}"


@dataclass(frozen=True)
class Batch:
    """Rows of one model, all of the same types. scores: float32[rows], NaN where refused, for the reason in errors."""

    model: Model
    rows: list[Row]
    scores: np.ndarray
    requests: list[str]
    at: list[datetime]
    errors: list[str | None]


def read_log(path: str) -> Iterator[Batch]:
    """Batches of a folder's files, or of one file. Raises DataError if there are none or one is damaged."""
    files = [path] if os.path.isfile(path) else _files(path)
    for file in files:
        try:
            table = pq.read_table(file)
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{file} is not a readable request log: {error}. Restore or remove it.") from error
        if table.schema.names != SCHEMA.names:
            raise DataError(f"{file} is no request log; its columns are {table.schema.names}.")
        with parsing(file):
            batches = list(_batches(table))
        yield from batches


def _files(path: str) -> list[str]:
    names = sorted(os.listdir(path)) if os.path.isdir(path) else []
    files = [os.path.join(path, name) for name in names if name.startswith(PREFIX) and name.endswith(SUFFIX)]
    if not files:
        raise DataError(f"{path} holds no request log: no file is called {PREFIX}…{SUFFIX}.")
    return files


def _batches(table: pa.Table) -> Iterator[Batch]:
    rows = [from_json(text) for text in table.column("raw").to_pylist()]
    names = {name: table.column(name).to_pylist() for name in ("request", "version", "counters", "as_of", "error")}
    scores = table.column("score").to_numpy().astype(np.float32)
    at = table.column("at").to_pylist()
    # A request's own types: what one request brings as a number another may bring as text.
    kinds: dict[str, dict[str, str]] = defaultdict(dict)
    for request, row in zip(names["request"], rows, strict=True):
        of_request = kinds[request]
        for column, value in row.items():
            kind = kind_of(value)
            if kind != "missing" and of_request.get(column) != kind:
                of_request[column] = f"{of_request[column]}, {kind}" if column in of_request else kind
    alike: dict[tuple[Model, bool, tuple[tuple[str, str], ...]], list[int]] = defaultdict(list)
    signatures = {request: tuple(sorted(of.items())) for request, of in kinds.items()}
    for n, request in enumerate(names["request"]):
        model = Model(*_MODEL.validate_python((names["version"][n], names["counters"][n])), names["as_of"][n])
        alike[model, names["error"][n] is None, signatures.get(request, ())].append(n)
    for (model, *_), places in alike.items():
        yield Batch(
            model,
            [rows[n] for n in places],
            scores[places],
            [names["request"][n] for n in places],
            [at[n] for n in places],
            [names["error"][n] for n in places],
        )
