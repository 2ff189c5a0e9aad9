"""Ragged operations against plain Python lists."""

from __future__ import annotations

from itertools import pairwise
from itertools import product as cartesian

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nightjar.features.encoder.ragged import Ragged, of_scalars, offsets_of, product

lists = st.lists(st.lists(st.integers(-3, 3), max_size=5), max_size=8)


def ragged(rows: list[list[int]]) -> Ragged:
    flat = np.array([value for row in rows for value in row], dtype=np.int64)
    return Ragged(flat, offsets_of(np.array([len(row) for row in rows], dtype=np.int64)))


def plain(column: Ragged) -> list[list[int]]:
    bounds = column.offsets.tolist()
    return [column.values[a:b].tolist() for a, b in pairwise(bounds)]


@given(lists)
def test_a_ragged_column_is_its_lists(rows: list[list[int]]) -> None:
    column = ragged(rows)
    assert plain(column) == rows
    assert column.rows == len(rows)
    assert column.lengths.tolist() == [len(row) for row in rows]
    assert column.row_of_value.tolist() == [n for n, row in enumerate(rows) for _ in row]


ids = st.lists(st.lists(st.integers(-(2**31), 2**31 - 1) | st.integers(-1, 1), max_size=5), max_size=8)


@given(lists, ids)
def test_unique_sorts_each_list_and_drops_repeats(rows: list[list[int]], of_ids: list[list[int]]) -> None:
    assert plain(ragged(rows).unique()) == [sorted(set(row)) for row in rows]
    column = ragged(of_ids)
    unique = Ragged(column.values.astype(np.int32), column.offsets).unique()
    assert unique.values.dtype == np.int32
    assert plain(unique) == [sorted(set(row)) for row in of_ids]


@given(lists, st.data())
def test_take_picks_rows_in_any_order_and_repeatedly(rows: list[list[int]], data: st.DataObject) -> None:
    index = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=10)) if rows else []
    taken = ragged(rows).take(np.array(index, dtype=np.int64))
    assert plain(taken) == [rows[i] for i in index]


@given(
    st.lists(st.tuples(st.lists(st.integers(-3, 3), max_size=4), st.lists(st.integers(-3, 3), max_size=4)), max_size=6)
)
def test_product_pairs_every_left_with_every_right_of_its_row(rows: list[tuple[list[int], list[int]]]) -> None:
    left, right, offsets = product(ragged([a for a, _ in rows]), ragged([b for _, b in rows]))
    pairs = list(zip(left.tolist(), right.tolist(), strict=True))
    bounds = offsets.tolist()
    found = [pairs[a:b] for a, b in pairwise(bounds)]
    assert found == [list(cartesian(a, b)) for a, b in rows]


def test_scalars_are_lists_of_one() -> None:
    assert plain(of_scalars(np.array([4, 5]))) == [[4], [5]]
    assert plain(of_scalars(np.array([], dtype=np.int64))) == []
