"""The promotion gate: is a candidate sound, and no worse than the champion on the same later impressions?

Rules are held against the champion and, so that small losses do not add up, against an older reference
(serving.gate.reference). A rule passes when the one-sided bootstrap bound of what the candidate loses stays within the
tolerance (serving.gate.rules). Doubt counts against the candidate there, but is told apart from a loss.

Shapes: B impressions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import numpy as np

from nightjar.features.contract.errors import DataError, UsageError
from nightjar.features.contract.metrics.registry import LOG_LOSS, NORMALIZED_ENTROPY
from nightjar.serving.evaluation.metrics import Observations
from nightjar.serving.gate.bootstrap import PairedComparison, bounds_of, compare_paired, draw_calibration
from nightjar.serving.gate.decision import (
    AccumulatedLoss,
    Decision,
    DryRunLimits,
    GateCheck,
    GateConfig,
    GateWarning,
    MetricComparison,
    PartMetrics,
    State,
    name_in_files,
)
from nightjar.serving.gate.parts import Part, Slices, Support, parts_of, whole_of
from nightjar.serving.gate.reference import ReferenceScores
from nightjar.serving.gate.rules import judge, warn_of
from nightjar.serving.gate.sequence import accumulate, differences_of, since_promotion
from nightjar.serving.packing.dry_run import DryRun

FIGURE_CONFIDENCE = 0.95

_AGAINST: tuple[Literal["champion"], Literal["reference"]] = ("champion", "reference")


def decide(
    config: GateConfig,
    observed: Observations,
    candidate_B: np.ndarray,
    champion_B: np.ndarray | None = None,
    slices: Mapping[str, Slices] | None = None,
    dry_run: DryRun | None = None,
    *,
    reference: ReferenceScores | None = None,
    baselines: Mapping[str, np.ndarray] | None = None,
    earlier: Sequence[Decision] = (),
) -> Decision:
    """Judge a candidate by its scores of impressions that are later than its training data.

    Impressions of weight 0 are left out. Without a champion the candidate must only be sound, calibrated and better
    than predicting the base rate. Raises DataError for observations, champion's or reference's scores that cannot be
    used, UsageError for a slice or groups that are not given.

    Args:
        config: what is looked at.
        observed: what is known of the impressions.
        candidate_B: the candidate's scores.
        champion_B: the champion's scores of the same impressions.
        slices: of the impressions, by the fields and dense features that the config names.
        dry_run: what the packed candidate did in a fresh process.
        reference: an older model's scores of the same impressions (serving.gate.reference.choose_reference).
        baselines: scores of the same impressions by baseline; one that is better than the candidate is a warning.
        earlier: decisions of the nights before, in order.
    """
    slices = slices or {}
    named = {f"baseline {name}": score_B for name, score_B in (baselines or {}).items()}
    scored = {"champion": champion_B, "reference": reference.score_B if reference else None}
    others = {name: score_B for name, score_B in scored.items() if score_B is not None}
    codes = {name: one.code_B for name, one in slices.items()}
    _require_usable(observed, {"candidate": candidate_B, **others, **named, **codes})
    _require_columns(config, observed, slices)
    for name, remedy in (("champion", "Roll the champion back."), ("reference", "Pin another as gate.reference.")):
        if name in others and (problem := _not_probabilities(others[name])):
            raise DataError(f"the {name}'s scores are no probabilities: {problem}. {remedy}")
    whole = whole_of(observed)
    checks = [_supported(whole, config.overall), scores_check(candidate_B)]
    alone: list[PairedComparison] = []
    compared: dict[str, list[PairedComparison]] = {}
    if all(check.passed for check in checks):
        parts = {name: list(parts_of(whole, name, slices[name], config.slice_support)) for name in config.sliced_by}
        every = [whole, *(part for of_slice in parts.values() for part in of_slice)]
        sound = {name: score_B for name, score_B in named.items() if not _not_probabilities(score_B)}
        alone, compared = compare_paired(
            every, candidate_B, others, sound, resamples=config.resamples, seed=config.seed
        )
        checks += [calibration_check(whole, candidate_B, config), _informative(alone, config)]
        for against in _AGAINST:
            if against in compared:
                checks += _judge_rules(config, whole, parts, compared[against], against, since_promotion(earlier))
    checks += dry_run_checks(dry_run, config.dry_run) if dry_run else []
    failures = [check for check in checks if not check.passed]
    doubtful = all(check.state == "inconclusive" for check in failures)
    return Decision(
        verdict="rejected" if failures else "published",
        rejection=("inconclusive" if doubtful else "worse") if failures else None,
        rows=len(whole.rows_P),
        checks=tuple(checks),
        warnings=tuple(_warnings(config, baselines or {}, compared)),
        reference=reference.of if reference else None,
        accumulated=_accumulated(reference, compared, earlier),
        parts=_parts(compared.get("champion", alone)),
    )


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


def _require_columns(config: GateConfig, observed: Observations, slices: Mapping[str, Slices]) -> None:
    missing = sorted(set(config.sliced_by) - set(slices))
    if missing:
        raise UsageError(f"the gate has rules on the slices {missing}; given are {sorted(slices)}.")
    if observed.group is None and config.grouped_metrics:
        metric = config.grouped_metrics[0]
        raise UsageError(f"the gate has a rule on {metric}, but the data set has no group. Remove the rule.")


def _not_probabilities(score_B: np.ndarray) -> str | None:
    unreal = ~np.isfinite(score_B)
    outside = ~unreal & ((score_B < 0) | (score_B > 1))
    if not (unreal | outside).any():
        return None
    return f"{np.count_nonzero(unreal)} NaN or infinite, {np.count_nonzero(outside)} outside [0, 1]"


def _supported(whole: Part, support: Support) -> GateCheck:
    lacking = whole.lacks(support)
    reason = f"too little to judge by: {lacking}." if lacking else f"{len(whole.rows_P)} rows are enough."
    state: State = "inconclusive" if lacking else "passed"
    return GateCheck(metric="support", passed=lacking is None, state=state, reason=reason)


def scores_check(score_B: np.ndarray) -> GateCheck:
    """Whether scores are probabilities."""
    problem = _not_probabilities(score_B)
    reason = f"scores are no probabilities: {problem}." if problem else "all scores lie within [0, 1]."
    return GateCheck(metric="scores", passed=problem is None, reason=reason)


def calibration_check(whole: Part, score_B: np.ndarray, config: GateConfig) -> GateCheck:
    """Whether scores are calibrated. Few positives make the ratio of a perfect model vary widely: only an interval that
    lies outside is a failure.

    Args:
        whole: all impressions.
        score_B: the model's scores.
        config: the bounds, and the bootstrap.
    """
    low, high = config.calibration
    ratio = float(np.sum(whole.weight_P * score_B[whole.rows_P]) / np.sum(whole.unit_positive))
    drawn_R = draw_calibration(whole, score_B, resamples=config.resamples, seed=config.seed)
    interval = bounds_of(drawn_R, config.strictest)
    if interval is None:
        state: State = "inconclusive"
        lacking = np.isnan(drawn_R).sum()
        found = f"without a bound: {lacking} of {len(drawn_R)} resamples hold no positive, because too few groups do"
    else:
        outside = interval[1] < low or interval[0] > high
        within = low <= interval[0] and interval[1] <= high
        state = "passed" if within else "worse" if outside else "inconclusive"
        place = {"passed": "within", "worse": "outside", "inconclusive": "neither within nor outside"}[state]
        found = f"from {interval[0]:.4g} to {interval[1]:.4g} with confidence {config.strictest:g} each way, {place}"
        found += f" [{low:g}, {high:g}]"
    return GateCheck(
        metric="calibration_ratio",
        candidate=ratio,
        interval=interval,
        confidence=config.strictest,
        passed=interval is not None and state != "worse",
        state=state,
        reason=f"the scores' sum is {ratio:.4g} times the labels', {found}.",
    )


def _informative(alone: Sequence[PairedComparison], config: GateConfig) -> GateCheck:
    value = next(c.candidate for c in alone if c.part.name is None and c.metric is NORMALIZED_ENTROPY)
    passed = value <= config.normalized_entropy
    place = "within" if passed else "beyond"
    reason = (
        f"normalized_entropy is {value:.6g}, {place} the bound of {config.normalized_entropy:g}; "
        f"a model that predicts the base rate has 1."
    )
    return GateCheck(metric="normalized_entropy", candidate=value, passed=passed, reason=reason)


def dry_run_checks(found: DryRun, limits: DryRunLimits) -> Iterator[GateCheck]:
    """What was measured is named only where it is beyond a limit: it differs from run to run, a decision does not."""
    for problem in found.problems:
        yield GateCheck(metric="dry_run", passed=False, reason=f"the dry run failed: {problem}")
    if found.measured is None:
        return
    if not found.problems:
        reason = f"a fresh process reproduces {found.measured.rows} golden scores."
        yield GateCheck(metric="dry_run", passed=True, reason=reason)
    bounded = (
        ("median latency", found.measured.median_latency, limits.median_latency, "ms"),
        ("99th percentile of the latency", found.measured.p99_latency, limits.p99_latency, "ms"),
        ("resident memory", found.measured.resident_mib, limits.resident_mib, "MiB"),
    )
    for what, value, limit, unit in bounded:
        passed = value <= limit
        reason = f"the {what} is {'within' if passed else f'{value:.4g} {unit}, beyond'} the limit of {limit:g} {unit}."
        yield GateCheck(metric="dry_run", passed=passed, reason=reason)


def _judge_rules(
    config: GateConfig,
    whole: Part,
    parts: Mapping[str, Sequence[Part]],
    compared: Sequence[PairedComparison],
    against: Literal["champion", "reference"],
    earlier: Sequence[Decision],
) -> list[GateCheck]:
    """Every rule in every part. Slices with too little support even together are named, but not judged.

    Args:
        config: its rules.
        whole: all impressions.
        parts: slices, by what they are of.
        compared: the candidate with the model `against`.
        against: what the candidate is compared with.
        earlier: decisions since the last promotion, which a sequential rule on all rows judges together with this one.
    """
    of = {(c.part.name, c.metric.name): c for c in compared}
    judged, unjudged = [], []
    for rule in config.rules:
        name = name_in_files(rule.metric)
        for part in [whole] if rule.slice is None else parts[rule.slice]:
            reason = None
            if part is not whole and (lacking := part.lacks(config.slice_support)):
                reason = f"{name} is not judged: {lacking}."
            elif (comparison := of.get((part.name, rule.metric))) is None:
                reason = f"{name} in {part.name} is not judged: no impression there has a group."
            else:
                pooled = config.sequential and part is whole
                before = differences_of(earlier, name, against) if pooled else None
                judged.append(judge(rule, comparison, against, before))
            if reason:
                unjudged.append(GateCheck(metric=name, slice=part.name, against=against, passed=True, reason=reason))
    return judged + unjudged


def _warnings(
    config: GateConfig, baselines: Mapping[str, np.ndarray], compared: Mapping[str, Sequence[PairedComparison]]
) -> Iterator[GateWarning]:
    """By the metrics of the rules, on all rows."""
    confidences: dict[str, float] = {rule.metric: rule.confidence for rule in reversed(config.rules)}
    for name, score_B in baselines.items():
        if problem := _not_probabilities(score_B):
            reason = f"the baseline {name} is not compared: its scores are no probabilities: {problem}."
            yield GateWarning(baseline=name, metric="scores", reason=reason)
        for comparison in compared.get(f"baseline {name}", ()):
            if (confidence := confidences.get(comparison.metric.name)) is not None:
                warning = warn_of(name, comparison, confidence)
                if warning:
                    yield warning


def _accumulated(
    reference: ReferenceScores | None,
    compared: Mapping[str, Sequence[PairedComparison]],
    earlier: Sequence[Decision],
) -> AccumulatedLoss | None:
    """What the champion has lost against the reference; unchanged where this night cannot say."""
    before = next((decision.accumulated for decision in reversed(earlier) if decision.accumulated), None)
    if reference is None or not {"champion", "reference"} <= compared.keys():
        return before
    champion, older = (
        next(c for c in compared[against] if c.part.name is None and c.metric is LOG_LOSS) for against in _AGAINST
    )
    served = PairedComparison(
        LOG_LOSS, older.part, champion.other, older.other, older.difference_R - champion.difference_R
    )
    error, bounds = served.standard_error, served.bounds(FIGURE_CONFIDENCE)
    if error is None or bounds is None:
        return before
    return accumulate(before, reference.of, served.candidate - served.other, error, bounds)


def _parts(compared: Sequence[PairedComparison]) -> tuple[PartMetrics, ...]:
    by_part: dict[str | None, list[PairedComparison]] = {}
    for comparison in compared:
        by_part.setdefault(comparison.part.name, []).append(comparison)
    return tuple(
        PartMetrics(
            name=name,
            rows=len(of_part[0].part.rows_P),
            positives=int(of_part[0].part.label_P.sum()),
            figures=tuple(
                MetricComparison(
                    metric=c.metric.name,
                    candidate=_finite(c.candidate),
                    champion=_finite(c.other),
                    difference=_finite(c.candidate - c.other),
                    interval=c.bounds(FIGURE_CONFIDENCE),
                )
                for c in of_part
            ),
        )
        for name, of_part in by_part.items()
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
