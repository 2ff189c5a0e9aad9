"""Which conjunctions of a hashed cross have a weight of their own (McMahan et al. 2013, section 4.1).

Half of all conjunctions of a log are seen once and cost as much memory as the others. A cross may leave them out by
exact count, by Poisson inclusion or by a counting Bloom filter (features.contract.categorical.Admission).
features.counts.conjunctions counts, in Spark; here is what the encoder asks, and what the figures of a state are
computed with.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nightjar.features.encoder.hashing import find

SKETCH_REGISTERS = 2**12
RANK_BITS = 6
_ALPHA = 0.7213 / (1.0 + 1.079 / SKETCH_REGISTERS)


@dataclass(frozen=True)
class Listed:
    """Exactly those that are listed. hashes: int64[n], ascending."""

    hashes: np.ndarray

    def admits(self, hashes: np.ndarray) -> np.ndarray:
        """Whether each conjunction is listed: bool[n]."""
        return find(self.hashes, hashes)[1]


@dataclass(frozen=True)
class CountingBloomFilter:
    """Those whose counters have all reached the minimum count. reached: bool[counters]; hashes: counters of each."""

    reached: np.ndarray
    hashes: int

    def admits(self, hashes: np.ndarray) -> np.ndarray:
        """Whether each conjunction is taken to be frequent enough: bool[n]."""
        return self.reached[bloom_positions(hashes, len(self.reached), self.hashes)].all(axis=1)


def bloom_positions(hashes: np.ndarray, counters: int, count: int) -> np.ndarray:
    """The counters of each conjunction: int64[n, count], all different; counters is a power of two.

    position_i = (low + i high) mod counters, from the two halves of the hash, the higher one made odd (double hashing,
    Kirsch and Mitzenmacher 2006).
    """
    low = hashes & np.int64(2**32 - 1)
    high = (hashes.view(np.uint64) >> np.uint64(32)).astype(np.int64) | 1
    return (low[:, None] + np.arange(count) * high[:, None]) & np.int64(counters - 1)


def free_bits(counters: int) -> int:
    """A counter's position is kept in the leading bits of an int64; so many bits are after it."""
    return 65 - counters.bit_length()


def estimate_distinct(ranks: np.ndarray) -> int:
    """How many hashes a sketch has seen. ranks: of those of its SKETCH_REGISTERS registers that are not empty.

    HyperLogLog (Flajolet et al. 2007), E = alpha m^2 / sum of 2^-rank, with linear counting m log(m / empty) where E is
    at most 2.5 m. Standard error: 1.04 / sqrt(m) = 1.6 %.
    """
    empty = SKETCH_REGISTERS - len(ranks)
    estimate = _ALPHA * SKETCH_REGISTERS**2 / (empty + np.sum(2.0 ** -ranks.astype(np.float64)))
    if estimate <= 2.5 * SKETCH_REGISTERS and empty:
        estimate = SKETCH_REGISTERS * np.log(SKETCH_REGISTERS / empty)
    return round(float(estimate))


def expected_collision_rate(conjunctions: int, buckets: int) -> float:
    """1 - m (1 - (1 - 1/m)^d) / d for d conjunctions that fall into m buckets at random; 0 without any."""
    if not conjunctions:
        return 0.0
    occupied = -buckets * np.expm1(conjunctions * np.log1p(-1.0 / buckets))
    return round(max(0.0, float(1.0 - occupied / conjunctions)), 9)
