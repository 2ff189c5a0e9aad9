"""What a look at the sample tells of each column: kind, missing values, distinct values, lists.

Shapes: R rows; V values, of which a list gives a row several.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

Kind = Literal["boolean", "integer", "number", "string", "list", "timestamp", "other"]

# Words of a column's name: userId, user_id and USER-ID have the same two.
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")


@dataclass(frozen=True, eq=False)
class LoggedColumn:
    """A column of the sample.

    row_V: the row of each value; code_V: the value as a number in [0, codes), 0 for missing where the column is no
    list. number_R: float64, NaN where missing; of numbers and booleans only. mean_length: of lists.
    mean_words: of strings.
    """

    name: str
    type: pa.DataType
    kind: Kind
    rows: int
    missing: int
    distinct: int
    row_V: np.ndarray
    code_V: np.ndarray
    number_R: np.ndarray | None
    mean_length: float
    mean_words: float

    @property
    def codes(self) -> int:
        """How many codes there are."""
        return self.distinct + 1

    @property
    def present(self) -> int:
        """Rows with a value."""
        return self.rows - self.missing

    @property
    def is_constant(self) -> bool:
        """True if no two rows differ."""
        return (self.distinct + bool(self.missing) <= 1 and self.kind != "list") or self.distinct == 0

    @property
    def is_categorical(self) -> bool:
        """True if Nightjar can take its values as they are for those of a field."""
        return self.kind in ("boolean", "integer", "string", "list")

    @cached_property
    def words(self) -> tuple[str, ...]:
        """The words of its name, in lower case."""
        return tuple(word.lower() for word in _WORDS.findall(self.name))

    @property
    def figures(self) -> str:
        """For a comment: distinct values, missing rows, length of lists."""
        said = [f"{self.distinct:,} value{'s' * (self.distinct != 1)}"]
        if self.kind == "list":
            said.append(f"{self.mean_length:.1f} a row")
        if self.missing:
            said.append(f"{percent(self.missing / self.rows)} missing")
        return ", ".join(said)


def look_at(table: pa.Table) -> dict[str, LoggedColumn]:
    """Every column by name, in the table's order; of names that are there twice the first."""
    names = list(dict.fromkeys(table.column_names))
    return {name: _column(name, table.column(table.column_names.index(name)).combine_chunks()) for name in names}


def percent(share: float) -> str:
    """A share for people: 3 %, 0.4 %."""
    return f"{100 * share:.0f} %" if share >= 0.01 or share == 0 else f"{100 * share:.1g} %"


def _kind(kind: pa.DataType) -> Kind:
    types = pa.types
    if types.is_dictionary(kind):
        return _kind(kind.value_type)
    if types.is_list(kind) or types.is_large_list(kind):
        return "list" if _kind(kind.value_type) in ("boolean", "integer", "string") else "other"
    if types.is_boolean(kind):
        return "boolean"
    if types.is_integer(kind):
        return "integer"
    if types.is_float32(kind) or types.is_float64(kind):
        return "number"
    if types.is_string(kind) or types.is_large_string(kind):
        return "string"
    return "timestamp" if types.is_timestamp(kind) else "other"


def _column(name: str, values: pa.Array) -> LoggedColumn:
    if isinstance(values, pa.ChunkedArray):
        values = pa.concat_arrays(values.chunks) if values.num_chunks else pa.array([], values.type)
    kind, rows = _kind(values.type), len(values)
    row_V = np.arange(rows)
    number_R: np.ndarray | None = None
    mean_length = 1.0
    missing = values.null_count
    flat = values
    if kind == "list":
        lengths = pc.fill_null(pc.list_value_length(values), 0).to_numpy(zero_copy_only=False).astype(np.int64)
        row_V, flat = np.repeat(row_V, lengths), pc.list_flatten(values)
        kept = flat.is_valid().to_numpy(zero_copy_only=False)
        row_V, flat = row_V[kept], flat.drop_null()
        mean_length = float(lengths.mean()) if rows else 0.0
    elif kind in ("boolean", "integer", "number"):
        whole = values.cast(pa.int8()) if kind == "boolean" else values
        number_R = whole.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False).astype(np.float64)
        missing = int(np.isnan(number_R).sum())
    if kind == "other":
        return LoggedColumn(name, values.type, kind, rows, missing, 0, row_V[:0], row_V[:0], None, mean_length, 0.0)
    code_V, distinct = _codes(flat, number_R if kind == "number" else None)
    words = _mean_words(flat) if kind == "string" else 0.0
    return LoggedColumn(name, values.type, kind, rows, missing, distinct, row_V, code_V, number_R, mean_length, words)


def _codes(flat: pa.Array, number: np.ndarray | None) -> tuple[np.ndarray, int]:
    """Codes of values in their order of first appearance, from 1; 0 is missing."""
    if number is not None:
        flat = pa.array(number, from_pandas=True)  # NaN is missing, too
    encoded = flat if isinstance(flat, pa.DictionaryArray) else flat.dictionary_encode()
    codes = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False).astype(np.int64) + 1
    return codes, len(encoded.dictionary)


def _mean_words(flat: pa.Array) -> float:
    texts = flat.dictionary_decode() if isinstance(flat, pa.DictionaryArray) else flat
    return float(pc.mean(pc.count_substring(texts.drop_null(), " ")).as_py() or 0.0) + 1.0
