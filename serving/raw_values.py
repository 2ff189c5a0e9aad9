"""Raw rows of a request as JSON and back: types, missing values and absent columns stay apart.

A row is an object of the columns that it brought. What JSON lacks is an object of one key: `{"$float": "nan"}`,
`$bytes` in hexadecimal, `$Decimal`, `$date`, `$datetime`; any other value as text under the name of its type.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa

from nightjar.features.encoder.requests import InContext

Row = dict[str, Any]
_PLAIN = (str, int, bool, type(None))
_MISSING_OF_PANDAS = ("NAType", "NaTType")
_KINDS = {
    str: "string",
    bytes: "string",
    bool: "boolean",
    int: "integer",
    Decimal: "number",
    type(None): "missing",
}
_READ: Mapping[str, Callable[[str], Any]] = {
    "$float": float,
    "$bytes": bytes.fromhex,
    "$Decimal": Decimal,
    "$date": date.fromisoformat,
    "$datetime": datetime.fromisoformat,
}


def kept(rows: Any) -> Any:
    """What holds the rows as they are now, whatever their owner does with them later. Arrow's are never changed."""
    if isinstance(rows, InContext):
        return InContext(kept(rows.context), kept(rows.candidates))
    if isinstance(rows, pa.Table | pa.RecordBatch):
        return rows
    if isinstance(rows, Mapping):
        return {name: _own(values) for name, values in rows.items()}
    if hasattr(rows, "columns"):
        return rows.copy()
    if hasattr(rows, "to_dict"):  # a pandas Series is a row
        return rows.to_dict()
    if isinstance(rows, Sequence):
        return [{name: _own(value) for name, value in row.items()} for row in rows]
    raise TypeError(f"rows of the type {type(rows).__name__} cannot be read twice")


def to_rows(rows: Any) -> list[Row]:
    """Rows of every shape that a model scores, one mapping a row; a column that a row lacks is not in its mapping."""
    if isinstance(rows, InContext):
        return [{**rows.context, **row} for row in to_rows(rows.candidates)]
    if isinstance(rows, pa.Table | pa.RecordBatch):
        return _transposed({name: _of_arrow(rows.column(name)) for name in rows.schema.names})
    if isinstance(rows, Mapping) and any(_is_one_value(value) for value in rows.values()):
        return [dict(rows)]
    if isinstance(rows, Mapping) or hasattr(rows, "columns"):
        return _transposed({name: _listed(rows[name]) for name in rows})
    return [dict(row) for row in rows]


def first_value(rows: Any, name: str) -> Any:
    """What the first row has in a column; None where it is missing."""
    if isinstance(rows, InContext):
        return rows.context[name] if name in rows.context else first_value(rows.candidates, name)
    if isinstance(rows, pa.Table | pa.RecordBatch):
        return rows.column(name)[0].as_py() if name in rows.schema.names and rows.num_rows else None
    if isinstance(rows, Mapping) or hasattr(rows, "columns"):
        values: Any = rows[name] if name in list(rows) else None
        return values if _is_one_value(values) else next(iter(values), None)
    return rows[0].get(name) if len(rows) else None


def to_json(row: Mapping[str, Any]) -> str:
    """A row as JSON, in ASCII."""
    return json.dumps({str(name): _written(value) for name, value in row.items()}, separators=(",", ":"))


def from_json(text: str) -> Row:
    """The inverse of `to_json`."""
    row: Row = json.loads(text)
    for name, value in row.items():
        if isinstance(value, dict | list):
            row[name] = _read(value)
    return row


def kind_of(value: Any) -> str:
    """The type of a raw value in words, that of a list by its first value; `missing` for null and NaN."""
    if type(value) in _KINDS:
        return _KINDS[type(value)]
    if isinstance(value, float):
        return "missing" if math.isnan(value) else "number"
    if isinstance(value, list):
        return f"list of {next((kind for v in value if (kind := kind_of(v)) != 'missing'), 'nothing')}"
    return type(value).__name__


def _own(value: Any) -> Any:
    return value.copy() if hasattr(value, "copy") else value


def _is_one_value(value: Any) -> bool:
    return isinstance(value, str | bytes) or not hasattr(value, "__len__")


def _listed(values: Any) -> list[Any]:
    if isinstance(values, pa.Array | pa.ChunkedArray):
        return _of_arrow(values)
    return values.tolist() if hasattr(values, "tolist") else list(values)


def _of_arrow(column: pa.Array | pa.ChunkedArray) -> list[Any]:
    try:
        return column.to_pylist()
    except UnicodeDecodeError:  # a log's odd bytes
        return column.cast(pa.binary()).to_pylist()


def _transposed(columns: Mapping[str, list[Any]]) -> list[Row]:
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _written(value: Any) -> Any:
    if type(value) in _PLAIN:
        return value
    if isinstance(value, float):
        value = float(value)
        return value if math.isfinite(value) else {"$float": str(value)}
    if isinstance(value, list | tuple | set | frozenset):
        return [_written(item) for item in value]
    if hasattr(value, "tolist"):  # NumPy's arrays and scalars
        return _written(value.tolist())
    kind = type(value).__name__
    if kind in _MISSING_OF_PANDAS:
        return None
    if isinstance(value, bytes):
        return {"$bytes": value.hex()}
    if isinstance(value, date):
        return {"$datetime" if isinstance(value, datetime) else "$date": value.isoformat()}
    return {f"${kind}": str(value)}


def _read(value: Any) -> Any:
    if isinstance(value, list):
        return [_read(item) if isinstance(item, dict | list) else item for item in value]
    ((tag, text),) = value.items() if len(value) == 1 else (("", ""),)
    return _READ[tag](text) if tag in _READ else value
