"""Sums of integers, and what is read off histograms of scores."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st

from nightjar.features.contract.metrics.fixed_point import WEIGHT_BITS, FixedPoint
from nightjar.features.contract.metrics.score_bins import BINS, ScoreRanks, bins_of, coarser
from nightjar.features.contract.metrics.tally import Table, merge

ENTRIES = st.lists(st.tuples(st.integers(-5, 5), st.integers(-(2**40), 2**40), st.integers(0, 9)), max_size=20)


def table_of(entries: list[tuple[int, int, int]], *, largest: bool = False) -> Table:
    array = np.array(entries, np.int64).reshape(-1, 3)
    return Table.of(array[:, 0], array[:, 1:], largest=largest)


def content(table: Table) -> dict[int, tuple[int, ...]]:
    assert (np.diff(table.keys) > 0).all()
    return dict(zip(table.keys.tolist(), map(tuple, table.values.tolist()), strict=True))


@given(st.lists(ENTRIES, min_size=1, max_size=4), st.booleans(), st.randoms())
def test_parts_merge_to_the_whole_in_any_order_and_any_grouping(parts, largest, random) -> None:
    whole = [entry for part in parts for entry in part]
    expected: dict[int, tuple[int, ...]] = {}
    for key, *values in whole:
        before = expected.get(key)
        pairs = zip(before or values, values, strict=True)
        expected[key] = tuple(values) if before is None else tuple(map(max if largest else sum, pairs))
    tallies = [{"a": table_of(part, largest=largest)} for part in parts]
    random.shuffle(tallies)
    left = merge(tallies)["a"]
    right = merge([merge([first, merge(tallies[1:])]) for first in tallies[:1]])["a"]
    assert content(left) == content(right) == expected == content(table_of(whole, largest=largest))


def test_a_name_that_a_part_lacks_is_that_of_the_others() -> None:
    merged = merge([{"a": Table.one(1)}, {"b": Table.one(2)}, {"a": Table.one(5)}])
    assert {name: content(table) for name, table in merged.items()} == {"a": {0: (6,)}, "b": {0: (2,)}}


def test_dense_columns_come_back() -> None:
    dense = np.array([[0, 0], [3, 0], [0, 0], [0, -4]])
    assert Table.dense([*dense.T]).keys.tolist() == [1, 3]
    np.testing.assert_array_equal(Table.dense([*dense.T]).spread_over(4), dense)


@pytest.mark.parametrize("largest", [1.0, 0.75, 3e-5, 4096.0, 1e6])
def test_weights_are_integers_of_28_bits(largest: float) -> None:
    weight = largest * np.random.default_rng(0).random(1000)
    weight[0] = largest
    fixed = FixedPoint(FixedPoint.exponent_of(weight))
    written = fixed.weights(weight)
    assert (written == np.rint(written)).all()
    assert 2 ** (WEIGHT_BITS - 1) < written.max() <= 2**WEIGHT_BITS
    np.testing.assert_allclose(written * fixed.quantum, weight, rtol=0, atol=fixed.quantum / 2)


def test_equal_weights_are_exact() -> None:
    for weight in (1.0, 0.1, 7.0):
        fixed = FixedPoint(FixedPoint.exponent_of(np.array([weight])))
        assert fixed.weights(np.float32([weight]))[0] * fixed.quantum == np.float32(weight) or weight == 0.1


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=30))
def test_bins_are_in_the_order_of_the_scores(scores) -> None:
    ascending = np.sort(scores)
    bins = bins_of(ascending)
    assert (np.diff(bins) >= 0).all()
    assert bins[0] >= 0
    assert bins[-1] < BINS


def test_a_bin_is_a_2048th_of_a_nat() -> None:
    middle = (np.array([-16.2, -15.9998, -1.0, 0.0, 2.5, 15.9998, 16.2]) * 2048 + 0.5) / 2048
    expected = np.clip(np.floor(middle * 2048) + 32768, 0, BINS - 1)
    np.testing.assert_array_equal(bins_of(1.0 / (1.0 + np.exp(-middle))), expected)


def histograms(label: np.ndarray, score: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    bins = bins_of(score)
    tied = np.array([len(np.unique(score[bins == n])) <= 1 for n in range(BINS)]) if len(score) < 50 else None
    least, most = np.full(BINS, np.inf), np.full(BINS, -np.inf)
    np.minimum.at(least, bins, score)
    np.maximum.at(most, bins, score)
    assert tied is None or (tied == (most <= least)).all()
    return np.bincount(bins, weight * label, BINS), np.bincount(bins, weight * (1 - label), BINS), most <= least


@pytest.mark.parametrize("kind", ["apart", "tied", "constant", "crowded", "extreme"])
def test_the_auc_is_scikit_learns_within_the_bound_that_the_sums_yield(kind: str) -> None:
    random = np.random.default_rng(3)
    logit = random.normal(-2.0, 1.0, 3000)
    label = (random.random(3000) < 1.0 / (1.0 + np.exp(-logit))).astype(float)
    weight = random.integers(1, 5, 3000).astype(float)
    score = {
        "apart": 1.0 / (1.0 + np.exp(-(random.permutation(3000) - 1500) / 512.0)),
        "tied": np.round(1.0 / (1.0 + np.exp(-logit)), 2),
        "constant": np.full(3000, 0.2),
        "crowded": 0.3 + 1e-4 * logit,
        "extreme": np.where(logit > -2.0, 1.0 - 1e-9 * random.random(3000), 1e-9 * random.random(3000)),
    }[kind]
    ranks = ScoreRanks.of(*histograms(label, score, weight))
    exact = sklearn.metrics.roc_auc_score(label, score, sample_weight=weight)
    assert abs(ranks.auc - exact) <= ranks.bound + 1e-12
    collides = kind in ("crowded", "extreme")
    assert (ranks.bound > 0.0) == collides
    assert not collides or ranks.auc != pytest.approx(exact, abs=1e-9)


def test_the_bound_is_reached_where_a_bin_has_all_pairs_the_wrong_way() -> None:
    ranks = ScoreRanks.of(*histograms(np.array([1.0, 0.0]), np.array([0.5, 0.5001]), np.ones(2)))
    assert (ranks.auc, ranks.bound) == (0.5, 0.5)


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_a_single_class_has_no_auc(label: float) -> None:
    ranks = ScoreRanks.of(*histograms(np.full(3, label), np.array([0.1, 0.2, 0.3]), np.ones(3)))
    assert np.isnan(ranks.auc)
    assert not ranks.of_positive.any()
    assert not ranks.of_negative.any()


def test_coarser_bins_are_sums_of_neighbours() -> None:
    fine = np.arange(BINS)
    assert coarser(fine, 14)[:2].tolist() == [0 + 1 + 2 + 3, 4 + 5 + 6 + 7]
    assert coarser(fine, 14, np.maximum)[-1] == BINS - 1
