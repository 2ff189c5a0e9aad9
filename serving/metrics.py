"""How good probabilities are: log loss, AUC, GAUC, calibration, and regret against a known truth.

Shapes: every argument is [n], one value an impression. label: 0 or 1; score, truth: probabilities; weight:
positive; group: int64, features.hashing.MISSING for an impression without one. Log losses are in nats.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import sklearn.metrics

from features.hashing import MISSING
from features.spec import Strict

CLIP = 1e-7


@dataclass(frozen=True)
class Observations:
    """What is known of the impressions apart from the models' scores: float64[n] each, group int64[n]."""

    label: np.ndarray
    weight: np.ndarray
    group: np.ndarray | None = None
    truth: np.ndarray | None = None


class Metrics(Strict):
    """Figures of one model; None where the data do not define one (a single class, no group, no truth).

    base_rate: mean label.
    normalized_entropy: log_loss / entropy of the base rate (He et al. 2014, section 3).
    gauc, gauc_share: mean of the groups' AUC, weighted by impressions, over the groups with both classes;
    the share of the impressions that are in such groups.
    calibration: mean score / mean label.
    calibration_error: mean |mean score - mean label| over twenty bins of equal weight (ECE).
    bayes_log_loss: log loss of the true probabilities on the same labels, the floor.
    regret: log_loss - bayes_log_loss.
    expected_bayes_log_loss, expected_regret: both in expectation over the labels, so free of their noise:
    mean entropy of the truth, and mean KL divergence of the score from the truth.
    """

    base_rate: float
    log_loss: float
    normalized_entropy: float | None
    auc: float | None
    gauc: float | None
    gauc_share: float | None
    calibration: float | None
    calibration_error: float
    bayes_log_loss: float | None
    expected_bayes_log_loss: float | None
    regret: float | None
    expected_regret: float | None


class Bin(Strict):
    """Impressions with neighbouring scores. weight: share of the total weight."""

    weight: float
    mean_score: float
    mean_label: float


def measure(observed: Observations, score: np.ndarray) -> Metrics:
    """Every metric of one model's scores. n must be at least 1."""
    label, weight, truth = observed.label, observed.weight, observed.truth
    score = score.astype(np.float64)
    base_rate = float(np.average(label, weights=weight))
    both = 0.0 < base_rate < 1.0
    loss = log_loss(label, score, weight)
    grouped = None if observed.group is None else gauc(label, score, observed.group, weight)
    bayes = None if truth is None else log_loss(label, truth, weight)
    expected_bayes = None if truth is None else float(np.average(cross_entropy(truth, truth), weights=weight))
    expected_loss = None if truth is None else float(np.average(cross_entropy(truth, score), weights=weight))
    return Metrics(
        base_rate=base_rate,
        log_loss=loss,
        normalized_entropy=loss / float(cross_entropy(base_rate, base_rate)) if both else None,
        auc=float(sklearn.metrics.roc_auc_score(label, score, sample_weight=weight)) if both else None,
        gauc=grouped[0] if grouped else None,
        gauc_share=grouped[1] if grouped else None,
        calibration=float(np.average(score, weights=weight)) / base_rate if base_rate else None,
        calibration_error=sum(b.weight * abs(b.mean_score - b.mean_label) for b in bins(label, score, weight, 20)),
        bayes_log_loss=bayes,
        expected_bayes_log_loss=expected_bayes,
        regret=None if bayes is None else loss - bayes,
        expected_regret=None if expected_loss is None or expected_bayes is None else expected_loss - expected_bayes,
    )


def log_loss(label: np.ndarray, score: np.ndarray, weight: np.ndarray) -> float:
    """Mean of -ln P(label), scores clipped to [1e-7, 1 - 1e-7]."""
    return float(sklearn.metrics.log_loss(label, _clip(score), sample_weight=weight, labels=[0, 1]))


def cross_entropy(truth: np.ndarray | float, score: np.ndarray | float) -> np.ndarray:
    """Expected log loss of each score when the label is drawn with probability `truth`: float64[n]."""
    q = _clip(score)
    return -(truth * np.log(q) + (1.0 - truth) * np.log1p(-q))


def gauc(label: np.ndarray, score: np.ndarray, group: np.ndarray, weight: np.ndarray) -> tuple[float, float] | None:
    """Mean AUC within groups, weighted by impressions, and the share of the weight that it covers.

    A group's AUC is P(positive's score > negative's) + P(equal) / 2, by weight. Groups of one class have none
    and are left out. None if no group has both classes.
    """
    total = weight.sum()
    known = group != MISSING
    label, score, group, weight = label[known], score[known], group[known], weight[known]
    if not len(label):
        return None
    unit = np.unique(group, return_inverse=True)[1]
    auc = group_auc(label, score, unit, weight)
    both = ~np.isnan(auc)
    if not both.any():
        return None
    impressions = np.bincount(unit, weight)[both]
    return float(np.average(auc[both], weights=impressions)), float(impressions.sum() / total)


def group_auc(label: np.ndarray, score: np.ndarray, unit: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """AUC within each group, float64[groups]; NaN for a group of one class. unit: int64[n] in [0, groups)."""
    order = np.lexsort((score, unit))
    score, unit = score[order], unit[order]
    positive, negative = (weight * label)[order], (weight * (1.0 - label))[order]
    ties = run_starts(unit, score)
    unit_of_tie = unit[ties]
    tied_positive, tied_negative = np.add.reduceat(positive, ties), np.add.reduceat(negative, ties)
    before = np.cumsum(tied_negative) - tied_negative
    below = before - before[run_starts(unit_of_tie)][unit_of_tie] + 0.5 * tied_negative
    wins, positives, negatives = (
        np.bincount(unit_of_tie, values) for values in (tied_positive * below, tied_positive, tied_negative)
    )
    pairs = positives * negatives
    return np.divide(wins, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0)


def run_starts(*sorted_together: np.ndarray) -> np.ndarray:
    """Where a run of rows begins that are equal in all of these columns."""
    changes = [column[1:] != column[:-1] for column in sorted_together]
    return np.flatnonzero(np.r_[True, np.logical_or.reduce(changes)])


def bins(label: np.ndarray, score: np.ndarray, weight: np.ndarray, count: int) -> list[Bin]:
    """Impressions in ascending order of score, in `count` bins of equal weight, the empty ones left out."""
    order = np.argsort(score, kind="stable")
    label, score, weight = label[order], score[order], weight[order]
    middle = np.cumsum(weight) - 0.5 * weight
    number = np.minimum((middle / weight.sum() * count).astype(np.int64), count - 1)
    totals, scores, labels = (
        np.bincount(number, values, minlength=count) for values in (weight, weight * score, weight * label)
    )
    return [
        Bin(weight=w / weight.sum(), mean_score=s / w, mean_label=y / w)
        for w, s, y in zip(totals.tolist(), scores.tolist(), labels.tolist(), strict=True)
        if w > 0
    ]


def _clip(probability: np.ndarray | float) -> np.ndarray:
    return np.clip(np.asarray(probability, dtype=np.float64), CLIP, 1.0 - CLIP)
