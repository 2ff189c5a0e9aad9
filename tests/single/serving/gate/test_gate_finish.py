"""A finished model serves if it is sound, loads where it is served and has not moved its scores too far."""

from __future__ import annotations

import numpy as np
import pytest

from nightjar.serving.gate.decision import Decision, GateConfig, PublishConfig
from nightjar.serving.gate.finish import decide_finish, movement_of, not_finished
from nightjar.serving.packing.dry_run import DryRun, Measured
from tests.kits.gate_kit import Impressions

MEASURED = Measured(rows=9, largest_difference=0.0, median_latency=1.0, p99_latency=2.0, resident_mib=100.0)
SOUND = DryRun(problems=(), measured=MEASURED)


@pytest.fixture(scope="module")
def impressions() -> Impressions:
    return Impressions()


def decide(impressions: Impressions, finished: np.ndarray, dry_run: DryRun = SOUND, **bounds: float) -> Decision:
    config = PublishConfig(learn_evaluated_day=True, **bounds)
    return decide_finish(config, GateConfig(), impressions.observed, impressions.scores(), finished, dry_run)


def test_movements_are_changes_of_the_log_odds(impressions: Impressions) -> None:
    """Every row by -0.2, and one of ten by 1 more: the mean size differs from the size of the mean."""
    change = np.where(np.arange(6000) % 10 == 0, 0.8, -0.2)
    before = 1.0 / (1.0 + np.exp(-impressions.logit))
    after = 1.0 / (1.0 + np.exp(-impressions.logit - change))
    found = movement_of(impressions.observed, before, after)
    weight, label = impressions.observed.weight, impressions.observed.label
    assert found.mean == pytest.approx(np.sum(weight * np.abs(change)) / weight.sum())
    assert found.shift == pytest.approx(np.sum(weight * change) / weight.sum())
    assert (found.p99, found.largest) == pytest.approx((0.8, 0.8))
    losses = [-np.sum(weight * np.log(np.where(label == 1, p, 1 - p))) / weight.sum() for p in (before, after)]
    assert (found.log_loss_before, found.log_loss_after) == pytest.approx(losses)


def test_rows_without_weight_do_not_count(impressions: Impressions) -> None:
    weight = np.where(np.arange(6000) < 10, 1.0, 0.0)
    observed = type(impressions.observed)(impressions.observed.label, weight)
    after = impressions.scores(shift=0.1)
    after[10:] = 0.5
    found = movement_of(observed, impressions.scores(), after)
    assert found.rows == 10
    assert found.largest == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("bounds", "failed"),
    [
        ({"mean_move": 0.21}, []),
        ({"mean_move": 0.19}, ["mean_move"]),
        ({"mean_move": 0.21, "largest_move": 0.21}, []),
        ({"mean_move": 0.21, "largest_move": 0.19}, ["largest_move"]),
    ],
)
def test_bounds_hold_on_average_and_for_the_row_that_moves_most(
    impressions: Impressions, bounds: dict[str, float], failed: list[str]
) -> None:
    decision = decide(impressions, impressions.scores(shift=-0.2), **bounds)
    assert [check.metric for check in decision.failures] == failed
    assert decision.verdict == ("rejected" if failed else "published")
    assert decision.movement is not None
    assert decision.movement.shift == pytest.approx(-0.2)


def test_a_few_rows_may_move_far_unless_that_is_bounded(impressions: Impressions) -> None:
    shift = np.where(np.arange(6000) == 7, 6.0, 0.0)
    finished = 1.0 / (1.0 + np.exp(-impressions.logit - shift))
    assert decide(impressions, finished).verdict == "published"
    assert decide(impressions, finished, largest_move=5.0).verdict == "rejected"


@pytest.mark.parametrize(
    ("shift", "failed"), [(-0.25, []), (-0.6, ["calibration_ratio"]), (0.6, ["calibration_ratio"])]
)
def test_a_model_that_misses_the_level_of_the_rows_it_has_learned_is_refused(
    impressions: Impressions, shift: float, failed: list[str]
) -> None:
    """Its last rows have thrown it off: on generated nights such a model was worse on the next day, too."""
    decision = decide(impressions, impressions.scores(shift=shift), mean_move=1.0)
    assert [check.metric for check in decision.failures] == failed


def test_scores_that_are_no_probabilities_are_never_served(impressions: Impressions) -> None:
    decision = decide(impressions, np.full(6000, np.nan))
    assert [check.metric for check in decision.failures] == ["scores"]
    assert decision.movement is None


def test_the_dry_run_must_pass(impressions: Impressions) -> None:
    broken = DryRun(problems=("it loads torch.",), measured=MEASURED)
    slow = DryRun(problems=(), measured=MEASURED.model_copy(update={"median_latency": 1e6}))
    for found in (broken, slow):
        decision = decide(impressions, impressions.scores(), found)
        assert [check.metric for check in decision.failures] == ["dry_run"]


def test_what_was_not_finished_says_why() -> None:
    decision = not_finished("training", "it diverged.")
    assert decision.verdict == "rejected"
    assert [(check.metric, check.reason) for check in decision.failures] == [("training", "it diverged.")]
