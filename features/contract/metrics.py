"""What the metrics mean: one set of definitions for the trainer's validation and for serving's evaluation.

Every metric is a ratio of sums over impressions or over groups of them, and sums of parts add up: one process and N
workers compute the same figures.

Shapes: n impressions, G groups. label: 0 or 1; score: probabilities; weight: not negative; group: int64,
hashing.MISSING for an impression without one. Log losses are in nats.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nightjar.features.contract.errors import DataError
from nightjar.features.encoder.hashing import MISSING

CLIP = 1e-7


@dataclass(frozen=True)
class Quality:
    """Figures of one model; None where the data do not define one (a single class, no group).

    base_rate: mean label.
    normalized_entropy: log_loss / entropy of the base rate (He et al. 2014, section 3).
    gauc, gauc_share: mean of the groups' AUC, weighted by impressions, over the groups with both classes;
    the share of the impressions that are in such groups.
    calibration: mean score / mean label.
    """

    base_rate: float
    log_loss: float
    normalized_entropy: float | None
    auc: float | None
    gauc: float | None
    gauc_share: float | None
    calibration: float | None


def quality(totals: np.ndarray, pairs: np.ndarray, groups: np.ndarray | None) -> Quality:
    """The figures that these sums mean: of `loss_sums`, `ordered_pairs` and, if there are groups, `group_sums`.

    Raises DataError if the rows have no weight.
    """
    weight, label, score, loss = totals.tolist()
    if not weight:
        raise DataError(
            "the held-out rows have no weight, so that nothing can be measured on them. Correct the column of weights, "
            "or choose other rows."
        )
    won, positives, negatives = pairs.tolist()
    both = positives > 0 and negatives > 0
    base_rate, log_loss = label / weight, loss / weight
    grouped, covered = (0.0, 0.0) if groups is None else groups.tolist()
    return Quality(
        base_rate=base_rate,
        log_loss=log_loss,
        normalized_entropy=log_loss / float(cross_entropy(base_rate, base_rate)) if both else None,
        auc=won / (positives * negatives) if both else None,
        gauc=grouped / covered if covered else None,
        gauc_share=covered / weight if covered else None,
        calibration=score / label if label else None,
    )


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
