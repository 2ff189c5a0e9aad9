"""The promotion gate: is a candidate sound, and no worse than the champion on the same later impressions?

A rule reads «no worse than `tolerance` on `metric`, overall or in each slice, with `confidence`». It holds
when the one-sided bootstrap bound of what the candidate loses against the champion stays within the
tolerance: doubt counts against the candidate. The bootstrap is paired (both models are measured on the same
resample) and draws whole groups, i.e. users, because the impressions of one user are not independent;
impressions without a group are drawn one by one.

Shapes: B impressions; U units that are drawn; P impressions and S units of a part, i.e. of all rows or of one
slice; T runs of equal scores; R resamples; C comparisons. Weights, labels and scores are float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from features.errors import DataError, UsageError
from features.hashing import MISSING
from features.metrics import cross_entropy
from features.spec import Strict
from serving.metrics import Observations

Metric = Literal["log_loss", "normalized_entropy", "auc", "gauc", "calibration"]
Verdict = Literal["published", "rejected"]
MORE_IS_BETTER = frozenset({"auc", "gauc"})
BEYOND_BOUND = 5

Estimate = Callable[[np.ndarray], float]
"""A model's metric in a part: how often each unit was drawn, float64[S] -> the value; NaN where undefined."""


class Support(Strict):
    """The least that a part must hold to be judged. positives: as many negatives are needed, too.

    groups: where impressions have groups, since a bootstrap over a handful of them is too sure of itself.
    """

    rows: int = Field(default=1000, ge=1)
    positives: int = Field(default=50, ge=1)
    groups: int = Field(default=30, ge=2)


class GateRule(Strict):
    """The candidate is worse than the champion by at most `tolerance`, with this one-sided `confidence`.

    slice: a column of slice values; the rule is then checked for each value, and values with too little
    support are judged together. tolerance: in the metric's own unit; the metric calibration is
    |sum of scores / sum of labels - 1|.
    """

    metric: Metric
    tolerance: float = Field(ge=0.0, allow_inf_nan=False)
    confidence: float = Field(default=0.95, ge=0.5, lt=1.0)
    slice: str | None = None


class GateConfig(Strict):
    """The `gate` section of a config file.

    resamples: of the bootstrap; at least five must lie beyond every rule's bound. overall, slices: the
    support that all rows, and a value of a slice, need. calibration: bounds of sum of scores / sum of labels.
    normalized_entropy: the highest; a model that predicts the base rate has 1.
    """

    resamples: int = Field(default=200, ge=20, le=100_000)
    seed: int = Field(default=0, ge=0)
    overall: Support = Support()
    slices: Support = Support()
    calibration: tuple[float, float] = (0.8, 1.25)
    normalized_entropy: float = Field(default=0.999, gt=0.0, lt=1.0)
    rules: tuple[GateRule, ...]

    @model_validator(mode="after")
    def _check(self) -> GateConfig:
        low, high = self.calibration
        if not 0.0 <= low < high < math.inf:
            raise ValueError(f"calibration must be two bounds in ascending order; got {[low, high]}")
        names = [f"{rule.metric} by {rule.slice}" if rule.slice else rule.metric for rule in self.rules]
        if len(set(names)) < len(names):
            raise ValueError(f"a metric may have one rule overall and one for each slice column; got {names}")
        if not names:
            raise ValueError("rules must hold one rule or more")
        strictest = max(rule.confidence for rule in self.rules)
        needed = math.ceil(round(BEYOND_BOUND / (1.0 - strictest), 6))
        if self.resamples < needed:
            raise ValueError(f"confidence {strictest} needs {needed} resamples or more; got {self.resamples}")
        return self


class Check(Strict):
    """One thing that was looked at, and what came of it.

    metric: a rule's metric, or support, scores, calibration_ratio. slice: `column=value`; None for all rows.
    difference: candidate - champion; interval: its one-sided lower and upper bounds, each at `confidence`.
    None where a check has no such figure.
    """

    metric: str
    slice: str | None = None
    champion: float | None = None
    candidate: float | None = None
    difference: float | None = None
    interval: tuple[float, float] | None = None
    confidence: float | None = None
    tolerance: float | None = None
    passed: bool
    reason: str


class Decision(Strict):
    """The gate's verdict with every check; `published` if all passed. Same inputs, same JSON."""

    verdict: Verdict
    rows: int
    checks: tuple[Check, ...]

    @property
    def failures(self) -> tuple[Check, ...]:
        """The checks that did not pass."""
        return tuple(check for check in self.checks if not check.passed)


@dataclass(frozen=True)
class _Part:
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


@dataclass(frozen=True)
class _Comparison:
    """A rule to be judged in a part, and its metric for either model."""

    rule: GateRule
    part: _Part
    champion: Estimate
    candidate: Estimate

    def difference(self, drawn_U: np.ndarray) -> float:
        """Candidate - champion when the units were drawn so often."""
        drawn_S = drawn_U[self.part.units_S]
        return self.candidate(drawn_S) - self.champion(drawn_S)


def decide(
    config: GateConfig,
    observed: Observations,
    candidate_B: np.ndarray,
    champion_B: np.ndarray | None = None,
    slices: Mapping[str, np.ndarray] | None = None,
) -> Decision:
    """Judge a candidate by its scores of impressions that are later than its training data.

    champion_B: the champion's scores of the same impressions; without one the candidate must only be sound,
    calibrated and better than predicting the base rate. slices: by column, a value for each impression.
    Impressions of weight 0 are left out. Raises DataError for observations or champion's scores that cannot
    be used, UsageError for a rule on a slice or on groups that are not given.
    """
    slices = slices or {}
    _require_usable(observed, {"candidate": candidate_B, "champion": champion_B, **slices})
    _require_columns(config, observed, slices)
    if champion_B is not None and (problem := _not_probabilities(champion_B)):
        raise DataError(f"the champion's scores are no probabilities: {problem}. Roll the champion back.")
    whole = _whole(observed)
    checks = [_supported(whole, config.overall), _sound(candidate_B)]
    if all(check.passed for check in checks):
        checks += [_calibrated(whole, candidate_B, config), _informative(whole, candidate_B, config)]
        if champion_B is not None:
            checks += _compare(config, whole, champion_B, candidate_B, slices)
    verdict: Verdict = "published" if all(check.passed for check in checks) else "rejected"
    return Decision(verdict=verdict, rows=len(whole.rows_P), checks=tuple(checks))


def draws(units: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Resamples of the bootstrap: how often each of `units` units comes up in as many draws, float64[U]."""
    generator = np.random.default_rng(seed)
    for _ in range(resamples):
        yield np.bincount(generator.integers(units, size=units), minlength=units).astype(np.float64)


def _require_usable(observed: Observations, others: Mapping[str, np.ndarray | None]) -> None:
    columns = {"weight": observed.weight, "group": observed.group, **others}
    lengths = {name: len(values) for name, values in columns.items() if values is not None}
    if any(length != len(observed.label) for length in lengths.values()):
        raise DataError(f"the gate has {len(observed.label)} labels and needs as many of each; got {lengths}.")
    odd = observed.label[~np.isin(observed.label, (0, 1))]
    if len(odd):
        raise DataError(f"the gate needs labels 0 or 1; got also {np.unique(odd)[:5].tolist()}.")
    odd = observed.weight[~(np.isfinite(observed.weight) & (observed.weight >= 0))]
    if len(odd):
        raise DataError(f"the gate needs finite weights of 0 or more; got also {odd[:5].tolist()}.")


def _require_columns(config: GateConfig, observed: Observations, slices: Mapping[str, np.ndarray]) -> None:
    missing = sorted({rule.slice for rule in config.rules if rule.slice is not None} - set(slices))
    if missing:
        raise UsageError(f"the gate has rules on the slices {missing}; given are {sorted(slices)}.")
    if observed.group is None and any(rule.metric == "gauc" for rule in config.rules):
        raise UsageError("the gate has a rule on gauc, but the data set has no group. Remove the rule.")


def _not_probabilities(score_B: np.ndarray) -> str | None:
    unreal = ~np.isfinite(score_B)
    outside = ~unreal & ((score_B < 0) | (score_B > 1))
    if not (unreal | outside).any():
        return None
    return f"{np.count_nonzero(unreal)} NaN or infinite, {np.count_nonzero(outside)} outside [0, 1]"


def _whole(observed: Observations) -> _Part:
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


def _slice(whole: _Part, name: str, chosen_P: np.ndarray) -> _Part:
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
) -> _Part:
    weight_S, positive_S = (
        np.bincount(unit_P, value_P, minlength=len(units_S)) for value_P in (weight_P, weight_P * label_P)
    )
    return _Part(name, rows_P, label_P, weight_P, unit_P, units_S, grouped_S, weight_S, positive_S)


def _slices(whole: _Part, column: str, value_B: np.ndarray, support: Support) -> Iterator[_Part]:
    """A part for each value with enough support, in the values' order, then one of all the others, if any."""
    values, code_P, counts = np.unique(value_B[whole.rows_P].astype(str), return_inverse=True, return_counts=True)
    rest_P = np.ones(len(code_P), dtype=bool)
    for code in np.flatnonzero(counts >= support.rows):
        chosen_P = code_P == code
        part = _slice(whole, f"{column}={values[code]}", chosen_P)
        if part.lacks(support) is None:
            rest_P &= ~chosen_P
            yield part
    if rest_P.any():
        yield _slice(whole, f"{column}: all others", rest_P)


def _supported(whole: _Part, support: Support) -> Check:
    lacking = whole.lacks(support)
    reason = f"too little to judge by: {lacking}." if lacking else f"{len(whole.rows_P)} rows are enough."
    return Check(metric="support", passed=lacking is None, reason=reason)


def _sound(score_B: np.ndarray) -> Check:
    problem = _not_probabilities(score_B)
    reason = f"scores are no probabilities: {problem}." if problem else "all scores lie within [0, 1]."
    return Check(metric="scores", passed=problem is None, reason=reason)


def _calibrated(whole: _Part, score_B: np.ndarray, config: GateConfig) -> Check:
    low, high = config.calibration
    ratio = float(np.sum(whole.weight_P * score_B[whole.rows_P]) / np.sum(whole.positive_S))
    passed = low <= ratio <= high
    place = "within" if passed else "outside"
    reason = f"the scores' sum is {ratio:.4g} times the labels', {place} [{low:g}, {high:g}]."
    return Check(metric="calibration_ratio", candidate=ratio, passed=passed, reason=reason)


def _informative(whole: _Part, score_B: np.ndarray, config: GateConfig) -> Check:
    value = _normalized_entropy(whole, score_B[whole.rows_P])(np.ones(len(whole.units_S)))
    passed = value <= config.normalized_entropy
    place = "within" if passed else "beyond"
    reason = (
        f"normalized_entropy is {value:.6g}, {place} the bound of {config.normalized_entropy:g}; "
        f"a model that predicts the base rate has 1."
    )
    return Check(metric="normalized_entropy", candidate=value, passed=passed, reason=reason)


def _compare(
    config: GateConfig,
    whole: _Part,
    champion_B: np.ndarray,
    candidate_B: np.ndarray,
    slices: Mapping[str, np.ndarray],
) -> list[Check]:
    """Every rule in every part. Slices with too little support even together are named, but not judged."""
    columns = sorted({rule.slice for rule in config.rules if rule.slice is not None})
    parts = {column: list(_slices(whole, column, slices[column], config.slices)) for column in columns}
    unjudged, comparisons = [], []
    for rule in config.rules:
        for part in [whole] if rule.slice is None else parts[rule.slice]:
            if part is not whole and (lacking := part.lacks(config.slices)):
                reason = f"{rule.metric} is not judged: {lacking}."
                unjudged.append(Check(metric=rule.metric, slice=part.name, passed=True, reason=reason))
                continue
            estimate = _ESTIMATES[rule.metric]
            champion, candidate = (estimate(part, score[part.rows_P]) for score in (champion_B, candidate_B))
            comparisons.append(_Comparison(rule, part, champion, candidate))
    difference_RC = np.array(
        [
            [comparison.difference(drawn_U) for comparison in comparisons]
            for drawn_U in draws(len(whole.units_S), config.resamples, config.seed)
        ]
    )
    return [_judge(*judged) for judged in zip(comparisons, difference_RC.T, strict=True)] + unjudged


def _judge(comparison: _Comparison, difference_R: np.ndarray) -> Check:
    """Hold the differences against the rule. Resamples where the metric is undefined count as the worst."""
    rule, part = comparison.rule, comparison.part
    once_S = np.ones(len(part.units_S))
    champion, candidate = comparison.champion(once_S), comparison.candidate(once_S)
    undefined = np.isnan(difference_R)
    lowest_R, highest_R = (np.where(undefined, worst, difference_R) for worst in (-np.inf, np.inf))
    low = float(np.quantile(lowest_R, 1.0 - rule.confidence, method="lower"))
    high = float(np.quantile(highest_R, rule.confidence, method="higher"))
    bounded = math.isfinite(low) and math.isfinite(high)
    loss = -low if rule.metric in MORE_IS_BETTER else high
    passed = bounded and loss <= rule.tolerance
    where = "overall" if part.name is None else f"in {part.name}"
    if bounded:
        extent = f"worse by at most {loss:.4g}" if loss >= 0 else f"better by at least {-loss:.4g}"
        place = "within" if passed else "beyond"
        reason = (
            f"{rule.metric} {where} is {candidate:.6g}, the champion's {champion:.6g}: with confidence "
            f"{rule.confidence:g} {extent}, {place} the tolerance of {rule.tolerance:g}."
        )
    else:
        reason = (
            f"{rule.metric} {where} has no bound: it is undefined in {int(undefined.sum())} of "
            f"{len(difference_R)} resamples, because too few groups hold both classes."
        )
    return Check(
        metric=rule.metric,
        slice=part.name,
        champion=_finite(champion),
        candidate=_finite(candidate),
        difference=_finite(candidate - champion),
        interval=(low, high) if bounded else None,
        confidence=rule.confidence,
        tolerance=rule.tolerance,
        passed=passed,
        reason=reason,
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _log_loss(part: _Part, score_P: np.ndarray) -> Estimate:
    """Mean of -ln P(label)."""
    loss_S = np.bincount(part.unit_P, part.weight_P * cross_entropy(part.label_P, score_P))
    return lambda drawn_S: _ratio(np.sum(drawn_S * loss_S), np.sum(drawn_S * part.weight_S))


def _normalized_entropy(part: _Part, score_P: np.ndarray) -> Estimate:
    """Log loss / entropy of the base rate (He et al. 2014, section 3), both of the resample."""
    log_loss = _log_loss(part, score_P)

    def estimate(drawn_S: np.ndarray) -> float:
        base_rate = _ratio(np.sum(drawn_S * part.positive_S), np.sum(drawn_S * part.weight_S))
        if not 0.0 < base_rate < 1.0:
            return math.nan
        return log_loss(drawn_S) / float(cross_entropy(base_rate, base_rate))

    return estimate


def _calibration(part: _Part, score_P: np.ndarray) -> Estimate:
    """|sum of scores / sum of labels - 1|."""
    score_S = np.bincount(part.unit_P, part.weight_P * score_P)
    return lambda drawn_S: abs(_ratio(np.sum(drawn_S * score_S), np.sum(drawn_S * part.positive_S)) - 1.0)


def _auc(part: _Part, score_P: np.ndarray) -> Estimate:
    """P(positive's score > negative's) + P(equal) / 2, by weight. Sorted once for all resamples."""
    order_P = np.argsort(score_P, kind="stable")
    starts_T = _run_starts(score_P[order_P])
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


def _gauc(part: _Part, score_P: np.ndarray) -> Estimate:
    """Mean AUC of the groups with both classes, by their weight.

    No resample changes a group's own AUC. Impressions without a group have one class each and are left out so.
    """
    order_P = np.lexsort((score_P, part.unit_P))
    unit_P = part.unit_P[order_P]
    starts_T = _run_starts(unit_P, score_P[order_P])
    unit_T = unit_P[starts_T]
    positive_T = np.add.reduceat((part.weight_P * part.label_P)[order_P], starts_T)
    negative_T = np.add.reduceat((part.weight_P * (1.0 - part.label_P))[order_P], starts_T)
    before_T = np.cumsum(negative_T) - negative_T
    below_T = before_T - before_T[_run_starts(unit_T)][unit_T] + 0.5 * negative_T
    wins_S, positives_S, negatives_S = (
        np.bincount(unit_T, value_T) for value_T in (positive_T * below_T, positive_T, negative_T)
    )
    pairs_S = positives_S * negatives_S
    weight_S = np.where(pairs_S > 0, part.weight_S, 0.0)
    auc_S = np.divide(wins_S, pairs_S, out=np.zeros_like(wins_S), where=pairs_S > 0)
    return lambda drawn_S: _ratio(np.sum(drawn_S * weight_S * auc_S), np.sum(drawn_S * weight_S))


_ESTIMATES: Mapping[Metric, Callable[[_Part, np.ndarray], Estimate]] = {
    "log_loss": _log_loss,
    "normalized_entropy": _normalized_entropy,
    "auc": _auc,
    "gauc": _gauc,
    "calibration": _calibration,
}


def _run_starts(*sorted_together: np.ndarray) -> np.ndarray:
    """Where a run of rows begins that are equal in all of these columns."""
    changes = [column[1:] != column[:-1] for column in sorted_together]
    return np.flatnonzero(np.r_[True, np.logical_or.reduce(changes)])


def _ratio(numerator: float, denominator: float) -> float:
    return float(numerator / denominator) if denominator else math.nan
