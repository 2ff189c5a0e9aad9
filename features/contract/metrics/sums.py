"""Sums that metrics are ratios of, from arrays of labels and scores.

Sums of parts add up: one process and N workers come to the same metrics (features.contract.metrics.registry).

Shapes: n impressions, G groups. label: 0 or 1; score: probabilities; weight: not negative; group: int64,
hashing.MISSING for an impression without one. Log losses are in nats.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nightjar.features.encoder.hashing import MISSING

CLIP = 1e-7


@dataclass(frozen=True)
class Sums:
    """Sums over impressions, all of them by weight.

    weight, label, score, loss: sums of weight, and of weight times label, score and log loss.
    won, positives, negatives: weight of the pairs of a positive and a negative in which the positive has the higher
    score, pairs of equal scores counting half; weight of each class.
    group_auc, group_weight: over the groups with both classes, sums of weight times AUC, and of weight; 0 without
    groups.
    """

    weight: float
    label: float
    score: float
    loss: float
    won: float
    positives: float
    negatives: float
    group_auc: float = 0.0
    group_weight: float = 0.0

    @classmethod
    def of(cls, totals: np.ndarray, pairs: np.ndarray, groups: np.ndarray | None) -> Sums:
        """Join what `loss_sums`, `ordered_pairs` of one group and, if there are groups, `group_sums` return.

        Args:
            totals: float64[4].
            pairs: float64[3].
            groups: float64[2], or None.
        """
        return cls(*totals.tolist(), *pairs.tolist(), *([] if groups is None else groups.tolist()))


def loss_sums(label: np.ndarray, score: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Sums of weight, and of weight times label, score and log loss: float64[4]."""
    columns = np.stack([np.ones(len(label)), label, score, cross_entropy(label, score)])
    return columns @ weight.astype(np.float64)


def ordered_pairs(group: np.ndarray, score: np.ndarray, positive: np.ndarray, negative: np.ndarray) -> np.ndarray:
    """What a group's AUC is made of, groups ascending: float64[G, 3].

    positive, negative: the weight that a row has in either class. Columns: weight of the pairs of a positive and a
    negative in which the positive has the higher score, pairs of equal scores counting half; weight of the positives;
    weight of the negatives. The AUC is the first over the product of the others.
    """
    order = np.lexsort((score, group))
    group, score, positive, negative = group[order], score[order], positive[order], negative[order]
    changes = _changes(group)
    group_starts = np.flatnonzero(changes)
    tie_starts = np.flatnonzero(changes | _changes(score))
    if not len(group_starts):
        return np.empty((0, 3))
    tied_positive, tied_negative = np.add.reduceat(positive, tie_starts), np.add.reduceat(negative, tie_starts)
    group_of_tie = np.searchsorted(group_starts, tie_starts, side="right") - 1
    before = np.cumsum(tied_negative) - tied_negative
    below = before - before[np.searchsorted(tie_starts, group_starts)][group_of_tie]
    won = np.bincount(group_of_tie, tied_positive * (below + 0.5 * tied_negative))
    positives, negatives = np.add.reduceat(positive, group_starts), np.add.reduceat(negative, group_starts)
    return np.stack([won, positives, negatives], axis=1)


def group_sums(group: np.ndarray, score: np.ndarray, positive: np.ndarray, negative: np.ndarray) -> np.ndarray:
    """Sums over the groups with both classes of weight times AUC, and of weight: float64[2]."""
    known = group != MISSING
    pairs = ordered_pairs(group[known], score[known], positive[known], negative[known])
    won, positives, negatives = pairs[(pairs[:, 1] > 0) & (pairs[:, 2] > 0)].T
    impressions = positives + negatives
    return np.array([np.sum(impressions * (won / (positives * negatives))), np.sum(impressions)])


def cross_entropy(truth: np.ndarray | float, score: np.ndarray | float) -> np.ndarray:
    """Expected log loss of each score when the label is drawn with probability `truth`: float64[n].

    Of a label instead of a probability: its log loss. Scores are clipped to [1e-7, 1 - 1e-7].
    """
    q = np.clip(np.asarray(score, dtype=np.float64), CLIP, 1.0 - CLIP)
    return -(truth * np.log(q) + (1.0 - truth) * np.log1p(-q))


def _changes(ascending: np.ndarray) -> np.ndarray:
    changed = np.ones(len(ascending), dtype=bool)
    changed[1:] = ascending[1:] != ascending[:-1]
    return changed
