"""Bounds over several nights that hold however often one looks at them.

Every night has a difference d_t with a standard error s_t. The sum of the d_t's errors is a martingale of variance
V_t = s_1² + … + s_t², and a mixture of normal distributions over its drift bounds it for all t at once (Robbins 1970;
Howard, Ramdas, McAuliffe and Sekhon 2021, "Time-uniform, nonparametric, nonasymptotic confidence sequences", the
one-sided normal mixture). As the bootstrap's s_t are estimates and the d_t are means of many users, the bounds are
asymptotic ones (Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas 2024).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from nightjar.serving.gate.decision import AccumulatedLoss, Decision, OverNights, Reference

_CONFIDENCE = 0.95

Difference = tuple[float, float]
"""A night's difference and its standard error."""


def mixture_bound(variance: float, scale: float, confidence: float) -> float:
    """What a sum of errors of this variance exceeds, at any time, with probability 1 - confidence at most.

    The closed form, which is a little above the mixture's own bound.

    Args:
        variance: V_t.
        scale: of the mixture: 1 / scale is the variance of the drift's prior. It must not depend on the differences.
        confidence: of the bound, one-sided, for all t at once.
    """
    if not scale:
        return 0.0
    total = variance + scale
    return math.sqrt(2.0 * total * math.log1p(math.sqrt(total / scale) / (2.0 * (1.0 - confidence))))


def scale_for(variance: float, confidence: float) -> float:
    """The mixture's scale whose bound is about the tightest at this variance (Howard et al. 2021, section 3.5)."""
    log_odds = -2.0 * math.log(1.0 - confidence)
    return variance / (log_odds + math.log1p(log_odds))


def over_nights(differences: Sequence[Difference], confidence: float) -> OverNights:
    """The mean of nightly differences, with one-sided bounds that hold for every number of nights at once.

    The bounds are about the tightest on the first night.

    Args:
        differences: one night or more, in order.
        confidence: of each bound.
    """
    nights = len(differences)
    mean = sum(difference for difference, _ in differences) / nights
    first = next((error for _, error in differences if error), 0.0)
    variance = sum(error**2 for _, error in differences)
    margin = mixture_bound(variance, scale_for(first**2, confidence), confidence) / nights
    return OverNights(nights=nights, difference=mean, interval=(mean - margin, mean + margin))


def since_promotion(decisions: Sequence[Decision]) -> Sequence[Decision]:
    """Those after the last that let a model through.

    Args:
        decisions: of earlier nights, in order.
    """
    last = max((n for n, decision in enumerate(decisions) if decision.verdict == "published"), default=-1)
    return decisions[last + 1 :]


def differences_of(decisions: Sequence[Decision], metric: str, against: str) -> list[Difference]:
    """A metric's differences on all rows, of the nights that have one, whatever came of them.

    Args:
        decisions: of earlier nights, in order.
        metric: as rules call it.
        against: champion or reference.
    """
    return [
        (check.difference, check.standard_error)
        for decision in decisions
        for check in decision.checks
        if (check.metric, check.slice, check.against) == (metric, None, against)
        and check.difference is not None
        and check.standard_error is not None
    ]


def accumulate(
    before: AccumulatedLoss | None, reference: Reference, difference: float, error: float, bounds: tuple[float, float]
) -> AccumulatedLoss:
    """What serving has lost against the reference until this night.

    Args:
        before: the same after the last night that has it.
        reference: of this night.
        difference: champion - reference in log loss.
        error: its standard error.
        bounds: its one-sided bounds at 95 % each.
    """
    found = {"reference": reference, "difference": difference, "standard_error": error}
    if reference.days is None:
        figures = {"total": difference, "interval": bounds, "variance": error**2, "scale": 0.0}
        return AccumulatedLoss.model_validate(found | figures)
    variance = (error / reference.days) ** 2
    scale, total = scale_for(variance, _CONFIDENCE), difference / reference.days
    if before is not None and before.reference.days is not None:
        scale, total, variance = before.scale or scale, total + before.total, variance + before.variance
    margin = mixture_bound(variance, scale, _CONFIDENCE)
    figures = {"total": total, "interval": (total - margin, total + margin), "variance": variance, "scale": scale}
    return AccumulatedLoss.model_validate(found | figures)
