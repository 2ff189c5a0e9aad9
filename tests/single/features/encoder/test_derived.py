"""Derived columns: by hand, for every type that may hold a value, and whatever rows are beside a row."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nightjar.features.contract.errors import DataError
from nightjar.features.contract.expressions.derived import DerivedColumn
from nightjar.features.contract.expressions.parse import CONSTRUCTS, FUNCTIONS, OPERATORS
from nightjar.features.contract.spec import FeatureSpec
from nightjar.features.encoder.derived import functions
from nightjar.features.encoder.derived.evaluate import with_derived
from nightjar.features.encoder.encoder import EncoderState
from nightjar.features.encoder.hashing import hash_strings
from nightjar.features.encoder.inputs import input_columns
from nightjar.features.encoder.requests import InContext, Rows
from nightjar.features.encoder.rows import hash_rows
from nightjar.features.encoder.state import FittedState

NOON = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)  # a Sunday
COLUMNS = {
    "n": pa.array([7, -7, None, 2**53 + 1]),
    "x": pa.array([1.5, math.nan, -0.0, math.inf]),
    "s": pa.array(["Ab|é ", "", None, "42"]),
    "f": pa.array([True, None, False, True]),
    "at": pa.array([NOON, None, datetime(1969, 12, 31, tzinfo=UTC), NOON]),
    "text_at": pa.array(["2026-03-01T12:30:00Z", "2026-03-02", "soon", "2026-03-01T23:30:00-02:00"]),
    "day": pa.array([date(2026, 3, 1), None, date(1, 1, 1), date(9999, 12, 31)]),
    "nothing": pa.nulls(4),
}


def derived(expression: str, columns: dict[str, pa.Array] | None = None) -> pa.Array:
    one = DerivedColumn(name="made", expression=expression)
    return with_derived(columns or COLUMNS, [one], ["made"])["made"]


@pytest.mark.parametrize(
    ("expression", "wanted"),
    [
        ("n + x", [8.5, None, None, math.inf]),
        ("n + 1", [8.0, -6.0, None, 2.0**53]),  # in 64-bit floating point
        ("n / 2", [3.5, -3.5, None, 2.0**52]),
        ("n // 2", [3.0, -4.0, None, 2.0**52]),
        ("n % 4", [3.0, 1.0, None, 0.0]),
        ("n / (n - 7)", [None, 0.5, None, 2.0**53 / (2.0**53 - 7)]),  # missing where it would be divided by 0
        ("x - x", [0.0, None, 0.0, None]),
        ("-x", [-1.5, None, 0.0, -math.inf]),
        ("abs(n)", [7.0, 7.0, None, 2.0**53]),
        ("sqrt(n)", [math.sqrt(7), None, None, math.sqrt(2.0**53)]),
        ("log1p(x)", [math.log1p(1.5), None, 0.0, math.inf]),
        ("log(x)", [math.log(1.5), None, -math.inf, math.inf]),
        ("floor(x) + ceil(x)", [3.0, None, 0.0, math.inf]),
        ("least(n, x)", [1.5, -7.0, 0.0, 2.0**53]),
        ("greatest(n, n)", [7, -7, None, 2**53 + 1]),
        ("n == 7 or x > 2", [True, None, None, True]),
        ("-7 <= n < 7", [False, True, None, False]),
        ("n != 7", [False, True, None, True]),
        ("not f", [False, None, True, False]),
        ("f and x > 0", [True, None, False, True]),
        ("s == 'Ab|é '", [True, False, None, False]),
        ("s < '5'", [False, True, None, True]),
        ("n in (7, -7.0)", [True, True, None, False]),
        ("s not in ('42', '')", [True, False, None, False]),
        ("n is None", [False, False, True, False]),
        ("x is not None", [True, False, True, True]),
        ("1 if f else n", [1, -7, None, 1]),  # what is not known to hold does not
        ("'low' if n < 0 else 'high' if n > 7 else s", ["Ab|é ", "low", None, "high"]),
        ("coalesce(x, n, 0)", [1.5, -7.0, 0.0, math.inf]),
        ("coalesce(nothing, s, '?')", ["Ab|é ", "", "?", "42"]),
        ("nothing + n", [None] * 4),
        ("concat(s, '_', n, f)", ["Ab|é _7true", None, None, f"42_{2**53 + 1}true"]),
        ("string(x)", ["1.5", None, "0", "inf"]),
        ("int(x)", [1, None, 0, None]),
        ("int(s)", [None, None, None, 42]),
        ("number(s)", [None, None, None, 42.0]),
        ("lower(s)", ["ab|é ", "", None, "42"]),
        ("upper(s)", ["AB|É ", "", None, "42"]),
        ("length(trim(s))", [4, 0, None, 2]),
        ("substring(s, 2, 3)", ["b|é", "", None, "2"]),
        ("substring(s, 4)", ["é ", "", None, ""]),
        ("substring(s, -3)", ["|é ", "", None, "42"]),
        ("substring(s, -3, 2)", ["|é", "", None, "4"]),
        ("substring(s, -9, 2)", ["", "", None, ""]),
        ("split_part(s, '|', 2)", ["é ", None, None, None]),
        ("split_part(s, '|', -1)", ["é ", "", None, "42"]),
        ("split_part(s, '|', -2)", ["Ab", None, None, None]),
        ("replace(s, '|', '')", ["Abé ", "", None, "42"]),
        ("contains(s, '|')", [True, False, None, False]),
        ("starts_with(s, '4')", [False, False, None, True]),
        ("ends_with(s, 'é ')", [True, False, None, False]),
        ("year(at) * 10000 + month(at) * 100 + day(at)", [20260301.0, None, 19691231.0, 20260301.0]),
        ("hour(at) * 60 + minute(at)", [750.0, None, 0.0, 750.0]),
        ("weekday(at)", [7, None, 3, 7]),
        ("hour(text_at)", [12, 0, None, 1]),
        ("days_between(text_at, at)", [0.0, None, None, 13 / 24]),
        ("year(day)", [2026, None, 1, 9999]),
        ("hour(timestamp(text_at))", [12, 0, None, 1]),
        ("hour(epoch_s(n * 3600))", [7, 17, None, None]),
        ("minute(epoch_ms(n * 60000))", [7, 53, None, None]),
        ('column("n") * 2', [14.0, -14.0, None, 2.0**54]),
    ],
)
def test_what_an_expression_gives(expression: str, wanted: list[Any]) -> None:
    found = derived(expression).to_pylist()
    assert found == wanted
    assert [type(value) for value in found] == [type(value) for value in wanted]


def test_every_function_that_may_be_written_can_be_computed_and_no_other() -> None:
    assert set(functions.FUNCTIONS) == {*FUNCTIONS, *OPERATORS.values(), *CONSTRUCTS}


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("s + 1", r"add\(s, 1\) needs a number and got a string; see number\(...\)"),
        ("lower(n)", r"lower\(n\) needs a string and got an integer; see string\(...\)"),
        ("n == s", r"equal\(n, s\) mixes an integer and a string"),
        ("n and f", r"and\(n, f\) needs something true or false and got an integer; compare it first"),
        ("hour(n)", r"hour\(n\) needs a moment and got an integer; see epoch_s\(...\) and epoch_ms\(...\)"),
        ("timestamp(text_at)", r"is a moment, which no feature reads. Take a part of it"),
        ("concat(at, s)", r"gives no string of a moment"),
    ],
)
def test_kinds_that_do_not_fit_are_refused(expression: str, said: str) -> None:
    with pytest.raises(DataError, match=rf"the derived column 'made', .*{said}"):
        derived(expression)


def test_lists_are_no_value_of_an_expression() -> None:
    with pytest.raises(DataError, match=r"column 'l' has the type list<.*derived columns are computed of numbers"):
        derived("l is None", {"l": pa.array([["a"]])})


def test_pandas_nanoseconds_are_the_microsecond_that_they_are_in() -> None:
    ticks = pa.array([1_772_368_200_000_000_999, None, -1], pa.timestamp("ns", tz="UTC"))
    assert derived("year(t)", {"t": ticks}).to_pylist() == [2026, None, 1969]


def test_strings_that_are_not_unicode_are_missing() -> None:
    odd = pa.array([b"a", b"\xff", None], pa.binary()).view(pa.string())
    assert derived("concat(s, '!')", {"s": odd}).to_pylist() == ["a!", None, None]


# Everything of which a column of whole numbers may be made, in a log or in a request.
WHOLE = (pa.int64(), pa.float64(), pa.decimal128(20, 0), pa.int32(), pa.float32(), pa.int8(), pa.uint8())
EXPRESSIONS = (
    "concat(n, '/', x)",
    "(n + x) / n",
    "n % 3 - x // 2",
    "n if x < 0 else x",
    "string(coalesce(n, x, 1))",
    "n in (1, 2) or x == n",
    "least(n, x) + greatest(n, x, 0)",
    "hour(epoch_s(n))",
    "int(x) + int(n)",
    "log1p(abs(n)) * 3",
)
whole = st.none() | st.integers(0, 120)
number = st.none() | st.floats()


@settings(max_examples=30)
@given(st.lists(st.tuples(whole, number), min_size=1, max_size=12), st.sampled_from(EXPRESSIONS))
def test_a_number_is_one_value_whatever_type_holds_it(rows: list[tuple[int | None, float | None]], text: str) -> None:
    x = pa.array([value for _, value in rows], pa.float64())
    ints = [value for value, _ in rows]
    wanted = derived(text, {"n": pa.array(ints, pa.int64()), "x": x})
    for kind in WHOLE:
        found = derived(text, {"n": pa.array(ints, kind), "x": x})
        assert bits(found) == bits(wanted), kind


@settings(max_examples=15)
@given(st.lists(st.tuples(st.none() | st.integers(-(2**63), 2**63 - 1), number), max_size=20), st.integers(0, 20))
def test_a_row_has_one_value_whatever_rows_are_beside_it(rows: list[tuple[Any, Any]], cut: int) -> None:
    columns = {"n": pa.array([n for n, _ in rows], pa.int64()), "x": pa.array([x for _, x in rows], pa.float64())}
    for text in EXPRESSIONS:
        together = bits(derived(text, columns))
        parts = [{k: v[:cut] for k, v in columns.items()}, {k: v[cut:] for k, v in columns.items()}]
        assert together == [bit for part in parts for bit in bits(derived(text, part))]


def bits(array: pa.Array) -> list[Any]:
    """Values, of floating-point numbers their bits."""
    if not pa.types.is_float64(array.type):
        return array.to_pylist()
    return [None if value is None else np.float64(value).tobytes() for value in array.to_pylist()]


SPEC = FeatureSpec.model_validate(
    {
        "name": "s",
        "label": "y",
        "timestamp": "t",
        "derive": [
            {"name": "slot", "expression": "weekday(t) * 100 + clock"},
            {"name": "clock", "expression": "hour(t)"},
            {"name": "pair", "expression": 'concat(lower(country), "/", clock)'},
            {"name": "genres_of", "expression": "replace(genres, ' ', '')"},
        ],
        "fields": [
            {"name": "country"},
            {"name": "pair"},
            {"name": "genre", "column": "genres_of", "multi_valued": True, "split": "|"},
            {"name": "rank", "column": "clock", "serve_as": 3},
        ],
        "dense": [{"name": "slot", "transform": "identity"}],
    }
)
STATE = FittedState(SPEC, EncoderState({}, {}), {})
ROWS: list[dict[str, Any]] = [
    {"country": "DE", "t": NOON, "genres": "a | b"},
    {"country": None, "t": None, "genres": None},
    {"country": "Fr", "t": NOON.replace(hour=1), "genres": ""},
]
SHAPES: dict[str, Rows] = {
    "mappings": ROWS,
    "columns": {name: [row[name] for row in ROWS] for name in ROWS[0]},
    "data frame": pd.DataFrame(ROWS),
    "table": pa.Table.from_pylist(ROWS),
    "strings for moments": [{**row, "t": row["t"] and row["t"].isoformat()} for row in ROWS],
}


@pytest.mark.parametrize("shape", SHAPES)
def test_requests_of_every_shape_are_computed_alike(shape: str) -> None:
    hashed = hash_rows(STATE, SHAPES[shape])
    assert hashed.hashes["pair"].tolist() == hash_strings(["de/12", None, "fr/1"]).tolist()
    assert hashed.hashes["genre"].values.tolist() == hash_strings(["a", "b"]).tolist()
    assert hashed.hashes["rank"].tolist() == hash_strings(["3"] * 3).tolist()
    assert hashed.numbers["slot"].tolist()[::2] == [712.0, 701.0]
    assert np.isnan(hashed.numbers["slot"][1])
    logged = hash_rows(STATE, SHAPES[shape], as_logged=True)
    assert logged.hashes["rank"].tolist() == hash_strings(["12", None, "1"]).tolist()


def test_what_candidates_have_in_common_is_computed_once_and_with_their_own_for_each() -> None:
    request = InContext({"t": NOON}, [{"country": "DE", "genres": "a"}, {"country": "Fr", "genres": "a"}])
    hashed = hash_rows(STATE, request)
    assert hashed.numbers["slot"].tolist() == [712.0]
    assert hashed.hashes["pair"].tolist() == hash_strings(["de/12", "fr/12"]).tolist()
    assert hash_rows(STATE, InContext({"t": NOON}, [])).rows == 0


def test_a_request_brings_what_derived_columns_are_computed_of() -> None:
    columns = {column.name: column for column in input_columns(SPEC)}
    assert list(columns) == ["country", "t", "genres"]
    assert columns["country"].type == "category"
    assert columns["t"].type == columns["genres"].type == "value"
    assert all(column.required for column in columns.values())
    assert (
        "dense feature slot, computed: add(multiply(weekday(t), 100), clock); clock = hour(t)" in columns["t"].meaning
    )
    with pytest.raises(DataError, match=r"the rows lack the columns \['t'\], which features read"):
        hash_rows(STATE, {"country": ["DE"], "genres": ["a"]})
    with pytest.raises(
        DataError, match=r"'hour\(t\)', cannot be computed: hour\(t\) needs a moment and got an integer"
    ):
        hash_rows(STATE, [{"country": "DE", "genres": "a", "t": 7}])
