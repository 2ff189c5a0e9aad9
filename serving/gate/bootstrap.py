"""Metrics of models in parts of the impressions, with a paired bootstrap of the candidate's differences to the others.

All models are measured on the same resamples (serving.sums.draws). They draw whole groups, i.e. users, because the
impressions of one user are not independent; impressions without a group are drawn one by one.

Shapes: R resamples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nightjar.features.contract.metrics.registry import AUC, CALIBRATION, COMPARED, SumMetric
from nightjar.features.contract.metrics.sums import Sums
from nightjar.serving.sums.measure import PartSums
from nightjar.serving.sums.parts import Part


def bounds_of(value_R: np.ndarray, confidence: float) -> tuple[float, float] | None:
    """One-sided lower and upper bounds from resamples, each at `confidence`; None if there are none.

    Resamples where the value is undefined, i.e. NaN, count as the worst.
    """
    last, undefined = len(value_R) - 1, np.count_nonzero(np.isnan(value_R))
    low, high = math.floor(last * (1.0 - confidence)) - undefined, math.ceil(last * confidence)
    if low < 0 or high > last - undefined:
        return None
    ascending_R = np.sort(value_R)  # NaN last
    return float(ascending_R[low]), float(ascending_R[high])


@dataclass(frozen=True)
class PairedComparison:
    """A metric of the candidate and of another model in a part, and candidate - other in every resample.

    NaN where a resample leaves the metric undefined. other is NaN and difference_R empty where the candidate is alone.
    error_bound: how far bins of scores may have moved the difference, or the candidate's value where it is alone.
    """

    metric: SumMetric
    part: Part
    candidate: float
    other: float
    difference_R: np.ndarray
    error_bound: float = 0.0

    @property
    def undefined(self) -> int:
        """Resamples that leave the metric undefined."""
        return int(np.isnan(self.difference_R).sum())

    @property
    def standard_error(self) -> float | None:
        """Of the difference: its standard deviation over the resamples; None where any leaves it undefined."""
        if len(self.difference_R) < 2 or self.undefined:
            return None
        return float(np.std(self.difference_R, ddof=1))

    def bounds(self, confidence: float) -> tuple[float, float] | None:
        """One-sided lower and upper bounds of the difference; None if there are none."""
        return bounds_of(self.difference_R, confidence)


def alone(candidate: Sequence[PartSums]) -> list[PairedComparison]:
    """The candidate by itself by every metric that is defined in every part: part by part, in the order of COMPARED."""
    return [
        PairedComparison(
            metric, of_part.part, _value(metric, of_part.once), math.nan, np.empty(0), _bound(metric, of_part)
        )
        for of_part in candidate
        for metric in _defined(of_part.part)
    ]


def compare_paired(candidate: Sequence[PartSums], other: Sequence[PartSums]) -> list[PairedComparison]:
    """Compare the candidate with another model by every metric that is defined in every part: part by part, in the
    order of COMPARED.

    Args:
        candidate: its sums by part.
        other: the other model's in the same parts, or in the first of them.
    """
    return [
        PairedComparison(
            metric,
            new.part,
            _value(metric, new.once),
            _value(metric, old.once),
            np.array([_value(metric, a) - _value(metric, b) for a, b in zip(new.drawn, old.drawn, strict=True)]),
            _bound(metric, new) + _bound(metric, old),
        )
        for new, old in zip(candidate, other, strict=False)
        for metric in _defined(new.part)
    ]


def drawn_calibration(whole: PartSums) -> np.ndarray:
    """Sum of scores / sum of labels in every resample, NaN without a positive: float64[R]. whole: a model's sums."""
    return np.array([_value(CALIBRATION, sums) for sums in whole.drawn])


def _defined(part: Part) -> list[SumMetric]:
    return [metric for metric in COMPARED if metric.needs != "groups" or part.groups]


def _value(metric: SumMetric, sums: Sums) -> float:
    value = metric.formula(sums)
    return math.nan if value is None else value


def _bound(metric: SumMetric, model: PartSums) -> float:
    return model.auc_bound if metric is AUC else 0.0
