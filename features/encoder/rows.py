"""The artifact's host stage: raw rows of a request to a hashed batch. Spark's twin is features.spark.rows."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pyarrow as pa

from nightjar.features.contract.categorical import CategoricalField
from nightjar.features.contract.errors import DataError
from nightjar.features.contract.spec import DenseFeature, FeatureSpec, Frequency
from nightjar.features.encoder.dense import hash_intervals
from nightjar.features.encoder.derived.evaluate import with_derived
from nightjar.features.encoder.encoder import HashedBatch
from nightjar.features.encoder.frequency import Counts, KeyHistory
from nightjar.features.encoder.hashing import conjoin
from nightjar.features.encoder.ragged import Ragged
from nightjar.features.encoder.raw_columns import hash_columns, numbers, split_column
from nightjar.features.encoder.requests import Rows, array_of, read_request, warn_of_absent_keys
from nightjar.features.encoder.state import FittedState

# Whole numbers up to here are exact as floating-point numbers.
_COUNTED = 2.0**53


def so_far_columns(frequency: Frequency) -> tuple[str, str]:
    """A request's columns for an `as_of: impression` frequency: impressions and positives of the day before now, of all
    of the row's keys together."""
    return f"{frequency.name}_impressions_so_far", f"{frequency.name}_positives_so_far"


def hash_rows(state: FittedState, rows: Rows, *, as_logged: bool = False) -> HashedBatch:
    """Hash raw rows and look up their frequency counts.

    rows: mappings, one mapping of values, a mapping of columns, a pandas DataFrame, a pyarrow Table or RecordBatch; or
    any of them InContext, whose columns then have one row in the batch.
    Where columns are given, every one that the spec's features read must be there; a mapping without a key means a
    missing value in that row, whatever the other rows bring. Raises DataError for anything else, and for a column
    that is missing or of a type that the spec does not allow.
    as_logged: rows of a log, whose columns are read even where features have `serve_as`, which otherwise stands in.
    """
    spec = state.spec
    columns, count = _read(spec, rows, as_logged)
    _require_so_far(spec, columns, count)
    arrays = {field.name: _column(field, columns, count, as_logged) for field in spec.fields}
    hashes = hash_columns({f.name: (arrays[f.name], f.multi_valued, f.source) for f in spec.fields if not f.boundaries})
    for field in spec.fields:
        if field.boundaries:
            hashes[field.name] = hash_intervals(numbers(arrays[field.name], field.source), field.boundaries)
    dense = {d.name: numbers(_column(d, columns, count, as_logged), d.source) for d in spec.dense}
    histories = {}
    for frequency in spec.frequencies:
        keys = conjoin([hashes[name] for name in frequency.keys])
        before = state.frequencies[frequency.name].lookup(keys.unique() if isinstance(keys, Ragged) else keys)
        today = _so_far(frequency, columns)
        counts = {window: of + today for window, of in before.counts.items()}
        histories[frequency.name] = KeyHistory(counts, before.ranks, before.age)
    return HashedBatch(count, hashes, dense, histories)


def read_columns(spec: FeatureSpec, rows: Rows, *, as_logged: bool = False) -> tuple[dict[str, pa.Array], int]:
    """What each field reads of raw rows, by the field's name, and how many rows there are; see `hash_rows`."""
    columns, count = _read(spec, rows, as_logged)
    return {field.name: _column(field, columns, count, as_logged) for field in spec.fields}, count


def _read(spec: FeatureSpec, rows: Rows, as_logged: bool) -> tuple[dict[str, pa.Array], int]:
    needed = spec.request_columns(as_logged=as_logged)
    optional = [c for f in spec.frequencies if f.as_of == "impression" for c in so_far_columns(f)]
    lists = [f.source for f in spec.fields if f.multi_valued and not f.split and (as_logged or f.serve_as is None)]
    columns, count = _columns(rows, needed, optional, lists)
    wanted = [feature.source for feature in read_features(spec, as_logged)]
    return (with_derived(columns, spec.derive, wanted) if spec.derive else columns), count


def read_features(spec: FeatureSpec, as_logged: bool = False) -> list[CategoricalField | DenseFeature]:
    """Fields and dense features whose columns are read; of rows that are served those without `serve_as`."""
    return [feature for feature in spec.reading() if as_logged or feature.serve_as is None]


def _column(
    feature: CategoricalField | DenseFeature, columns: Mapping[str, pa.Array], count: int, as_logged: bool
) -> pa.Array:
    """The feature's column, as lists if it is split, or what stands in for it, as often as there are rows."""
    if as_logged or feature.serve_as is None:
        array = columns[feature.source]
        separator = feature.split if isinstance(feature, CategoricalField) else None
        return split_column(array, feature.source, separator) if separator else array
    value = list(feature.serve_as) if isinstance(feature.serve_as, tuple) else feature.serve_as
    return pa.array([value] * count)


def _require_so_far(spec: FeatureSpec, columns: Mapping[str, pa.Array], count: int) -> None:
    """Raises DataError if counts of the day so far are missing which a frequency asks for."""
    required = [
        name
        for frequency in spec.frequencies
        if frequency.as_of == "impression" and frequency.missing_so_far == "error"
        for name in so_far_columns(frequency)
    ]
    lacking = [name for name in required if count and name not in columns]
    hint = "Bring them, or set missing_so_far: zero of the frequency, if none means zero."
    if lacking:
        raise DataError(f"the rows lack the columns {lacking}, counts of their day so far. {hint}")
    for name in required if count else ():
        missing = int(np.isnan(numbers(columns[name], name)).sum())
        if missing:
            raise DataError(f"column {name!r}, a count of the day so far, is missing in {missing} rows. {hint}")


def _columns(
    rows: Rows, needed: Sequence[str], optional: Sequence[str], lists: Collection[str] = ()
) -> tuple[dict[str, pa.Array], int]:
    """Every needed column and the optional ones that are there, as arrays, and the number of rows.

    Args:
        rows: a request, see features.encoder.requests.
        needed: columns that features read.
        optional: columns that are zero where they are not there.
        lists: those of `needed` that hold lists.
    """
    request = read_request(rows, needed, lists)
    own = [name for name in request.names if name not in request.common]
    if request.rows == 0 or (not own and not request.sparse):
        return {name: pa.nulls(0) for name in needed}, 0
    absent = [name for name in dict.fromkeys(needed) if name not in request.names]
    if absent and not request.sparse:
        raise DataError(
            f"the rows lack the columns {sorted(absent)}, which features read; they have "
            f"{sorted(map(str, request.names))}."
        )
    if absent:
        warn_of_absent_keys(tuple(absent))
    present = [name for name in dict.fromkeys([*needed, *optional]) if name in request.names]
    repeated = [name for name in present if request.names.count(name) > 1]
    if repeated:
        raise DataError(f"the rows have the columns {repeated} more than once. Keep one of each.")
    columns = {name: array_of(request.read(name), name) for name in present}
    lengths = {name: len(array) for name, array in columns.items() if name not in request.common}
    count = next(iter(lengths.values()), 0) if request.rows is None else request.rows
    if set(lengths.values()) - {count}:
        raise DataError(f"the columns differ in length: {lengths}. Give one value a row in each.")
    return columns | {name: pa.nulls(count) for name in absent}, count


def _so_far(frequency: Frequency, columns: Mapping[str, pa.Array]) -> Counts:
    """Counts of the day so far, of each row or of all."""

    def today(name: str) -> np.ndarray:
        if frequency.as_of == "day" or name not in columns:
            return np.zeros(1, dtype=np.int64)
        counts = np.nan_to_num(numbers(columns[name], name))
        odd = counts[(counts < 0) | (counts >= _COUNTED)]
        if len(odd):
            raise DataError(f"column {name!r} holds {odd[0]:g}; a count must lie between 0 and 2^53.")
        return counts.astype(np.int64)

    impressions, positives = so_far_columns(frequency)
    return Counts(today(impressions), today(positives))
