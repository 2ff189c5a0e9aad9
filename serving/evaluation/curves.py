"""What is drawn of a model's scores, from sums by bins of them: curves of calibration, distribution, regret.

Bins of equal weight are cut where the weight says, in the middle of a bin of scores if need be: what is in that bin is
dealt to both sides in proportion. So they differ from a cut between rows (serving.evaluation.metrics.bins) by part of
one bin of scores, which is 1/2048 nats wide.

Shapes: H bins of scores (contract.metrics.score_bins).
"""

from __future__ import annotations

import numpy as np

from nightjar.features.contract.metrics.registry import Quality
from nightjar.features.contract.metrics.score_bins import BINS, PER_NAT
from nightjar.serving.evaluation.metrics import Bin, Metrics, calibration_error
from nightjar.serving.sums.measure import BinSums

CALIBRATION_BINS = 20
LOGIT_EDGES = np.linspace(-10.0, 10.0, 81)


def equal_bins(sums: BinSums, count: int) -> tuple[Bin, ...]:
    """Bins of equal weight, ascending by score. count: how many."""
    ends_H = np.cumsum(sums.weight_H)
    cuts = np.linspace(0.0, ends_H[-1], count + 1)
    below, inside = np.concatenate([[0.0], ends_H]), np.concatenate([[True], sums.weight_H > 0])
    label, score = (
        np.diff(np.interp(cuts, below[inside], np.concatenate([[0.0], np.cumsum(of)])[inside]))
        for of in (sums.label_H, sums.score_H)
    )
    weight = ends_H[-1] / count
    return tuple(
        Bin(weight=1.0 / count, mean_score=s / weight, mean_label=y / weight)
        for s, y in zip(score.tolist(), label.tolist(), strict=True)
    )


def distribution(sums: BinSums) -> tuple[float, ...]:
    """Share of the weight in each interval of LOGIT_EDGES; what lies outside counts to the first or the last."""
    intervals = len(LOGIT_EDGES) - 1
    width = round((LOGIT_EDGES[1] - LOGIT_EDGES[0]) * PER_NAT)
    first = BINS // 2 + round(LOGIT_EDGES[0] * PER_NAT)
    place_H = np.clip((np.arange(BINS) - first) // width, 0, intervals - 1)
    return tuple((np.bincount(place_H, sums.weight_H, intervals) / sums.weight_H.sum()).tolist())


def metrics_of(sums: BinSums, quality: Quality) -> Metrics:
    """Every metric of a model. quality: those that its totals tell."""
    floor, expected_floor, expected = sums.losses or (None, None, None)
    return Metrics(
        **quality.model_dump(),
        calibration_error=calibration_error(equal_bins(sums, CALIBRATION_BINS)),
        bayes_log_loss=floor,
        expected_bayes_log_loss=expected_floor,
        regret=None if floor is None else quality.log_loss - floor,
        expected_regret=None if expected is None or expected_floor is None else expected - expected_floor,
    )
