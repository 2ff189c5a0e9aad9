"""Metrics of two models on all impressions and on slices of them, with a paired bootstrap of their differences.

Both models are measured on the same resample, which draws whole groups, i.e. users, because the impressions of one
user are not independent; impressions without a group are drawn one by one.

Shapes: B impressions; U units that are drawn; P impressions and S units of a part, i.e. of all rows or of one
slice; T runs of equal scores; R resamples; C comparisons. Weights, labels and scores are float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from pydantic import Field

from nightjar.features.contract.metrics import cross_entropy, ordered_pairs
from nightjar.features.contract.spec import Strict
from nightjar.features.encoder.hashing import MISSING
from nightjar.serving.evaluation.metrics import Observations

Metric = Literal["log_loss", "normalized_entropy", "auc", "gauc", "calibration"]
METRICS: tuple[Metric, ...] = get_args(Metric)
MORE_IS_BETTER = frozenset({"auc", "gauc"})

Estimate = Callable[[np.ndarray], float]
"""A model's metric in a part: how often each unit was drawn, float64[S] -> the value; NaN where undefined."""


class Support(Strict):
    """The least that a part must hold to be judged. positives: as many negatives are needed, too.

    groups: where impressions have groups, since a bootstrap over a handful of them is too sure of itself.
    """

    rows: int = Field(default=1000, ge=1)
    positives: int = Field(default=50, ge=1)
    groups: int = Field(default=30, ge=2)


@dataclass(frozen=True)
class Slices:
    """Which slice every impression is in. code_B: int64[B]; names: by code."""

    code_B: np.ndarray
    names: Mapping[int, str]

    @staticmethod
    def of(value_B: np.ndarray) -> Slices:
        """A slice for each distinct value."""
        values, code_B = np.unique(value_B, return_inverse=True)
        return Slices(code_B, {code: str(value) for code, value in enumerate(values.tolist())})


@dataclass(frozen=True)
class Part:
    """All rows, or those of a slice.

    units_S: the units that have impressions here; unit_P: positions in units_S; grouped_S: which units are
    groups. weight_S, positive_S: weight of each unit's impressions, and of its positive ones.
    """

    name: str | None
    rows_P: np.ndarray
    label_P: np.ndarray
    weight_P: np.ndarray
    unit_P: np.ndarray
    units_S: np.ndarray
    grouped_S: np.ndarray
    weight_S: np.ndarray
    positive_S: np.ndarray

    def lacks(self, support: Support) -> str | None:
        """What is missing for the part to be judged, in words; None if nothing is."""
        positives = int(self.label_P.sum())
        held = {
            "rows": (len(self.label_P), support.rows),
            "positives": (positives, support.positives),
            "negatives": (len(self.label_P) - positives, support.positives),
        }
        if self.grouped_S.any():
            held["groups"] = (len(self.units_S), support.groups)
        lacking = [f"{n} {what}, {least} needed" for what, (n, least) in held.items() if n < least]
        return "; ".join(lacking) or None


def draws(units: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Resamples of the bootstrap: how often each of `units` units comes up in as many draws, float64[U]."""
    generator = np.random.default_rng(seed)
    for _ in range(resamples):
        drawn = generator.integers(max(units, 1), size=units)  # there may be no unit: no impression has a weight
        yield np.bincount(drawn, minlength=units).astype(np.float64)


def whole_of(observed: Observations) -> Part:
    """All impressions of positive weight; the units are their groups, then the groupless ones."""
    rows_P = np.flatnonzero(observed.weight > 0)
    group_P = np.full(len(rows_P), MISSING) if observed.group is None else observed.group[rows_P]
    known_P = group_P != MISSING
    groups, unit_of_known = np.unique(group_P[known_P], return_inverse=True)
    unit_P = len(groups) + np.cumsum(~known_P) - 1
    unit_P[known_P] = unit_of_known
    units_S = np.arange(len(groups) + np.count_nonzero(~known_P))
    label_P, weight_P = (column[rows_P].astype(np.float64) for column in (observed.label, observed.weight))
    return _part(None, rows_P, label_P, weight_P, unit_P, units_S, units_S < len(groups))


def _slice(whole: Part, name: str, chosen_P: np.ndarray) -> Part:
    """The part of `whole` where `chosen_P` (bool) holds."""
    units_S, unit_P = np.unique(whole.unit_P[chosen_P], return_inverse=True)
    rows_P, label_P, weight_P = (column[chosen_P] for column in (whole.rows_P, whole.label_P, whole.weight_P))
    return _part(name, rows_P, label_P, weight_P, unit_P, units_S, whole.grouped_S[units_S])


def _part(
    name: str | None,
    rows_P: np.ndarray,
    label_P: np.ndarray,
    weight_P: np.ndarray,
    unit_P: np.ndarray,
    units_S: np.ndarray,
    grouped_S: np.ndarray,
) -> Part:
    weight_S, positive_S = (
        np.bincount(unit_P, value_P, minlength=len(units_S)) for value_P in (weight_P, weight_P * label_P)
    )
    return Part(name, rows_P, label_P, weight_P, unit_P, units_S, grouped_S, weight_S, positive_S)


def parts_of(whole: Part, column: str, slices: Slices, support: Support) -> Iterator[Part]:
    """A part for each slice with enough support, in the names' order, then one of all the others, if any."""
    codes, code_P, counts = np.unique(slices.code_B[whole.rows_P], return_inverse=True, return_counts=True)
    rest_P = np.ones(len(code_P), dtype=bool)
    frequent = np.flatnonzero(counts >= support.rows).tolist()
    for name, code in sorted((slices.names[int(codes[code])], code) for code in frequent):
        chosen_P = code_P == code
        part = _slice(whole, f"{column}={name}", chosen_P)
        if part.lacks(support) is None:
            rest_P &= ~chosen_P
            yield part
    if rest_P.any():
        yield _slice(whole, f"{column}: all others", rest_P)


@dataclass(frozen=True)
class PairedComparison:
    """A metric of both models in a part, and candidate - champion in every resample, NaN where it is undefined.

    champion is NaN and difference_R empty where there is no champion.
    """

    metric: Metric
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


def compare(
    whole: Part,
    parts: Sequence[Part],
    candidate_B: np.ndarray,
    champion_B: np.ndarray | None,
    resamples: int,
    seed: int,
) -> list[PairedComparison]:
    """Every metric that is defined in every part: part by part, in the order of METRICS."""
    wanted = [(part, metric) for part in parts for metric in METRICS if metric != "gauc" or part.grouped_S.any()]
    candidates = [_ESTIMATES[metric](part, candidate_B[part.rows_P]) for part, metric in wanted]
    champions: list[Estimate] = []
    difference_RC = np.empty((0, len(wanted)))
    if champion_B is not None:
        champions = [_ESTIMATES[metric](part, champion_B[part.rows_P]) for part, metric in wanted]
        difference_RC = np.array(
            [
                [
                    candidate(drawn_U[part.units_S]) - champion(drawn_U[part.units_S])
                    for (part, _), candidate, champion in zip(wanted, candidates, champions, strict=True)
                ]
                for drawn_U in draws(len(whole.units_S), resamples, seed)
            ]
        )
    compared = []
    for n, (part, metric) in enumerate(wanted):
        once_S = np.ones(len(part.units_S))
        champion_value = champions[n](once_S) if champions else math.nan
        compared.append(PairedComparison(metric, part, candidates[n](once_S), champion_value, difference_RC[:, n]))
    return compared


def _log_loss(part: Part, score_P: np.ndarray) -> Estimate:
    """Mean of -ln P(label)."""
    loss_S = np.bincount(part.unit_P, part.weight_P * cross_entropy(part.label_P, score_P))
    return lambda drawn_S: _ratio(np.sum(drawn_S * loss_S), np.sum(drawn_S * part.weight_S))


def _normalized_entropy(part: Part, score_P: np.ndarray) -> Estimate:
    """Log loss / entropy of the base rate (He et al. 2014, section 3), both of the resample."""
    log_loss = _log_loss(part, score_P)

    def estimate(drawn_S: np.ndarray) -> float:
        base_rate = _ratio(np.sum(drawn_S * part.positive_S), np.sum(drawn_S * part.weight_S))
        if not 0.0 < base_rate < 1.0:
            return math.nan
        return log_loss(drawn_S) / float(cross_entropy(base_rate, base_rate))

    return estimate


def _calibration(part: Part, score_P: np.ndarray) -> Estimate:
    """|sum of scores / sum of labels - 1|."""
    score_S = np.bincount(part.unit_P, part.weight_P * score_P)
    return lambda drawn_S: abs(_ratio(np.sum(drawn_S * score_S), np.sum(drawn_S * part.positive_S)) - 1.0)


def _auc(part: Part, score_P: np.ndarray) -> Estimate:
    """P(positive's score > negative's) + P(equal) / 2, by weight. Sorted once for all resamples."""
    order_P = np.argsort(score_P, kind="stable")
    starts_T = np.flatnonzero(np.diff(score_P[order_P], prepend=np.nan))
    unit_P = part.unit_P[order_P]
    positive_P = (part.weight_P * part.label_P)[order_P]
    negative_P = (part.weight_P * (1.0 - part.label_P))[order_P]

    def estimate(drawn_S: np.ndarray) -> float:
        drawn_P = drawn_S[unit_P]
        positive_T = np.add.reduceat(positive_P * drawn_P, starts_T)
        negative_T = np.add.reduceat(negative_P * drawn_P, starts_T)
        below_T = np.cumsum(negative_T) - 0.5 * negative_T
        return _ratio(np.sum(positive_T * below_T), np.sum(positive_T) * np.sum(negative_T))

    return estimate


def _gauc(part: Part, score_P: np.ndarray) -> Estimate:
    """Mean AUC of the groups with both classes, by their weight.

    No resample changes a group's own AUC. Impressions without a group have one class each and are left out so.
    """
    positive_P, negative_P = part.weight_P * part.label_P, part.weight_P * (1.0 - part.label_P)
    won_S, positive_S, negative_S = ordered_pairs(part.unit_P, score_P, positive_P, negative_P).T
    pairs_S = positive_S * negative_S
    weight_S = np.where(pairs_S > 0, part.weight_S, 0.0)
    weighted_S = weight_S * np.divide(won_S, pairs_S, out=np.zeros_like(won_S), where=pairs_S > 0)
    return lambda drawn_S: _ratio(np.sum(drawn_S * weighted_S), np.sum(drawn_S * weight_S))


_ESTIMATES: Mapping[Metric, Callable[[Part, np.ndarray], Estimate]] = {
    "log_loss": _log_loss,
    "normalized_entropy": _normalized_entropy,
    "auc": _auc,
    "gauc": _gauc,
    "calibration": _calibration,
}


def _ratio(numerator: float, denominator: float) -> float:
    return float(numerator / denominator) if denominator else math.nan
