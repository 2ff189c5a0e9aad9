"""Every shape in which rows come: it is read as what it means, or refused with the right shapes."""

from __future__ import annotations

import logging
from collections import OrderedDict, deque
from collections.abc import Callable
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nightjar.features.contract.errors import DataError
from nightjar.features.contract.spec import FeatureSpec
from nightjar.features.encoder import requests
from nightjar.features.encoder.encoder import EncoderState, HashedBatch
from nightjar.features.encoder.hashing import MISSING, hash_strings
from nightjar.features.encoder.ragged import Ragged
from nightjar.features.encoder.rows import hash_rows
from nightjar.features.encoder.state import FittedState

SPEC = FeatureSpec.model_validate(
    {
        "name": "s",
        "label": "y",
        "timestamp": "t",
        "fields": [{"name": "user"}, {"name": "country"}, {"name": "tags", "multi_valued": True}],
        "dense": [{"name": "price"}],
    }
)
STATE = FittedState(SPEC, EncoderState({}, {}), {})
ROW = {"user": "ann", "country": "de", "tags": ["x", "y"], "price": 1.5}


def batch_of(rows: Any) -> HashedBatch:
    return hash_rows(STATE, rows)


def values(batch: HashedBatch) -> dict[str, Any]:
    """Everything that a batch holds, as lists."""
    held: dict[str, Any] = {"rows": batch.rows}
    for name, column in batch.hashes.items():
        if isinstance(column, Ragged):
            held[name] = (column.values.tolist(), column.offsets.tolist())
        else:
            held[name] = column.tolist()
    return held | {name: [None if np.isnan(x) else x for x in column] for name, column in batch.numbers.items()}


ONE_ROW: dict[str, Callable[[], Any]] = {
    "mapping of values": lambda: ROW,
    "read-only mapping": lambda: MappingProxyType(ROW),
    "ordered mapping": lambda: OrderedDict(ROW),
    "NumPy's values": lambda: {**ROW, "user": np.str_("ann"), "price": np.float32(1.5), "tags": np.array(["x", "y"])},
    "columns": lambda: {name: [value] for name, value in ROW.items()},
    "columns as tuples": lambda: {name: (value,) for name, value in ROW.items()},
    "columns as generators": lambda: {name: iter([value]) for name, value in ROW.items()},
    "Series": lambda: pd.Series(ROW),
    "DataFrame": lambda: pd.DataFrame([ROW]),
    "a row of a DataFrame": lambda: pd.DataFrame([ROW, ROW]).iloc[1],
    "Table": lambda: pa.Table.from_pylist([ROW]),
    "RecordBatch": lambda: pa.RecordBatch.from_pylist([ROW]),
    "RecordBatchReader": lambda: pa.Table.from_pylist([ROW]).to_reader(),
    "array of structs": lambda: pa.array([ROW]),
    "generator": lambda: (row for row in [ROW]),
    "deque": lambda: deque([ROW]),
    "NumPy array of mappings": lambda: np.array([ROW], dtype=object),
    "values of a mapping": lambda: {"a": ROW}.values(),
}


@pytest.mark.parametrize("shape", ONE_ROW)
def test_a_row_is_the_same_row_in_every_shape(shape: str) -> None:
    assert values(batch_of(ONE_ROW[shape]())) == values(batch_of([ROW]))


@pytest.mark.parametrize(
    ("of", "kind"),
    [
        ("user", pa.large_string()),
        ("user", pa.dictionary(pa.int8(), pa.string())),
        ("tags", pa.large_list(pa.large_string())),
        ("tags", pa.list_(pa.string(), 2)),
        ("tags", pa.list_(pa.field("item", pa.string(), nullable=False))),
        ("price", pa.float32()),
        ("price", pa.decimal128(10, 2)),
    ],
)
def test_a_type_is_what_it_holds_however_arrow_spells_it(of: str, kind: pa.DataType) -> None:
    table = pa.Table.from_pylist([ROW, ROW])
    column = (
        pa.array(table.column(of).to_pylist(), kind)
        if kind != pa.decimal128(10, 2)
        else pa.array([Decimal("1.5")] * 2, kind)
    )
    again = table.set_column(table.schema.get_field_index(of), of, column)
    assert values(batch_of(again)) == values(batch_of([ROW, ROW]))


def test_a_decimal_is_rounded_to_the_nearest_double() -> None:
    exact = [Decimal("0.1"), Decimal("123456789.123456789"), Decimal("-2.675"), None]
    rows = pa.table({"user": ["a"] * 4, "country": ["b"] * 4, "tags": [[]] * 4, "price": exact})
    expected = [None if value is None else float(value) for value in exact]
    assert values(batch_of(rows))["price"] == expected


@pytest.mark.parametrize("integer", [0, -1, 2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**100), 10**38 - 1])
def test_an_integer_is_its_digits_however_large(integer: int) -> None:
    batch = batch_of([ROW | {"user": integer, "price": integer}, ROW | {"user": None, "price": None}])
    assert values(batch)["user"] == [*hash_strings([str(integer)]), MISSING]
    assert values(batch)["price"] == [float(integer), None]


def test_unsigned_integers_beyond_the_signed_ones_are_their_digits_too() -> None:
    ids = np.array([2**64 - 1, 5], np.uint64)
    rows = {
        "user": ids,
        "country": ["a", "b"],
        "tags": pa.array([[2**64 - 1], []], pa.list_(pa.uint64())),
        "price": ids,
    }
    found = values(batch_of(rows))
    assert found["user"] == hash_strings([str(2**64 - 1), "5"]).tolist()
    assert found["tags"] == (hash_strings([str(2**64 - 1)]).tolist(), [0, 1, 1])


@pytest.mark.parametrize("lacking", [("country",), ("tags",), ("price",), tuple(ROW)])
def test_a_key_that_is_not_there_is_missing_whatever_the_other_rows_bring(lacking: tuple[str, ...]) -> None:
    row = {name: value for name, value in ROW.items() if name not in lacking}
    null = ROW | dict.fromkeys(lacking)
    for others in ([], [ROW]):
        assert values(batch_of([row, *others])) == values(batch_of([null, *others]))
    if row:
        assert values(batch_of(row)) == values(batch_of([null]))


def test_a_key_that_no_row_brings_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    requests.warn_of_absent_keys.cache_clear()
    with caplog.at_level(logging.WARNING):
        batch_of([{"user": "ann"}])
        batch_of([{"user": "bob", "cuontry": "de"}])
    assert [record.getMessage() for record in caplog.records] == [
        "no row of a request brings ['country', 'tags', 'price'], which features read; they count as missing"
    ]


@pytest.mark.parametrize(
    "missing",
    [
        pa.nulls(2),
        pa.array([None, None], pa.float64()),
        [None, None],
        [np.nan, np.nan],
        [pd.NA, None],
        pd.Series([None, None], dtype="category"),
        pd.Series([np.nan, np.nan]),
    ],
)
def test_a_column_without_a_value_is_missing_whatever_its_type(missing: Any) -> None:
    nothing = dict.fromkeys(ROW, missing)
    assert values(batch_of(nothing)) == values(batch_of([dict.fromkeys(ROW)] * 2))


@pytest.mark.parametrize("nulls", [(None, None), [None], [None, None, None]])
def test_a_list_of_nulls_alone_is_a_list_without_values(nulls: Any) -> None:
    assert values(batch_of([ROW | {"tags": nulls}])) == values(batch_of([ROW | {"tags": []}]))
    assert values(batch_of([ROW | {"tags": nulls}] * 3)) == values(batch_of([ROW | {"tags": []}] * 3))


@pytest.mark.parametrize(
    "rows",
    ["ann", b"ann", bytearray(b"ann"), None, 7, 1.5, ["ann"], [ROW, None], [["user", "ann"]], ROW.items(), {"user"},
     np.zeros((2, 2)), np.array(3), np.array(["ann"]), pd.Series(["ann", "bob"]), pa.array(["ann"]), object()],
    ids=lambda rows: type(rows).__name__,
)  # fmt: skip
def test_what_is_no_table_of_rows_is_refused_with_the_right_shapes(rows: Any) -> None:
    with pytest.raises(DataError, match=r"the request is no table of rows: .* \[\{'user': \.\.\., 'country': \.\.\.\}"):
        batch_of(rows)


def test_columns_of_which_there_are_two_or_that_differ_in_length_are_named() -> None:
    table = pa.Table.from_pylist([ROW])
    for rows in (
        table.append_column("user", pa.array(["bob"])),
        pa.RecordBatch.from_arrays([pa.array(["a"])] * 2, names=["user", "user"]),
        pd.concat([pd.DataFrame([ROW]), pd.DataFrame([{"user": "bob"}])], axis=1),
    ):
        with pytest.raises(DataError, match=r"the columns \['user'\] more than once|lack the columns"):
            batch_of(rows)
    with pytest.raises(DataError, match="the columns differ in length"):
        batch_of({name: [value] * (1 + (name == "user")) for name, value in ROW.items()})
    with pytest.raises(DataError, match="column 'price' is ndarray; it must be one sequence"):
        batch_of({name: [value] for name, value in ROW.items()} | {"price": np.zeros((1, 2))})


# Whatever JSON, YAML or Python can hold, and a few things that they cannot.
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(max_size=3), st.dates(), st.decimals(),
    st.just(object()), st.just(np.float32(1)), st.just(np.array(3)), st.complex_numbers(), st.just(pd.NA),
    st.just("\ud83e"), st.just(2**200),
)  # fmt: skip
JUNK = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.dictionaries(st.one_of(st.sampled_from([*ROW, "other"]), st.integers()), inner, max_size=5),
        st.lists(inner, max_size=3).map(iter),
        st.lists(st.integers(-5, 5), max_size=3).map(np.array),
        st.lists(st.integers(-5, 5), max_size=3).map(pd.Series),
        st.sets(st.integers(), max_size=3),
    ),
    max_leaves=12,
)
ROWS = st.lists(st.dictionaries(st.sampled_from([*ROW, "other"]), JUNK, max_size=5), max_size=4)
COLUMNS = st.fixed_dictionaries({name: st.lists(JUNK, min_size=1, max_size=3) for name in ROW})


@settings(max_examples=600, deadline=None, suppress_health_check=list(HealthCheck))
@given(rows=st.one_of(JUNK, ROWS, COLUMNS))
def test_anything_at_all_is_scored_or_refused_with_a_message(rows: Any) -> None:
    expected = len(rows) if isinstance(rows, list) else None
    try:
        batch = batch_of(rows)
    except DataError:
        return
    assert expected in (None, batch.rows)
    if isinstance(rows, dict) and any(isinstance(rows.get(name), str) for name in ("user", "country")):
        assert batch.rows == 1
    assert all((c.rows if isinstance(c, Ragged) else len(c)) == batch.rows for c in batch.hashes.values())


CONTEXTS: dict[str, Callable[[], Any]] = {
    "mappings": lambda: [{"country": "de", "price": 1.0}, {"country": None}, {"country": "fr", "price": 3.0}],
    "columns": lambda: {"country": ["de", None, "fr"], "price": [1.0, None, 3.0]},
    "arrow": lambda: pa.table({"country": ["de", None, "fr"], "price": [1.0, None, 3.0]}),
    "pandas": lambda: pd.DataFrame({"country": ["de", None, "fr"], "price": [1.0, None, 3.0]}),
}


@pytest.mark.parametrize("candidates", CONTEXTS.values(), ids=CONTEXTS.keys())
@pytest.mark.parametrize("tags", [["x", None, "x", "y"], [], None])
def test_a_context_stands_for_every_row_and_is_hashed_once(candidates: Callable[[], Any], tags: Any) -> None:
    context = {"user": "ann", "tags": tags, "unread": object()}
    batch = batch_of(requests.InContext(context, candidates()))
    repeated = [{**context, **row} for row in CONTEXTS["mappings"]()]
    whole = batch_of(repeated)
    assert batch.rows == 3
    for name, column in whole.hashes.items():
        found = batch.hashes[name]
        if isinstance(column, Ragged):
            assert isinstance(found, Ragged)
            assert found.rows == 1
            np.testing.assert_array_equal(found.take(np.zeros(3, int)).values, column.values)
        else:
            assert isinstance(found, np.ndarray)
            assert len(found) == (1 if name in context else 3)
            np.testing.assert_array_equal(np.broadcast_to(found, 3), column)
    np.testing.assert_array_equal(batch.numbers["price"], whole.numbers["price"])


def test_a_column_in_context_and_candidates_is_refused_and_so_is_one_in_neither() -> None:
    with pytest.raises(DataError, match=r"context and candidates both bring the columns \['country'\]"):
        batch_of(requests.InContext({"country": "de"}, [ROW]))
    with pytest.raises(DataError, match=r"the rows lack the columns \['price'\], which features read"):
        batch_of(requests.InContext({"user": "ann", "tags": []}, pa.table({"country": ["de"]})))
    with pytest.raises(DataError, match="its context is list"):
        batch_of(requests.InContext([ROW], [ROW]))  # type: ignore[arg-type]


@pytest.mark.parametrize("nobody", [[], pa.table({"country": pa.array([], pa.string())}), {"country": []}])
def test_a_context_without_candidates_has_no_rows(nobody: Any) -> None:
    assert batch_of(requests.InContext({"user": "ann", "tags": [], "price": 1.0}, nobody)).rows == 0


@settings(max_examples=200, suppress_health_check=list(HealthCheck))
@given(context=st.dictionaries(st.sampled_from([*ROW, "other"]), JUNK, max_size=4), candidates=st.one_of(JUNK, ROWS))
def test_any_context_is_scored_or_refused_with_a_message(context: dict[str, Any], candidates: Any) -> None:
    try:
        batch = batch_of(requests.InContext(context, candidates))
    except DataError:
        return
    lengths = {name: c.rows if isinstance(c, Ragged) else len(c) for name, c in batch.hashes.items()}
    assert all(length in (batch.rows, 1 if name in context else batch.rows) for name, length in lengths.items())
