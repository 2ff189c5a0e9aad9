"""Finished models: may a model that has learned the day by which it was judged serve in its place?

It cannot be judged by that day again, and no later one is there. So it is held to the dry run, to bounds on how far
the scores of the day's own rows may move, and to the gate's calibration on these rows: a model that misses the level of
rows which it has just learned was thrown off by the last of them.

Shapes: B impressions.
"""

from __future__ import annotations

import numpy as np

from nightjar.features.contract.metrics.sums import CLIP, cross_entropy
from nightjar.serving.gate.decision import Decision, GateCheck, GateConfig, Movement, PublishConfig
from nightjar.serving.gate.gate import calibration_check, dry_run_checks, scores_check
from nightjar.serving.packing.dry_run import DryRun
from nightjar.serving.sums.measure import measure, see
from nightjar.serving.sums.rows import InMemory, Observations

_FINISHED = "finished"


def decide_finish(
    config: PublishConfig,
    gate: GateConfig,
    observed: Observations,
    judged_B: np.ndarray,
    finished_B: np.ndarray,
    dry_run: DryRun,
) -> Decision:
    """Hold a finished model against the model that was judged.

    Args:
        config: the bounds.
        gate: its bounds of calibration and of the dry run.
        observed: what is known of the judged day's impressions.
        judged_B: scores of the judged model.
        finished_B: scores of the finished model.
        dry_run: what it did in a fresh process.
    """
    host = InMemory.of(observed, {_FINISHED: finished_B})
    sight = see(host, {})
    checks, movement = [scores_check(sight, _FINISHED)], None
    if checks[0].passed:
        measured = measure(host, sight, {}, compared=[_FINISHED], resamples=gate.resamples, seed=gate.seed)
        checks.append(calibration_check(measured.sums[_FINISHED][0], gate))
        movement = movement_of(observed, judged_B, finished_B)
        checks.append(_bounded("mean_move", movement.mean, config.mean_move))
        if config.largest_move is not None:
            checks.append(_bounded("largest_move", movement.largest, config.largest_move))
    checks += dry_run_checks(dry_run, gate.dry_run)
    passed = all(check.passed for check in checks)
    return Decision(
        verdict="published" if passed else "rejected",
        rejection=None if passed else "worse",
        rows=len(finished_B),
        checks=tuple(checks),
        movement=movement,
    )


def not_finished(metric: str, reason: str) -> Decision:
    """Of a model that has not learned the judged day. metric: what was in the way."""
    return Decision(verdict="rejected", rows=0, checks=(GateCheck(metric=metric, passed=False, reason=reason),))


def movement_of(observed: Observations, before_B: np.ndarray, after_B: np.ndarray) -> Movement:
    """How far scores have moved, on impressions of positive weight. Scores are clipped as for a log loss."""
    [rows_P] = np.nonzero(observed.weight > 0)
    weight_P, label_P = observed.weight[rows_P], observed.label[rows_P]
    change_P = _log_odds(after_B[rows_P]) - _log_odds(before_B[rows_P])
    size_P = np.abs(change_P)
    order_P = np.argsort(size_P, kind="stable")
    share_P = np.cumsum(weight_P[order_P]) / np.sum(weight_P)

    def mean(value_P: np.ndarray) -> float:
        return float(np.average(value_P, weights=weight_P))

    return Movement(
        rows=len(rows_P),
        mean=mean(size_P),
        p99=float(size_P[order_P[np.searchsorted(share_P, 0.99)]]),
        largest=float(size_P.max()),
        shift=mean(change_P),
        log_loss_before=mean(cross_entropy(label_P, before_B[rows_P])),
        log_loss_after=mean(cross_entropy(label_P, after_B[rows_P])),
    )


def _log_odds(score: np.ndarray) -> np.ndarray:
    p = np.clip(score.astype(np.float64), CLIP, 1.0 - CLIP)
    return np.log(p) - np.log1p(-p)


def _bounded(metric: str, value: float, limit: float) -> GateCheck:
    passed = value <= limit
    what = "on average" if metric == "mean_move" else "at most"
    reason = (
        f"learning the judged day moves its scores by {value:.4g} {what}, {'within' if passed else 'beyond'} the "
        f"bound of {limit:g}."
    )
    return GateCheck(metric=metric, candidate=value, tolerance=limit, passed=passed, reason=reason)
