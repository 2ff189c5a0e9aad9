"""The promotion gate: is a candidate sound, and no worse than the champion on the same later impressions?

A rule reads «no worse than `tolerance` on `metric`, overall or in each slice, with `confidence`». It holds when the
one-sided bootstrap bound of what the candidate loses against the champion stays within the tolerance. Doubt counts
against the candidate (serving.gate.bootstrap).

Shapes: B impressions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from nightjar.features.contract.errors import DataError, UsageError
from nightjar.features.contract.metrics.registry import LESS, NORMALIZED_ENTROPY
from nightjar.serving.evaluation.metrics import Observations
from nightjar.serving.gate.bootstrap import PairedComparison, compare_paired
from nightjar.serving.gate.decision import (
    Decision,
    DryRunLimits,
    GateCheck,
    GateConfig,
    GateRule,
    MetricComparison,
    PartMetrics,
    Verdict,
    name_in_files,
)
from nightjar.serving.gate.parts import Part, Slices, Support, parts_of, whole_of
from nightjar.serving.packing.dry_run import DryRun

FIGURE_CONFIDENCE = 0.95


def decide(
    config: GateConfig,
    observed: Observations,
    candidate_B: np.ndarray,
    champion_B: np.ndarray | None = None,
    slices: Mapping[str, Slices] | None = None,
    dry_run: DryRun | None = None,
) -> Decision:
    """Judge a candidate by its scores of impressions that are later than its training data.

    Impressions of weight 0 are left out. Without a champion the candidate must only be sound, calibrated and better
    than predicting the base rate. Raises DataError for observations or champion's scores that cannot be used,
    UsageError for a slice or groups that are not given.

    Args:
        config: what is looked at.
        observed: what is known of the impressions.
        candidate_B: the candidate's scores.
        champion_B: the champion's scores of the same impressions.
        slices: of the impressions, by the fields and dense features that the config names.
        dry_run: what the packed candidate did in a fresh process.
    """
    slices = slices or {}
    codes = {name: one.code_B for name, one in slices.items()}
    _require_usable(observed, {"candidate": candidate_B, "champion": champion_B, **codes})
    _require_columns(config, observed, slices)
    if champion_B is not None and (problem := _not_probabilities(champion_B)):
        raise DataError(f"the champion's scores are no probabilities: {problem}. Roll the champion back.")
    whole = whole_of(observed)
    checks = [_supported(whole, config.overall), _sound(candidate_B)]
    compared: list[PairedComparison] = []
    if all(check.passed for check in checks):
        parts = {name: list(parts_of(whole, name, slices[name], config.slice_support)) for name in config.sliced_by}
        every = [whole, *(part for of_slice in parts.values() for part in of_slice)]
        compared = compare_paired(every, candidate_B, champion_B, resamples=config.resamples, seed=config.seed)
        checks += [_calibrated(whole, candidate_B, config), _informative(compared, config)]
        if champion_B is not None:
            checks += _judge_rules(config, whole, parts, compared)
    checks += _dry_run_checks(dry_run, config.dry_run) if dry_run else []
    verdict: Verdict = "published" if all(check.passed for check in checks) else "rejected"
    return Decision(verdict=verdict, rows=len(whole.rows_P), checks=tuple(checks), parts=_parts(compared))


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
    return GateCheck(metric="support", passed=lacking is None, reason=reason)


def _sound(score_B: np.ndarray) -> GateCheck:
    problem = _not_probabilities(score_B)
    reason = f"scores are no probabilities: {problem}." if problem else "all scores lie within [0, 1]."
    return GateCheck(metric="scores", passed=problem is None, reason=reason)


def _calibrated(whole: Part, score_B: np.ndarray, config: GateConfig) -> GateCheck:
    low, high = config.calibration
    ratio = float(np.sum(whole.weight_P * score_B[whole.rows_P]) / np.sum(whole.unit_positive))
    passed = low <= ratio <= high
    place = "within" if passed else "outside"
    reason = f"the scores' sum is {ratio:.4g} times the labels', {place} [{low:g}, {high:g}]."
    return GateCheck(metric="calibration_ratio", candidate=ratio, passed=passed, reason=reason)


def _informative(compared: Sequence[PairedComparison], config: GateConfig) -> GateCheck:
    value = next(c.candidate for c in compared if c.part.name is None and c.metric is NORMALIZED_ENTROPY)
    passed = value <= config.normalized_entropy
    place = "within" if passed else "beyond"
    reason = (
        f"normalized_entropy is {value:.6g}, {place} the bound of {config.normalized_entropy:g}; "
        f"a model that predicts the base rate has 1."
    )
    return GateCheck(metric="normalized_entropy", candidate=value, passed=passed, reason=reason)


def _dry_run_checks(found: DryRun, limits: DryRunLimits) -> Iterator[GateCheck]:
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
    config: GateConfig, whole: Part, parts: Mapping[str, Sequence[Part]], compared: Sequence[PairedComparison]
) -> list[GateCheck]:
    """Every rule in every part. Slices with too little support even together are named, but not judged."""
    of = {(c.part.name, c.metric.name): c for c in compared}
    judged, unjudged = [], []
    for rule in config.rules:
        name = name_in_files(rule.metric)
        for part in [whole] if rule.slice is None else parts[rule.slice]:
            if part is not whole and (lacking := part.lacks(config.slice_support)):
                reason = f"{name} is not judged: {lacking}."
                unjudged.append(GateCheck(metric=name, slice=part.name, passed=True, reason=reason))
            elif (comparison := of.get((part.name, rule.metric))) is None:
                reason = f"{name} in {part.name} is not judged: no impression there has a group."
                unjudged.append(GateCheck(metric=name, slice=part.name, passed=True, reason=reason))
            else:
                judged.append(_judge(rule, comparison))
    return judged + unjudged


def _judge(rule: GateRule, comparison: PairedComparison) -> GateCheck:
    """Hold the differences against the rule."""
    part, champion, candidate = comparison.part, comparison.champion, comparison.candidate
    name = name_in_files(rule.metric)
    bounds = comparison.bounds(rule.confidence)
    where = "overall" if part.name is None else f"in {part.name}"
    passed = False
    if bounds:
        loss = bounds[1] if comparison.metric.direction is LESS else -bounds[0]
        passed = loss <= rule.tolerance
        extent = f"worse by at most {loss:.4g}" if loss >= 0 else f"better by at least {-loss:.4g}"
        place = "within" if passed else "beyond"
        reason = (
            f"{name} {where} is {candidate:.6g}, the champion's {champion:.6g}: with confidence "
            f"{rule.confidence:g} {extent}, {place} the tolerance of {rule.tolerance:g}."
        )
    else:
        reason = (
            f"{name} {where} has no bound: it is undefined in {comparison.undefined} of "
            f"{len(comparison.difference_R)} resamples, because too few groups hold both classes."
        )
    return GateCheck(
        metric=name,
        slice=part.name,
        champion=_finite(champion),
        candidate=_finite(candidate),
        difference=_finite(candidate - champion),
        interval=bounds,
        confidence=rule.confidence,
        tolerance=rule.tolerance,
        passed=passed,
        reason=reason,
    )


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
                    champion=_finite(c.champion),
                    difference=_finite(c.candidate - c.champion),
                    interval=c.bounds(FIGURE_CONFIDENCE),
                )
                for c in of_part
            ),
        )
        for name, of_part in by_part.items()
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
