"""Metrics of models in parts of the impressions, with a paired bootstrap of the candidate's differences to the others.

All models are measured on the same resample. It draws whole groups, i.e. users, because the impressions of one user
are not independent; impressions without a group are drawn one by one.

Shapes: B impressions; U units that are drawn; P impressions and S units of a part (serving.gate.parts); T runs of equal
scores; R resamples; C comparisons. Scores are float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nightjar.features.contract.metrics.registry import COMPARED, SumMetric
from nightjar.features.contract.metrics.sums import Sums, cross_entropy, ordered_pairs
from nightjar.serving.gate.parts import Part

DrawnSums = Callable[[np.ndarray], Sums]
"""A model's sums in a part: how often each unit was drawn, float64[S] -> the sums of the resample."""


def draws(units: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Resamples of the bootstrap: how often each unit comes up in as many draws as there are units, float64[U].

    Args:
        units: U.
        resamples: R.
        seed: of the draws.
    """
    generator = np.random.default_rng(seed)
    for _ in range(resamples):
        drawn = generator.integers(max(units, 1), size=units)  # there may be no unit: no impression has a weight
        yield np.bincount(drawn, minlength=units).astype(np.float64)


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
    """

    metric: SumMetric
    part: Part
    candidate: float
    other: float
    difference_R: np.ndarray

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


def compare_paired(
    parts: Sequence[Part],
    candidate_B: np.ndarray,
    others: Mapping[str, np.ndarray],
    baselines: Mapping[str, np.ndarray],
    *,
    resamples: int,
    seed: int,
) -> tuple[list[PairedComparison], dict[str, list[PairedComparison]]]:
    """Compare the candidate with other models by every metric that is defined in every part.

    Returns the candidate alone, and the comparisons with each of the others and the baselines by name: part by part, in
    the order of COMPARED.

    Args:
        parts: all impressions first, then slices of them.
        candidate_B: the candidate's scores.
        others: scores of the models that it is compared with in every part.
        baselines: scores of those that it is compared with in all impressions only.
        resamples: R.
        seed: of the draws.
    """
    candidates = [_sums_of(part, candidate_B[part.rows_P]) for part in parts]
    models = {name: [_sums_of(part, score_B[part.rows_P]) for part in parts] for name, score_B in others.items()}
    models |= {name: [_sums_of(parts[0], score_B[parts[0].rows_P])] for name, score_B in baselines.items()}
    drawn: dict[str, list[list[float]]] = {name: [] for name in models}
    for drawn_U in draws(len(parts[0].units_S), resamples, seed) if models else ():
        values = _values(parts, candidates, drawn_U)
        for name, model in models.items():
            drawn[name].append([new - old for new, old in zip(values, _values(parts, model, drawn_U), strict=False)])
    once_U = np.ones(len(parts[0].units_S))
    values = _values(parts, candidates, once_U)
    places = [(metric, part) for part in parts for metric in _defined(part)]
    alone = [
        PairedComparison(metric, part, value, math.nan, np.empty(0))
        for (metric, part), value in zip(places, values, strict=True)
    ]
    compared = {
        name: [
            PairedComparison(metric, part, value, other, difference_R)
            for (metric, part), value, other, difference_R in zip(  # a baseline's end with the first part
                places, values, _values(parts, model, once_U), np.array(drawn[name]).T, strict=False
            )
        ]
        for name, model in models.items()
    }
    return alone, compared


def draw_calibration(whole: Part, score_B: np.ndarray, *, resamples: int, seed: int) -> np.ndarray:
    """Sum of scores / sum of labels in every resample, NaN without a positive: float64[R].

    Args:
        whole: all impressions.
        score_B: a model's scores.
        resamples: R.
        seed: of the draws, which are those of `compare_paired`.
    """
    score_S = whole.by_unit(whole.weight_P * score_B[whole.rows_P])
    drawn = [
        (np.sum(drawn_U * score_S), np.sum(drawn_U * whole.unit_positive))
        for drawn_U in draws(len(whole.units_S), resamples, seed)
    ]
    score_R, label_R = np.array(drawn).T
    return np.divide(score_R, label_R, out=np.full(resamples, np.nan), where=label_R > 0)


def _defined(part: Part) -> list[SumMetric]:
    return [metric for metric in COMPARED if metric.needs != "groups" or part.grouped_S.any()]


def _values(parts: Sequence[Part], model: Sequence[DrawnSums], drawn_U: np.ndarray) -> list[float]:
    """A model's metrics in the parts that it has sums of, NaN where one is undefined."""
    return [
        math.nan if (value := metric.formula(sums)) is None else value
        for part, sums_of in zip(parts, model, strict=False)
        for sums in [sums_of(drawn_U[part.units_S])]
        for metric in _defined(part)
    ]


def _sums_of(part: Part, score_P: np.ndarray) -> DrawnSums:
    """What does not change from resample to resample is computed here, once."""
    loss_S = part.by_unit(part.weight_P * cross_entropy(part.label_P, score_P))
    score_S = part.by_unit(part.weight_P * score_P)
    pairs = _ordered_pairs(part, score_P)
    group_auc_S, group_weight_S = _group_sums(part, score_P)

    def sums(drawn_S: np.ndarray) -> Sums:
        won, positives, negatives = pairs(drawn_S)
        return Sums(
            weight=np.sum(drawn_S * part.unit_weight),
            label=np.sum(drawn_S * part.unit_positive),
            score=np.sum(drawn_S * score_S),
            loss=np.sum(drawn_S * loss_S),
            won=won,
            positives=positives,
            negatives=negatives,
            group_auc=np.sum(drawn_S * group_auc_S),
            group_weight=np.sum(drawn_S * group_weight_S),
        )

    return sums


def _ordered_pairs(part: Part, score_P: np.ndarray) -> Callable[[np.ndarray], tuple[float, float, float]]:
    """Weight of the ordered pairs, of the positives and of the negatives in a resample. Sorted once for all of them."""
    order_P = np.argsort(score_P, kind="stable")
    starts_T = np.flatnonzero(np.diff(score_P[order_P], prepend=np.nan))
    unit_P = part.unit_P[order_P]
    positive_P = (part.weight_P * part.label_P)[order_P]
    negative_P = (part.weight_P * (1.0 - part.label_P))[order_P]

    def pairs(drawn_S: np.ndarray) -> tuple[float, float, float]:
        drawn_P = drawn_S[unit_P]
        positive_T = np.add.reduceat(positive_P * drawn_P, starts_T)
        negative_T = np.add.reduceat(negative_P * drawn_P, starts_T)
        below_T = np.cumsum(negative_T) - 0.5 * negative_T
        return np.sum(positive_T * below_T), np.sum(positive_T), np.sum(negative_T)

    return pairs


def _group_sums(part: Part, score_P: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weight times AUC, and weight, of each unit with both classes: float64[S] each, 0 for the others.

    No resample changes a group's own AUC. Impressions without a group have one class each and are left out so.
    """
    positive_P, negative_P = part.weight_P * part.label_P, part.weight_P * (1.0 - part.label_P)
    won_S, positive_S, negative_S = ordered_pairs(part.unit_P, score_P, positive_P, negative_P).T
    pairs_S = positive_S * negative_S
    weight_S = np.where(pairs_S > 0, part.unit_weight, 0.0)
    return weight_S * np.divide(won_S, pairs_S, out=np.zeros_like(won_S), where=pairs_S > 0), weight_S
