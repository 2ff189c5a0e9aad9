"""Metrics of two models in parts of the impressions, with a paired bootstrap of their differences.

Both models are measured on the same resample. It draws whole groups, i.e. users, because the impressions of one user
are not independent; impressions without a group are drawn one by one.

Shapes: B impressions; U units that are drawn; P impressions and S units of a part (serving.gate.parts); T runs of equal
scores; R resamples; C comparisons. Scores are float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
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


@dataclass(frozen=True)
class PairedComparison:
    """A metric of both models in a part, and candidate - champion in every resample, NaN where it is undefined.

    champion is NaN and difference_R empty where there is no champion.
    """

    metric: SumMetric
    part: Part
    candidate: float
    champion: float
    difference_R: np.ndarray

    @property
    def undefined(self) -> int:
        """Resamples that leave the metric undefined."""
        return int(np.isnan(self.difference_R).sum())

    def bounds(self, confidence: float) -> tuple[float, float] | None:
        """One-sided lower and upper bounds of the difference; None if there are none.

        Resamples where the metric is undefined count as the worst.
        """
        if not len(self.difference_R):
            return None
        undefined_R = np.isnan(self.difference_R)
        lowest_R, highest_R = (np.where(undefined_R, worst, self.difference_R) for worst in (-np.inf, np.inf))
        low = float(np.quantile(lowest_R, 1.0 - confidence, method="lower"))
        high = float(np.quantile(highest_R, confidence, method="higher"))
        return (low, high) if math.isfinite(low) and math.isfinite(high) else None


def compare_paired(
    parts: Sequence[Part], candidate_B: np.ndarray, champion_B: np.ndarray | None, *, resamples: int, seed: int
) -> list[PairedComparison]:
    """Compare two models by every metric that is defined in every part: part by part, in the order of COMPARED.

    Args:
        parts: all impressions first, then slices of them.
        candidate_B: the candidate's scores.
        champion_B: the champion's; None if there is no champion.
        resamples: R.
        seed: of the draws.
    """
    candidates = [_sums_of(part, candidate_B[part.rows_P]) for part in parts]
    champions = [] if champion_B is None else [_sums_of(part, champion_B[part.rows_P]) for part in parts]
    difference_RC = np.empty((0, sum(len(_defined(part)) for part in parts)))
    if champions:
        difference_RC = np.array(
            [
                [
                    new - old
                    for part, candidate, champion in zip(parts, candidates, champions, strict=True)
                    for new, old in zip(*_values(part, drawn_U[part.units_S], candidate, champion), strict=True)
                ]
                for drawn_U in draws(len(parts[0].units_S), resamples, seed)
            ]
        )
    compared: list[PairedComparison] = []
    for n, part in enumerate(parts):
        once_S, metrics = np.ones(len(part.units_S)), _defined(part)
        [values] = _values(part, once_S, candidates[n])
        old_values = [math.nan] * len(metrics)
        if champions:
            [old_values] = _values(part, once_S, champions[n])
        for metric, candidate_value, champion_value in zip(metrics, values, old_values, strict=True):
            difference_R = difference_RC[:, len(compared)]
            compared.append(PairedComparison(metric, part, candidate_value, champion_value, difference_R))
    return compared


def _defined(part: Part) -> list[SumMetric]:
    return [metric for metric in COMPARED if metric.needs != "groups" or part.grouped_S.any()]


def _values(part: Part, drawn_S: np.ndarray, *models: DrawnSums) -> list[list[float]]:
    """Every model's metrics in a resample, NaN where one is undefined."""
    return [
        [math.nan if (value := metric.formula(sums)) is None else value for metric in _defined(part)]
        for sums in (model(drawn_S) for model in models)
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
