"""The encoder against row-by-row Python, written from the papers' formulas."""

from __future__ import annotations

import math
from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightjar.features.contract.layout import dataset_columns, table_layout
from nightjar.features.contract.spec import Cross, FeatureSpec
from nightjar.features.encoder.dense import Moments, fit_boundaries
from nightjar.features.encoder.encoder import (
    MISSING_ID,
    OOV_ID,
    Encoder,
    EncoderState,
    HashedBatch,
    Vocabulary,
    encode_cross,
)
from nightjar.features.encoder.frequency import Counts, FrequencyTable, KeyHistory, Ranks
from nightjar.features.encoder.hashing import MISSING, combine
from nightjar.features.encoder.ragged import Ragged, offsets_of

SPEC = FeatureSpec.model_validate(
    {
        "name": "s",
        "label": "y",
        "timestamp": "t",
        "fields": [{"name": "a"}, {"name": "b", "wide": False}, {"name": "m", "multi_valued": True, "embedding": 4}],
        "dense": [
            {"name": "q", "quantiles": 5, "missing_value": 0.25},
            {"name": "l", "transform": "log", "missing_indicator": False},
            {"name": "i", "transform": "identity"},
            {"name": "s", "transform": "standardise", "missing_indicator": False},
        ],
        "crosses": [
            {"name": "ab", "fields": ["a", "b"], "buckets": 64},
            {"name": "am", "fields": ["a", "m"], "buckets": 64},
            {"name": "mmb", "fields": ["m", "b", "a"], "buckets": 8},
        ],
        "frequencies": [
            {
                "name": "f",
                "keys": ["a"],
                "statistics": ["impressions", "positives", "rate", "log_odds", "log_count"],
                "prior": 0.2,
                "strength": 3.0,
            }
        ],
    }
)
BOUNDARIES = np.array([-1.0, 0.0, 0.0, 2.5])
KNOWN = {-5: 4, 7: 2, 9: 3}
VOCABULARY = Vocabulary(np.array(sorted(KNOWN)), np.array([KNOWN[h] for h in sorted(KNOWN)], dtype=np.int32))
ENCODER = Encoder(
    SPEC, EncoderState(dict.fromkeys("abm", VOCABULARY), {"q": BOUNDARIES}, moments={"s": Moments(0.5, 2.0)})
)

hashes = st.sampled_from([-5, 7, 9, 11, int(MISSING), 2**62])
numbers = st.none() | st.floats(allow_nan=False) | st.sampled_from([-1.0, 0.0, 2.5])
rows_of = st.lists(
    st.fixed_dictionaries(
        {
            "a": hashes,
            "b": hashes,
            "m": st.lists(hashes.filter(lambda h: h != MISSING), max_size=4),
            "q": numbers,
            "l": numbers,
            "i": numbers,
            "s": numbers,
            "n": st.integers(0, 10**9),
            "k": st.floats(0, 1),
        }
    ),
    max_size=12,
)


def encode(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    lists = [row["m"] for row in rows]
    flat = np.array([h for row in lists for h in row], dtype=np.int64)
    shown = np.array([row["n"] for row in rows], dtype=np.int64)
    positive = np.array([int(row["n"] * row["k"]) for row in rows], dtype=np.int64)
    batch = HashedBatch(
        rows=len(rows),
        hashes={
            "a": np.array([row["a"] for row in rows], dtype=np.int64),
            "b": np.array([row["b"] for row in rows], dtype=np.int64),
            "m": Ragged(flat, offsets_of(np.array([len(row) for row in lists], dtype=np.int64))),
        },
        numbers={x: np.array([math.nan if r[x] is None else r[x] for r in rows], dtype=np.float64) for x in "qlis"},
        histories={"f": KeyHistory({"all": Counts(shown, positive)})},
    )
    columns = {}
    for name, column in ENCODER.encode(batch).items():
        if isinstance(column, Ragged):
            assert column.values.dtype == np.int32
            bounds = column.offsets.tolist()
            columns[name] = [column.values[a:b].tolist() for a, b in pairwise(bounds)]
        else:
            assert column.dtype == (np.float32 if name.startswith("d_") else np.int32)
            columns[name] = column.tolist()
    return columns


def id_of(h: int) -> int:
    return MISSING_ID if h == MISSING else KNOWN.get(h, OOV_ID)


def bucket(parts: tuple[int, ...], buckets: int) -> int:
    return int(combine([np.array([part], dtype=np.int64) for part in parts])[0]) % buckets


def float32(x: float) -> float:
    largest = float(np.finfo(np.float32).max)
    return float(np.float32(min(max(x, -largest), largest)))


def quantile(x: float) -> float:
    """(i - 1) / (n_q - 1) for x in the i-th of n_q quantiles."""
    i = 1 + sum(1 for boundary in BOUNDARIES if x >= boundary)
    return (i - 1) / (len(BOUNDARIES) + 1 - 1)


@given(rows_of)
def test_ids_are_looked_up_row_by_row(rows: list[dict[str, Any]]) -> None:
    columns = encode(rows)
    assert columns["f_a"] == [id_of(row["a"]) for row in rows]
    assert columns["f_m"] == [sorted({id_of(h) for h in row["m"]}) for row in rows]


@given(rows_of)
def test_a_cross_has_one_conjunction_for_each_choice_of_its_sides(rows: list[dict[str, Any]]) -> None:
    columns = encode(rows)
    assert columns["x_ab"] == [bucket((row["a"], row["b"]), 64) for row in rows]
    assert columns["x_am"] == [sorted({bucket((row["a"], h), 64) for h in row["m"]}) for row in rows]
    for row, found in zip(rows, columns["x_mmb"], strict=True):
        choices = product(row["m"], [row["b"]], [row["a"]])
        assert found == sorted({bucket(choice, 8) for choice in choices})


@given(st.lists(hashes | st.integers(-(2**63), 2**63 - 1), max_size=20), st.integers(1, 5), st.integers(0, 3))
def test_unknown_values_are_spread_by_hash_over_the_ids_before_those_of_values(
    asked: list[int], hash_ids: int, retired: int
) -> None:
    """Known values have the last ids but one, so that the retired ones are among them."""
    known = {h: hash_ids + 1 + retired + n for n, h in enumerate(KNOWN)}
    ordered = sorted(known)
    ids = np.array([known[h] for h in ordered], dtype=np.int32)
    vocabulary = Vocabulary(np.array(ordered), ids, hash_ids, retired)
    expected = [MISSING_ID if h == MISSING else known.get(h, 1 + h % hash_ids) for h in asked]
    found = vocabulary.lookup(np.array(asked, dtype=np.int64))
    assert found.tolist() == expected
    assert found.dtype == np.int32
    assert vocabulary.size == max(known.values()) + 1


@given(rows_of)
def test_a_hashed_field_gives_every_value_one_of_its_buckets(rows: list[dict[str, Any]]) -> None:
    hashed = Vocabulary(np.zeros(0, np.int64), np.zeros(0, np.int32), hash_ids=7)
    found = hashed.lookup(np.array([row["a"] for row in rows], dtype=np.int64))
    assert found.tolist() == [0 if row["a"] == MISSING else 1 + row["a"] % 7 for row in rows]
    assert hashed.size == 8


@given(rows_of, st.sets(st.integers(0, 63)))
def test_conjunctions_that_are_not_admitted_share_an_id(rows: list[dict[str, Any]], let_in: set[int]) -> None:
    """Here those are admitted whose hash ends in one of the six-bit numbers `let_in`."""

    class Filter:
        def admits(self, asked: np.ndarray) -> np.ndarray:
            return np.isin(asked & 63, sorted(let_in))

    a = np.array([row["a"] for row in rows], dtype=np.int64)
    flat = np.array([h for row in rows for h in row["m"]], dtype=np.int64)
    m = Ragged(flat, offsets_of(np.array([len(row["m"]) for row in rows], dtype=np.int64)))
    am = encode_cross(SPEC.cross("am"), {"a": a, "m": m}, Filter())
    ab = encode_cross(SPEC.cross("ab"), {"a": a, "b": a[::-1]}, Filter())

    def id_of_conjunction(parts: tuple[int, ...]) -> int:
        found = bucket(parts, 64)
        return found if found in let_in else 64

    assert isinstance(am, Ragged)
    lists = [am.values[start:stop].tolist() for start, stop in pairwise(am.offsets.tolist())]
    assert lists == [sorted({id_of_conjunction((row["a"], h)) for h in row["m"]}) for row in rows]
    assert not isinstance(ab, Ragged)
    assert ab.tolist() == [id_of_conjunction(pair) for pair in zip(a.tolist(), a[::-1].tolist(), strict=True)]
    assert ab.dtype == np.int32


def test_an_exact_cross_looks_conjunctions_up_in_a_vocabulary() -> None:
    exact = Cross(name="c", fields=("a", "b"), vocabulary="exact")
    sides = np.array([[5, 5, 6, 7], [1, 2, 1, 1]])
    known = np.sort(combine([sides[0, :2], sides[1, :2]]))
    vocabulary = Vocabulary(known, np.array([9, 4], dtype=np.int32), retired=6)
    expected = {int(h): number for h, number in zip(known, (9, 4), strict=True)}
    found = encode_cross(exact, {"a": sides[0], "b": sides[1]}, vocabulary)
    assert not isinstance(found, Ragged)
    assert found.tolist() == [expected.get(int(h), OOV_ID) for h in combine([sides[0], sides[1]])]
    assert found.tolist().count(OOV_ID) == 2


@given(rows_of)
def test_numbers_are_transformed_row_by_row(rows: list[dict[str, Any]]) -> None:
    columns = encode(rows)
    assert columns["d_q"] == [float32(0.25 if r["q"] is None else quantile(r["q"])) for r in rows]
    assert columns["d_q_missing"] == [float(r["q"] is None) for r in rows]
    assert columns["d_i"] == [float32(0.0 if r["i"] is None else r["i"]) for r in rows]
    assert columns["d_i_missing"] == [float(r["i"] is None) for r in rows]
    logs = [0.0 if r["l"] is None else math.copysign(math.log1p(abs(r["l"])), r["l"]) for r in rows]
    np.testing.assert_allclose(columns["d_l"], [float32(x) for x in logs], rtol=1e-7)
    assert "d_l_missing" not in columns
    assert columns["d_s"] == [float32(0.0 if r["s"] is None else (r["s"] - 0.5) / 2.0) for r in rows]


@given(rows_of)
def test_frequency_statistics_follow_their_formulas(rows: list[dict[str, Any]]) -> None:
    columns = encode(rows)
    for n, row in enumerate(rows):
        shown, positive = row["n"], int(row["n"] * row["k"])
        rate = (positive + 0.2 * 3.0) / (shown + 3.0)
        expected = {
            "impressions": shown,
            "positives": positive,
            "rate": rate,
            "log_odds": math.log(rate / (1 - rate)) - math.log(0.2 / 0.8),
            "log_count": math.log1p(shown),
        }
        for name, value in expected.items():
            assert columns[f"d_f_all_{name}"][n] == pytest.approx(value, rel=1e-6, abs=1e-6)


def test_the_columns_come_in_the_order_of_the_data_set() -> None:
    names = [c.name for c in dataset_columns(SPEC, dict.fromkeys("abm", VOCABULARY.size))]
    assert list(encode([])) == names[1:]
    assert names[0] == "label"


TABLE = FrequencyTable(
    keys=np.array([-3, 0, 8, 9]),
    counts={
        "all": Counts(np.array([5, 1, 6, 1]), np.array([1, 0, 2, 1])),
        "1d": Counts(np.array([0, 1, 4, 0]), np.array([0, 0, 1, 0])),
    },
    ranks={"all": Ranks.of(np.array([5, 1, 6, 1])), "1d": Ranks.of(np.array([0, 1, 4, 0]))},
    age=np.array([7, 1, 3, 30]),
)


def test_a_key_has_its_own_history_and_an_unseen_one_has_none() -> None:
    found = TABLE.lookup(np.array([8, 7, -3, 99, 0]))
    more = found.counts["all"] + found.counts["1d"]
    assert more.impressions.tolist() == [10, 0, 5, 0, 2]
    assert more.positives.tolist() == [3, 0, 1, 0, 0]
    assert found.ranks["all"].tolist() == [4 / 4, 0, 3 / 4, 0, 2 / 4]
    assert found.ranks["1d"].tolist() == [2 / 2, 0, 0, 0, 1 / 2]
    assert found.age is not None
    assert found.age.tolist() == [3, 0, 7, 0, 1]
    none = np.zeros(0, np.int64)
    empty = FrequencyTable(none, {"all": Counts(none, none)}, {"all": Ranks.of(none)}, none).lookup(np.array([1]))
    assert (empty.counts["all"].impressions[0], empty.ranks["all"][0]) == (0, 0.0)


def test_a_list_of_keys_has_the_sum_of_their_counts_and_the_largest_rank_and_age() -> None:
    lists = [[8, -3], [], [7], [0, 9, 11], []]
    keys = Ragged(np.array([key for row in lists for key in row]), offsets_of(np.array([len(row) for row in lists])))
    found = TABLE.lookup(keys)
    assert found.counts["all"].impressions.tolist() == [11, 0, 0, 2, 0]
    assert found.counts["1d"].positives.tolist() == [1, 0, 0, 0, 0]
    assert found.ranks["all"].tolist() == [1.0, 0, 0, 0.5, 0]
    assert found.age is not None
    assert found.age.tolist() == [7, 0, 0, 30, 0]


def test_boundaries_are_ascending_and_zero_where_nothing_was_seen() -> None:
    assert fit_boundaries(np.array([2.0, 1.0, 1.0])).tolist() == [1.0, 1.0, 2.0]
    assert fit_boundaries(np.array([math.nan, math.nan])).tolist() == [0.0, 0.0]


def test_tables_lay_the_columns_side_by_side_without_overlap() -> None:
    columns = dataset_columns(SPEC, {"a": 5, "b": 6, "m": 7})
    layout = table_layout(columns)
    taken = [0] + [slot.offset + n for slot in layout.wide for n in range(slot.size)]
    assert taken == list(range(layout.wide_rows))
    assert "f_b" not in [slot.column.name for slot in layout.wide]
    assert {width: [(s.column.name, s.offset) for s in slots] for width, slots in layout.embeddings.items()} == {
        4: [("f_m", 0)],
        16: [("f_a", 0), ("f_b", 5)],
    }
    assert (layout.embedding_rows(4), layout.embedding_rows(16)) == (7, 11)
