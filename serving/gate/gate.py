"""The promotion gate: is a candidate sound, and no worse than the champion on the same later impressions?

Rules are held against the champion and, so that small losses do not add up, against an older reference
(serving.gate.reference). A rule passes when the one-sided bootstrap bound of what the candidate loses stays within the
tolerance (serving.gate.rules). Doubt counts against the candidate there, but is told apart from a loss.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from nightjar.features.contract.errors import DataError, UsageError
from nightjar.features.contract.metrics.registry import CALIBRATION, LOG_LOSS, NORMALIZED_ENTROPY, Quality, quality
from nightjar.serving.gate.bootstrap import PairedComparison, alone, bounds_of, compare_paired, drawn_calibration
from nightjar.serving.gate.decision import (
    AccumulatedLoss,
    Decision,
    DryRunLimits,
    GateCheck,
    GateConfig,
    GateWarning,
    MetricComparison,
    PartMetrics,
    Reference,
    State,
    name_in_files,
)
from nightjar.serving.gate.rules import judge, warn_of
from nightjar.serving.gate.sequence import accumulate, differences_of, since_promotion
from nightjar.serving.packing.dry_run import DryRun
from nightjar.serving.raw_scores import AS_SERVED
from nightjar.serving.sums.measure import Measured, PartSums, measure
from nightjar.serving.sums.parts import Part, Sight, Support
from nightjar.serving.sums.rows import CANDIDATE, CHAMPION, REFERENCE, Host
from nightjar.serving.sums.slices import Slices

FIGURE_CONFIDENCE = 0.95

_AGAINST: tuple[Literal["champion"], Literal["reference"]] = (CHAMPION, REFERENCE)
_ROLES = (CANDIDATE, *_AGAINST)


@dataclass(frozen=True)
class Judgement:
    """A verdict, and the sums that it was made from; None if no row has a weight."""

    decision: Decision
    measured: Measured | None


def decide(
    config: GateConfig,
    host: Host,
    sight: Sight,
    slices: Mapping[str, Slices] | None = None,
    dry_run: DryRun | None = None,
    *,
    reference: Reference | None = None,
    earlier: Sequence[Decision] = (),
) -> Judgement:
    """Judge a candidate by its scores of impressions that are later than its training data.

    Impressions of weight 0 are left out. Without a champion the candidate must only be sound, calibrated and better
    than predicting the base rate. Scores are those of CANDIDATE, of CHAMPION and REFERENCE if there are such, of any of
    these AS_SERVED, and of baselines by any other name; a baseline that is better than the candidate is a warning.

    Raises DataError for champion's or reference's scores that cannot be used, UsageError for a slice or groups that are
    not given.

    Args:
        config: what is looked at.
        host: where the scored impressions are.
        sight: what a look at them has found (serving.sums.measure.see).
        slices: of the impressions, by the fields and dense features that the config names.
        dry_run: what the packed candidate did in a fresh process.
        reference: which model the reference is (serving.gate.reference.choose_reference).
        earlier: decisions of the nights before, in order.
    """
    _require_columns(config, sight, slices or {})
    slices = {name: slices[name] for name in config.sliced_by} if slices else {}
    for name, remedy in ((CHAMPION, "Roll the champion back."), (REFERENCE, "Pin another as gate.reference.")):
        if problem := sight.improbable.get(name):
            raise DataError(f"the {name}'s scores are no probabilities: {problem}. {remedy}")
    measured = None
    if sight.whole.rows:
        sound = [name for name in sight.models if name not in sight.improbable]
        measured = measure(
            host,
            sight,
            slices,
            support=config.slice_support,
            compared=[name for name in sound if name in _ROLES],
            others=[name for name in sound if name not in _ROLES],
            curves=[name for name in sound if name == CHAMPION],
            resamples=config.resamples,
            seed=config.seed,
        )
    return Judgement(verdict_of(config, sight, measured, dry_run, reference, earlier), measured)


def verdict_of(
    config: GateConfig,
    sight: Sight,
    measured: Measured | None,
    dry_run: DryRun | None = None,
    reference: Reference | None = None,
    earlier: Sequence[Decision] = (),
) -> Decision:
    """The rules held against sums.

    Args:
        config: what is looked at.
        sight: what a look at the impressions has found.
        measured: the sums of every model whose scores are probabilities; None if no impression has a weight.
        dry_run: what the packed candidate did in a fresh process.
        reference: which model the reference is.
        earlier: decisions of the nights before, in order.
    """
    checks = [_supported(sight.whole, config.overall), scores_check(sight, CANDIDATE)]
    by_itself: list[PairedComparison] = []
    compared: dict[str, list[PairedComparison]] = {}
    if measured and all(check.passed for check in checks):
        sums = {name: of_parts for name, of_parts in measured.sums.items() if not name.startswith(AS_SERVED)}
        candidate = sums.pop(CANDIDATE)
        by_itself = alone(candidate)
        compared = {name: compare_paired(candidate, other) for name, other in sums.items()}
        checks += [calibration_check(candidate[0], config), _informative(by_itself, config)]
        for against in _AGAINST:
            if against in compared:
                checks += _judge_rules(config, measured, compared[against], against, since_promotion(earlier))
    checks += dry_run_checks(dry_run, config.dry_run) if dry_run else []
    failures = [check for check in checks if not check.passed]
    doubtful = all(check.state == "inconclusive" for check in failures)
    return Decision(
        verdict="rejected" if failures else "published",
        rejection=("inconclusive" if doubtful else "worse") if failures else None,
        rows=sight.whole.rows,
        checks=tuple(checks),
        warnings=tuple(_warnings(config, sight, compared)),
        reference=reference,
        accumulated=_accumulated(reference, compared, earlier),
        as_served=_as_served(sight, measured),
        parts=_parts(compared.get(CHAMPION, by_itself)),
    )


def _require_columns(config: GateConfig, sight: Sight, slices: Mapping[str, Slices]) -> None:
    missing = sorted(set(config.sliced_by) - set(slices))
    if missing:
        raise UsageError(f"the gate has rules on the slices {missing}; given are {sorted(slices)}.")
    if not sight.has_groups and config.grouped_metrics:
        metric = config.grouped_metrics[0]
        raise UsageError(f"the gate has a rule on {metric}, but the data set has no group. Remove the rule.")


def _supported(whole: Part, support: Support) -> GateCheck:
    lacking = whole.lacks(support)
    reason = f"too little to judge by: {lacking}." if lacking else f"{whole.rows} rows are enough."
    state: State = "inconclusive" if lacking else "passed"
    return GateCheck(metric="support", passed=lacking is None, state=state, reason=reason)


def scores_check(sight: Sight, model: str) -> GateCheck:
    """Whether a model's scores are probabilities."""
    problem = sight.improbable.get(model)
    reason = f"scores are no probabilities: {problem}." if problem else "all scores lie within [0, 1]."
    return GateCheck(metric="scores", passed=problem is None, reason=reason)


def calibration_check(whole: PartSums, config: GateConfig) -> GateCheck:
    """Whether scores are calibrated. Few positives make the ratio of a perfect model vary widely: only an interval that
    lies outside is a failure.

    Args:
        whole: the model's sums over all rows, of which one or more is positive.
        config: the bounds, and the bootstrap.
    """
    low, high = config.calibration
    ratio = CALIBRATION.formula(whole.once)
    drawn_R = drawn_calibration(whole)
    interval = bounds_of(drawn_R, config.strictest)
    if interval is None:
        state: State = "inconclusive"
        lacking = np.count_nonzero(np.isnan(drawn_R))
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


def _informative(by_itself: Sequence[PairedComparison], config: GateConfig) -> GateCheck:
    value = next(c.candidate for c in by_itself if c.part.name is None and c.metric is NORMALIZED_ENTROPY)
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
    measured: Measured,
    compared: Sequence[PairedComparison],
    against: Literal["champion", "reference"],
    earlier: Sequence[Decision],
) -> list[GateCheck]:
    """Every rule in every part. Slices with too little support even together are named, but not judged.

    Args:
        config: its rules.
        measured: the parts that there are.
        compared: the candidate with the model `against`.
        against: what the candidate is compared with.
        earlier: decisions since the last promotion, which a sequential rule on all rows judges together with this one.
    """
    of = {(c.part.name, c.metric.name): c for c in compared}
    judged, unjudged = [], []
    for rule in config.rules:
        name = name_in_files(rule.metric)
        for part in [measured.whole] if rule.slice is None else measured.parts[rule.slice]:
            reason = None
            if rule.slice is not None and (lacking := part.lacks(config.slice_support)):
                reason = f"{name} is not judged: {lacking}."
            elif (comparison := of.get((part.name, rule.metric))) is None:
                reason = f"{name} in {part.name} is not judged: no impression there has a group."
            else:
                pooled = config.sequential and rule.slice is None
                before = differences_of(earlier, name, against) if pooled else None
                judged.append(judge(rule, comparison, against, before))
            if reason:
                unjudged.append(GateCheck(metric=name, slice=part.name, against=against, passed=True, reason=reason))
    return judged + unjudged


def _warnings(
    config: GateConfig, sight: Sight, compared: Mapping[str, Sequence[PairedComparison]]
) -> Iterator[GateWarning]:
    """By the metrics of the rules, on all rows."""
    confidences: dict[str, float] = {rule.metric: rule.confidence for rule in reversed(config.rules)}
    for name in sight.models:
        if name in _ROLES or name.startswith(AS_SERVED):
            continue
        if problem := sight.improbable.get(name):
            reason = f"the baseline {name} is not compared: its scores are no probabilities: {problem}."
            yield GateWarning(baseline=name, metric="scores", reason=reason)
        for comparison in compared.get(name, ()):
            if (confidence := confidences.get(comparison.metric.name)) is not None:
                warning = warn_of(name, comparison, confidence)
                if warning:
                    yield warning


def _accumulated(
    reference: Reference | None,
    compared: Mapping[str, Sequence[PairedComparison]],
    earlier: Sequence[Decision],
) -> AccumulatedLoss | None:
    """What the champion has lost against the reference; unchanged where this night cannot say."""
    before = next((decision.accumulated for decision in reversed(earlier) if decision.accumulated), None)
    if reference is None or not {CHAMPION, REFERENCE} <= compared.keys():
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
    return accumulate(before, reference, served.candidate - served.other, error, bounds)


def _as_served(sight: Sight, measured: Measured | None) -> dict[str, Quality]:
    """Metrics of scores as requests would get them; none if no value stands in for a column, or if one is no number."""
    roles = [name for name in _ROLES if name in sight.models]
    served = {name: AS_SERVED + name if AS_SERVED + name in sight.models else name for name in roles}
    if not measured or list(served.values()) == roles or not sight.improbable.keys().isdisjoint(served.values()):
        return {}
    return {name: quality(measured.sums[scored][0].once) for name, scored in served.items()}


def _parts(compared: Sequence[PairedComparison]) -> tuple[PartMetrics, ...]:
    by_part: dict[str | None, list[PairedComparison]] = {}
    for comparison in compared:
        by_part.setdefault(comparison.part.name, []).append(comparison)
    return tuple(
        PartMetrics(
            name=name,
            rows=of_part[0].part.rows,
            positives=of_part[0].part.positives,
            figures=tuple(
                MetricComparison(
                    metric=c.metric.name,
                    candidate=_finite(c.candidate),
                    champion=_finite(c.other),
                    difference=_finite(c.candidate - c.other),
                    interval=c.bounds(FIGURE_CONFIDENCE),
                    error_bound=c.error_bound or None,
                )
                for c in of_part
            ),
        )
        for name, of_part in by_part.items()
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
