"""Admission filters and figures against sets, dictionaries and simulations."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightjar.features.encoder.admission import (
    SKETCH_REGISTERS,
    CountingBloomFilter,
    Listed,
    bloom_positions,
    estimate_distinct,
    expected_collision_rate,
)

INT64 = st.integers(-(2**63), 2**63 - 1)


def positions_by_hand(value: int, counters: int, count: int) -> list[int]:
    """Double hashing, in Python's unbounded integers."""
    low, high = value % 2**32, (value % 2**64) // 2**32 // 2 * 2 + 1
    return [(low + i * high) % counters for i in range(count)]


@given(st.lists(INT64, max_size=20), st.integers(6, 30), st.integers(1, 16))
def test_the_counters_of_a_conjunction_are_different_and_by_double_hashing(
    values: list[int], bits: int, count: int
) -> None:
    found = bloom_positions(np.array(values, dtype=np.int64), 2**bits, count)
    assert found.shape == (len(values), count)
    assert found.tolist() == [positions_by_hand(value, 2**bits, count) for value in values]
    assert all(len(set(row)) == count for row in found.tolist())


@given(st.lists(st.integers(0, 60), max_size=300), st.integers(2, 4), st.integers(1, 4))
def test_a_bloom_filter_admits_what_a_dictionary_of_counters_does_and_never_too_late(
    seen: list[int], min_count: int, count: int
) -> None:
    hashes = np.random.default_rng(5).integers(-(2**63), 2**63, 61)
    occurrences = Counter(int(hashes[n]) for n in seen)
    counters: Counter[int] = Counter()
    for value, n in occurrences.items():
        for position in positions_by_hand(value, 64, count):
            counters[position] += n
    bloom = CountingBloomFilter(np.array([counters[i] >= min_count for i in range(64)]), count)
    expected = [min(counters[i] for i in positions_by_hand(int(h), 64, count)) >= min_count for h in hashes]
    assert bloom.admits(hashes).tolist() == expected
    assert all(admitted or occurrences[int(h)] < min_count for h, admitted in zip(hashes, expected, strict=True))


@given(st.sets(INT64, max_size=30), st.lists(INT64, max_size=30))
def test_a_list_admits_its_members(listed: set[int], others: list[int]) -> None:
    asked = [*others, *sorted(listed)]
    admits = Listed(np.array(sorted(listed), dtype=np.int64)).admits(np.array(asked, dtype=np.int64))
    assert admits.tolist() == [value in listed for value in asked]


@pytest.mark.parametrize("distinct", [0, 1, 30, 3000, 40_000, 300_000])
def test_a_sketch_estimates_how_many_hashes_there_were(distinct: int) -> None:
    hashes = np.random.default_rng(distinct).integers(0, 2**64, distinct, dtype=np.uint64)
    ranks: dict[int, int] = {}
    for value in hashes.tolist():
        register, rest = value % SKETCH_REGISTERS, value // SKETCH_REGISTERS
        ranks[register] = max(ranks.get(register, 0), (rest & -rest).bit_length())
    # Five standard errors, and the bias of the classic estimator where it leaves linear counting.
    assert estimate_distinct(np.array(list(ranks.values()), dtype=np.int64)) == pytest.approx(distinct, rel=0.08)


@pytest.mark.parametrize(("conjunctions", "buckets"), [(1, 2), (30, 64), (3000, 1024), (500, 2**20)])
def test_the_expected_collision_rate_is_the_mean_of_many_throws(conjunctions: int, buckets: int) -> None:
    rng = np.random.default_rng(conjunctions)
    rates = [1 - len(np.unique(rng.integers(buckets, size=conjunctions))) / conjunctions for _ in range(400)]
    error = max(np.std(rates) / 20, 1e-12)
    assert expected_collision_rate(conjunctions, buckets) == pytest.approx(np.mean(rates), abs=5 * error)
    assert expected_collision_rate(0, buckets) == 0.0
