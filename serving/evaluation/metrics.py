"""Metrics of scores: those that sums tell (contract.metrics.registry), calibration by bins, regret against the truth.

Of scores in memory, exactly, for benchmarks and as what the sums of evaluations and of the gate are held against
(serving.sums.passes).

Shapes: every argument is [n], one value an impression. label: 0 or 1; score, truth: probabilities; weight:
not negative; group: int64, features.encoder.hashing.MISSING for an impression without one. Log losses are in nats.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nightjar.features.contract.metrics.registry import Quality, quality
from nightjar.features.contract.metrics.sums import (
    Sums,
    cross_entropy,
    group_sums,
    loss_sums,
    ordered_pairs,
)
from nightjar.features.contract.strict import Strict
from nightjar.serving.sums.rows import Observations


class Metrics(Quality):
    """Metrics of one model: those of Quality, and those that take all scores or the truth; None without a truth.

    bayes_log_loss: log loss of the true probabilities on the same labels, the floor. expected_bayes_log_loss: in
    expectation over the labels, so free of their noise: the mean entropy of the truth. expected_regret is the mean KL
    divergence of the score from the truth.
    """

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


def quality_of(observed: Observations, score: np.ndarray) -> Quality:
    """The metrics that sums tell. n must be at least 1. Raises DataError if no row has a weight."""
    label, weight, score = observed.label, observed.weight, score.astype(np.float64)
    positive, negative = weight * label, weight * (1.0 - label)
    [pairs] = ordered_pairs(np.zeros(len(label)), score, positive, negative)
    groups = None if observed.group is None else group_sums(observed.group, score, positive, negative)
    return quality(Sums.of(loss_sums(label, score, weight), pairs, groups))


def measure(observed: Observations, score: np.ndarray) -> Metrics:
    """Every metric of one model's scores. n must be at least 1. Raises DataError if no row has a weight."""
    label, weight, truth = observed.label, observed.weight, observed.truth
    score = score.astype(np.float64)
    found = quality_of(observed, score)
    floor = None if truth is None else loss_sums(label, truth, weight)
    bayes = None if floor is None else float(floor[3] / floor[0])
    expected_bayes = None if truth is None else float(np.average(cross_entropy(truth, truth), weights=weight))
    expected_loss = None if truth is None else float(np.average(cross_entropy(truth, score), weights=weight))
    return Metrics(
        **found.model_dump(),
        calibration_error=calibration_error(bins(label, score, weight, 20)),
        bayes_log_loss=bayes,
        expected_bayes_log_loss=expected_bayes,
        regret=None if bayes is None else found.log_loss - bayes,
        expected_regret=None if expected_loss is None or expected_bayes is None else expected_loss - expected_bayes,
    )


def calibration_error(bins: Sequence[Bin]) -> float:
    """The expected calibration error. bins: of equal weight."""
    return sum(b.weight * abs(b.mean_score - b.mean_label) for b in bins)


def bins(label: np.ndarray, score: np.ndarray, weight: np.ndarray, count: int) -> list[Bin]:
    """Impressions in ascending order of score, in `count` bins of equal weight; empty bins are left out.

    Impressions without any weight are in no bin.

    Args:
        label: float64[n].
        score: float64[n].
        weight: float64[n].
        count: of the bins.
    """
    if not weight.sum():
        return []
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
