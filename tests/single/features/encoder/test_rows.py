"""Serving's host stage: raw requests in several shapes to one hashed batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import xxhash

from nightjar.features.contract.errors import DataError
from nightjar.features.contract.spec import FeatureSpec
from nightjar.features.encoder.encoder import EncoderState
from nightjar.features.encoder.frequency import Counts, FrequencyTable
from nightjar.features.encoder.hashing import MISSING, combine, hash_strings
from nightjar.features.encoder.ragged import Ragged
from nightjar.features.encoder.rows import hash_rows
from nightjar.features.encoder.state import FittedState

SPEC = FeatureSpec.model_validate(
    {
        "name": "s",
        "label": "y",
        "timestamp": "t",
        "fields": [{"name": "user"}, {"name": "size"}, {"name": "tags", "multi_valued": True}],
        "dense": [{"name": "price"}],
        "frequencies": [
            {"name": "day", "keys": ["user"], "prior": 0.5},
            {
                "name": "now",
                "keys": ["user", "size"],
                "prior": 0.5,
                "as_of": "impression",
                "missing_so_far": "zero",
            },
            {"name": "list", "keys": ["tags", "user"], "prior": 0.5},
        ],
    }
)
REQUEST: list[dict[str, Any]] = [
    {"user": "ann", "size": 3, "tags": ["x", None, "y", "x"], "price": 1.5},
    {"user": None, "size": None, "tags": None, "price": None},
    {"user": "", "size": -1, "tags": [], "price": float("nan")},
]
USERS = hash_strings(["ann", None, ""])
SIZES = hash_strings(["3", None, "-1"])


def table(keys: np.ndarray) -> FrequencyTable:
    order = np.argsort(keys)
    return FrequencyTable(keys[order], {"all": Counts(np.array([10, 20])[order], np.array([1, 2])[order])})


STATE = FittedState(
    SPEC,
    EncoderState({}, {}),
    {
        "day": table(combine([USERS[:2]])),
        "now": table(combine([USERS[:2], SIZES[:2]])),
        "list": table(combine([hash_strings(["x", "y"]), np.repeat(USERS[:1], 2)])),
    },
)


@pytest.mark.parametrize(
    "rows",
    [
        REQUEST,
        pd.DataFrame(REQUEST).astype({"size": "Int64"}),
        pa.Table.from_pylist(REQUEST),
        pa.concat_tables(
            [pa.Table.from_pylist(REQUEST[:1]), pa.Table.from_pylist(REQUEST[1:])], promote_options="permissive"
        ),
        {name: [row[name] for row in REQUEST] for name in REQUEST[0]},
        [{k: v for k, v in row.items() if v is not None} for row in REQUEST],
    ],
    ids=["mappings", "pandas", "arrow", "chunks", "columns", "sparse mappings"],
)
def test_every_shape_of_request_gives_the_same_batch(rows: Any) -> None:
    batch = hash_rows(STATE, rows)
    assert batch.rows == 3
    for name, expected in (("user", USERS), ("size", SIZES)):
        column = batch.hashes[name]
        assert isinstance(column, np.ndarray)
        np.testing.assert_array_equal(column, expected)
        assert column[1] == MISSING
    tags = batch.hashes["tags"]
    assert isinstance(tags, Ragged)
    np.testing.assert_array_equal(tags.values, hash_strings(["x", "y", "x"]))
    assert tags.offsets.tolist() == [0, 3, 3, 3]
    np.testing.assert_array_equal(batch.numbers["price"], [1.5, np.nan, np.nan])
    assert batch.histories["day"].counts["all"].impressions.tolist() == [10, 20, 0]
    assert batch.histories["now"].counts["all"].positives.tolist() == [1, 2, 0]
    assert batch.histories["list"].counts["all"].impressions.tolist() == [30, 0, 0]


def test_todays_counts_in_a_request_are_added() -> None:
    today = [{"now_impressions_so_far": 4, "now_positives_so_far": 3}, {}, {"now_impressions_so_far": 1}]
    batch = hash_rows(STATE, [row | more for row, more in zip(REQUEST, today, strict=True)])
    assert batch.histories["now"].counts["all"].impressions.tolist() == [14, 20, 1]
    assert batch.histories["now"].counts["all"].positives.tolist() == [4, 2, 0]
    assert batch.histories["day"].counts["all"].impressions.tolist() == [10, 20, 0]


def test_a_batch_may_be_empty() -> None:
    empty = pa.Table.from_pylist(REQUEST).slice(0, 0)
    assert hash_rows(STATE, empty).rows == 0
    assert hash_rows(STATE, []).rows == 0


@pytest.mark.parametrize("of", [pa.table, pd.DataFrame, dict], ids=["arrow", "pandas", "columns"])
def test_where_columns_are_given_those_that_are_missing_are_named(of: Any) -> None:
    with pytest.raises(DataError) as caught:
        hash_rows(STATE, of({"user": ["ann"], "tags": [[]]}))
    assert str(caught.value) == (
        "the rows lack the columns ['price', 'size'], which features read; they have ['tags', 'user']."
    )


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"user": 1.5}, "column 'user' has the type double; a field must be string, integral or boolean"),
        ({"tags": "x"}, "column 'tags' has the type string; a multi-valued field must be a list"),
        ({"price": "1"}, "column 'price' has the type string; a number must be integral, floating or boolean"),
    ],
)
def test_a_column_of_a_wrong_type_is_named(change: dict[str, Any], expected: str) -> None:
    with pytest.raises(DataError, match=expected):
        hash_rows(STATE, [REQUEST[0] | change])


def test_half_of_a_surrogate_pair_is_an_error_and_odd_bytes_are_a_value() -> None:
    with pytest.raises(DataError, match="column 'user' holds a string that is not Unicode"):
        hash_rows(STATE, [REQUEST[0] | {"user": "\ud83e"}])
    odd = pa.array([b"\xed\xa0\xbe", b"\xff", b"ann"], pa.binary()).view(pa.string())
    table = pa.Table.from_pylist(REQUEST).set_column(0, "user", odd)
    expected = [xxhash.xxh64_intdigest(value, 42) for value in (b"\xed\xa0\xbe", b"\xff", b"ann")]
    np.testing.assert_array_equal(hash_rows(STATE, table).hashes["user"], np.array(expected, np.uint64).view(np.int64))


def test_a_column_of_mixed_types_is_named() -> None:
    with pytest.raises(DataError, match=r"column 'user' mixes types, or .* Give every value the same type"):
        hash_rows(STATE, [REQUEST[0], REQUEST[0] | {"user": 3}])
