"""Raw columns of a request, as Arrow arrays, to hashes and numbers: the work on values is Arrow's and xxhash's."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nightjar.features.contract.errors import DataError
from nightjar.features.encoder.arrow_types import is_categorical, is_number
from nightjar.features.encoder.encoder import ColumnValues
from nightjar.features.encoder.hashing import MISSING, hash_bytes
from nightjar.features.encoder.ragged import Ragged, offsets_of

# Up to so many bytes the strings of all columns are hashed in one go; beyond, calls cost little beside their work.
_TOGETHER = 2**20


@dataclass(frozen=True)
class _Values:
    """A column's values as an array of strings. codes: where each row's value is among them; None if in this order.
    offsets: of lists, int64[rows + 1].
    """

    strings: pa.Array
    codes: np.ndarray | None = None
    offsets: np.ndarray | None = None


def hash_columns(columns: Mapping[str, tuple[pa.Array, bool, str]]) -> dict[str, ColumnValues]:
    """Hashes of each column, by the same names: int64[rows], MISSING for null; of lists a Ragged without nulls.

    columns: an array of a type that features.encoder.arrow_types.as_spark_reads gives, whether it holds lists, and
    what errors call it. Raises DataError for a type that no field reads.
    """
    values = {name: _values(array, is_list, called) for name, (array, is_list, called) in columns.items()}
    hashes: dict[str, ColumnValues] = {}
    hashed = _hash_all([of.strings for of in values.values()])
    for (name, of), column in zip(values.items(), hashed, strict=True):
        flat = column if of.codes is None else column[of.codes]
        hashes[name] = flat if of.offsets is None else Ragged(flat, of.offsets)
    return hashes


def numbers(array: pa.Array, name: str) -> np.ndarray:
    """A column of numbers or booleans as float64[rows], read-only, NaN for null; `name` is what errors call it."""
    kind = array.type
    if pa.types.is_null(kind):
        return np.full(len(array), np.nan)
    if not is_number(kind):
        raise DataError(f"column {name!r} has the type {kind}; a number must be integral, floating or boolean.")
    if pa.types.is_decimal(kind):
        # Rounded to the nearest, as Java's are; Arrow's cast is not.
        return np.array([math.nan if value is None else float(value) for value in array.to_pylist()], np.float64)
    if pa.types.is_boolean(kind):
        array = pc.cast(array, pa.int8())
    if not pa.types.is_float64(kind):
        array = pc.cast(array, pa.float64(), safe=False)
    return array.to_numpy(zero_copy_only=False)  # null becomes NaN


def _values(array: pa.Array, is_list: bool, name: str) -> _Values:
    if not is_list:
        return _Values(*_strings(array, name))
    if pa.types.is_null(array.type):
        return _Values(pa.array([], pa.string()), offsets=np.zeros(len(array) + 1, dtype=np.int64))
    if not pa.types.is_list(array.type):
        raise DataError(f"column {name!r} has the type {array.type}; a multi-valued field must be a list.")
    values = array.flatten()  # without what stands behind null lists
    if array.null_count:
        offsets = offsets_of(pc.fill_null(pc.list_value_length(array), 0).to_numpy())
    else:
        offsets = array.offsets.to_numpy().astype(np.int64)
        offsets -= offsets[0]
    if values.null_count:
        kept = values.is_valid()
        offsets = np.append(0, np.cumsum(kept.to_numpy(zero_copy_only=False)))[offsets]
        values = values.filter(kept)
    return _Values(*_strings(values, name), offsets)


def _strings(array: pa.Array, name: str) -> tuple[pa.Array, np.ndarray | None]:
    """The values' canonical strings, and their places where each distinct value is there once."""
    if pa.types.is_string(array.type):
        return array, None
    if pa.types.is_null(array.type):
        return pa.nulls(1, pa.string()), np.zeros(len(array), dtype=np.int64)
    if not is_categorical(array.type):
        raise DataError(
            f"column {name!r} has the type {array.type}; a field must be string, integral or boolean. "
            f"Cast it, or declare it under dense."
        )
    encoded = pc.dictionary_encode(array, null_encoding="encode")
    return pc.cast(encoded.dictionary, pa.string()), encoded.indices.to_numpy()


def _hash_all(arrays: Sequence[pa.Array]) -> list[np.ndarray]:
    """Hash of each string of each array, int64[n]; each distinct string of a small request is hashed once."""
    if not arrays:
        return []
    if len(arrays) == 1 or sum(array.nbytes for array in arrays) > _TOGETHER:
        return [_hash(array) for array in arrays]
    hashed = _hash(pa.concat_arrays(arrays))
    ends = np.cumsum([len(array) for array in arrays]).tolist()
    return [hashed[end - len(array) : end] for array, end in zip(arrays, ends, strict=True)]


def _hash(strings: pa.Array) -> np.ndarray:
    encoded = strings.dictionary_encode()
    # Bytes, since Spark too hashes a log's bytes as they are, whether they are valid UTF-8 or not.
    values = encoded.dictionary.view(pa.binary()).to_numpy(zero_copy_only=False).tolist()
    hashes = np.append(hash_bytes(values), MISSING)
    codes = encoded.indices
    return hashes[(codes.fill_null(len(values)) if codes.null_count else codes).to_numpy()]


def split_column(array: pa.Array, name: str, separator: str) -> pa.Array:
    """`split_lists` of a column. Raises DataError if it holds no strings."""
    if pa.types.is_null(array.type):
        return array
    if not pa.types.is_string(array.type):
        raise DataError(
            f"column {name!r} has the type {array.type}; a field with split is a string with {separator!r} between its "
            f"values, as in the log."
        )
    return split_lists(array, separator)


def split_lists(strings: pa.Array, separator: str) -> pa.Array:
    """Delimited lists as lists: what lies between separators, without the empty pieces; none of what is no Unicode.

    features.spark.rows.values_of is the twin. strings: of Arrow's type string; null stays null.
    """
    encoded = strings.dictionary_encode()
    pieces = [_pieces(value, separator) for value in pc.cast(encoded.dictionary, pa.binary()).to_pylist()]
    return pa.array(pieces, pa.list_(pa.string())).take(encoded.indices)


def _pieces(value: bytes, separator: str) -> list[str]:
    try:
        return [piece for piece in value.decode().split(separator) if piece]
    except UnicodeDecodeError:
        return []
