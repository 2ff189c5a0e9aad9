"""A rule held against a comparison: passed, worse, or inconclusive, and then how many rows would do.

The rule reads «no worse than `tolerance` on `metric`, with `confidence`». It passes when the upper one-sided bound of
the loss lies within the tolerance. The candidate is worse when the lower bound lies beyond it. Between the two the data
show neither: that does not pass either, but it is no sign of a worse model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Literal

from nightjar.features.contract.metrics.registry import LESS
from nightjar.serving.gate.bootstrap import PairedComparison
from nightjar.serving.gate.decision import GateCheck, GateRule, GateWarning, RowsNeeded, State, name_in_files
from nightjar.serving.gate.sequence import Difference, over_nights

_POWER = 0.8


def judge(
    rule: GateRule,
    comparison: PairedComparison,
    against: Literal["champion", "reference"],
    earlier: Sequence[Difference] | None = None,
) -> GateCheck:
    """Hold a comparison against a rule.

    Args:
        rule: of the comparison's metric.
        comparison: of the candidate with the model `against`.
        against: what the candidate is compared with.
        earlier: differences of the nights before that the rule judges together with this one; None if it judges this
            night by itself.
    """
    difference, error = comparison.candidate - comparison.other, comparison.standard_error
    own = comparison.bounds(rule.confidence)
    pooled = None
    if earlier is not None and error is not None:
        pooled = over_nights([*earlier, (difference, error)], rule.confidence)
    judged_by = own if earlier is None else pooled.interval if pooled else None
    needed = None
    if judged_by is None:
        state: State = "inconclusive"
        reason = _unbounded(comparison)
    else:
        low, high = _losses(comparison, judged_by)
        state = "passed" if high <= rule.tolerance else "worse" if low > rule.tolerance else "inconclusive"
        if state == "inconclusive" and pooled is None and error is not None:
            [loss, _] = _losses(comparison, (difference, difference))
            needed = _rows_needed(comparison.part.rows, loss, error, rule)
        nights = f" on average over {pooled.nights} nights" if pooled and pooled.nights > 1 else ""
        reason = _reason(rule, comparison, against, nights, low, high, state) + _advice(
            needed, pooled is not None, state
        )
    figures = {"champion": None, "reference": None, against: _finite(comparison.other)}
    return GateCheck(
        metric=name_in_files(rule.metric),
        slice=comparison.part.name,
        against=against,
        champion=figures["champion"],
        reference=figures["reference"],
        candidate=_finite(comparison.candidate),
        difference=_finite(difference),
        standard_error=error,
        interval=own,
        over_nights=pooled,
        confidence=rule.confidence,
        tolerance=rule.tolerance,
        passed=state == "passed",
        state=state,
        rows_needed=needed,
        reason=reason,
    )


def warn_of(baseline: str, comparison: PairedComparison, confidence: float) -> GateWarning | None:
    """A warning if a baseline is better than the candidate by a comparison's bound.

    Args:
        baseline: its name.
        comparison: of the candidate with it.
        confidence: of the bound.
    """
    bounds = comparison.bounds(confidence)
    if bounds is None or (least := _losses(comparison, bounds)[0]) <= 0.0:
        return None
    name = name_in_files(comparison.metric.name)
    return GateWarning(
        baseline=baseline,
        metric=name,
        candidate=comparison.candidate,
        value=comparison.other,
        difference=comparison.candidate - comparison.other,
        interval=bounds,
        confidence=confidence,
        reason=(
            f"{name} is {comparison.candidate:.6g}, the baseline {baseline}'s {comparison.other:.6g}: with confidence "
            f"{confidence:g} the baseline is better by at least {least:.4g}."
        ),
    )


def _losses(comparison: PairedComparison, difference: tuple[float, float]) -> tuple[float, float]:
    """Bounds of a difference as bounds of what the candidate loses."""
    low, high = difference
    return (low, high) if comparison.metric.direction is LESS else (-high, -low)


def _rows_needed(rows: int, loss: float, error: float, rule: GateRule) -> RowsNeeded:
    """The standard error is taken to shrink with the root of the rows, i.e. of users with as many rows each."""
    normal = NormalDist()
    reach = (normal.inv_cdf(rule.confidence) + normal.inv_cdf(_POWER)) * error

    def enough(true_loss: float) -> int | None:
        room = rule.tolerance - true_loss
        return math.ceil(rows * (reach / room) ** 2) if room > 0.0 else None

    return RowsNeeded(as_measured=enough(loss), if_equal=enough(0.0))


def _reason(
    rule: GateRule,
    comparison: PairedComparison,
    against: str,
    nights: str,
    low: float,
    high: float,
    state: State,
) -> str:
    most = f"worse by at most {high:.4g}" if high >= 0 else f"better by at least {-high:.4g}"
    if state == "worse":
        most = f"worse by at least {low:.4g}"
    return (
        f"{name_in_files(rule.metric)} {_where(comparison)} is {comparison.candidate:.6g}, the {against}'s "
        f"{comparison.other:.6g}: with confidence {rule.confidence:g} {most}{nights}, "
        f"{'within' if state == 'passed' else 'beyond'} the tolerance of {rule.tolerance:g}."
    )


def _advice(needed: RowsNeeded | None, pooled: bool, state: State) -> str:
    if state != "inconclusive":
        return ""
    doubt = " Inconclusive: that it is worse than the tolerance is not shown either."
    if pooled:
        return doubt + " More nights will tell."
    if needed is None:
        return doubt
    measured = "no number of rows" if needed.as_measured is None else f"about {_round(needed.as_measured)} rows"
    equal = "none" if needed.if_equal is None else f"about {_round(needed.if_equal)}"
    return f"{doubt} If the difference is what was measured, {measured} would do; if there is none, {equal}."


def _round(count: int) -> str:
    return f"{float(f'{count:.2g}'):,.0f}"


def _unbounded(comparison: PairedComparison) -> str:
    return (
        f"{name_in_files(comparison.metric.name)} {_where(comparison)} has no bound: it is undefined in "
        f"{comparison.undefined} of {len(comparison.difference_R)} resamples, because too few groups hold both classes."
    )


def _where(comparison: PairedComparison) -> str:
    return "overall" if comparison.part.name is None else f"in {comparison.part.name}"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
