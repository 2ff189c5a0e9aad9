"""Histograms of scores, fine enough for AUC, calibration curves and distributions, with a bound on what bins hide.

2^16 bins of equal width in log-odds: 1/2048 nats each within [-16, 16]; what lies beyond is in the first or the last.

**AUC.** A bin is an interval of scores. So a positive and a negative of different bins are ordered as their bins are,
and each such pair counts exactly. Pairs within a bin count one half; their true count is 0, 1/2 or 1. So the AUC is off
by at most half the weight of the pairs that share a bin, over the weight of all pairs. In a bin all of whose scores are
equal every pair counts one half by definition, so that it adds nothing. The histogram yields this bound itself.

Shapes: n scores, H bins.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

BITS = 16
BINS = 1 << BITS
PER_NAT = 2048
"""Bins of a nat of log-odds."""
_EDGES = 1.0 / (1.0 + np.exp(-np.arange(1 - BINS // 2, BINS // 2) / PER_NAT))


def bins_of(score: np.ndarray) -> np.ndarray:
    """The bin of each score: int64[n] in [0, BINS), not descending where scores ascend. score: probabilities."""
    return np.searchsorted(_EDGES, score, side="right")


def coarser(fine: np.ndarray, bits: int, combine: np.ufunc = np.add) -> np.ndarray:
    """Values of 2^bits wider bins, each combined of neighbours. fine: of the BINS bins."""
    return combine.reduce(fine.reshape(1 << bits, -1), axis=1)


@dataclass(frozen=True)
class ScoreRanks:
    """Where scores stand among those of the other class.

    auc: by bins, NaN where a class has no weight; bound: how far that may be off. positives, negatives: weight of each
    class. of_positive, of_negative: by bin, the AUC of a positive, i.e. the share of the negatives that it beats,
    and of a negative: the share of the positives that beat it; float64[H], less `auc`.
    """

    auc: float
    bound: float
    positives: float
    negatives: float
    of_positive: np.ndarray
    of_negative: np.ndarray

    @classmethod
    def of(cls, positive: np.ndarray, negative: np.ndarray, tied: np.ndarray) -> ScoreRanks:
        """Ranks from the weight of each class by bin.

        Args:
            positive: of the positives.
            negative: of the negatives.
            tied: bool[H], whether all scores in the bin are equal.
        """
        positive, negative = positive.astype(np.float64), negative.astype(np.float64)
        positives, negatives = float(positive.sum()), float(negative.sum())
        pairs = positives * negatives
        if not pairs:
            nothing = np.zeros(len(positive))
            return cls(np.nan, 0.0, positives, negatives, nothing, nothing)
        below = (np.cumsum(negative) - 0.5 * negative) / negatives
        above = (positives - np.cumsum(positive) + 0.5 * positive) / positives
        auc = float(np.sum(positive * below) / positives)
        shared = float(np.sum((positive * negative)[~tied]))
        return cls(auc, 0.5 * shared / pairs, positives, negatives, below - auc, above - auc)
