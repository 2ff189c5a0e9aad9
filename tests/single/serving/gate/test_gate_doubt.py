"""What the gate says where the data are too few: inconclusive, apart from worse, and how many rows would do."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import norm

from nightjar.features.contract.errors import DataError
from nightjar.serving.gate.decision import Decision, GateCheck, Reference
from nightjar.serving.sums.draws import draws
from nightjar.serving.sums.rows import Observations
from tests.kits.gate_kit import Impressions, ReferenceScores, check_of, config, decide, rule


def calibration_of(decision: Decision) -> GateCheck:
    return next(check for check in decision.checks if check.metric == "calibration_ratio")


def test_few_rows_are_inconclusive_and_many_of_the_same_worth_are_worse() -> None:
    few, many = Impressions(rows=400, groups=50, seed=5), Impressions(rows=20_000, groups=1500, seed=5)
    decisions = [
        decide(config(rule("log_loss", 0.005)), data.observed, data.scores(0.5), data.scores()) for data in (few, many)
    ]
    assert [decision.rejection for decision in decisions] == ["inconclusive", "worse"]
    assert [decision.verdict for decision in decisions] == ["rejected", "rejected"]
    assert [decision.outcome for decision in decisions] == ["inconclusive", "rejected"]
    assert [check_of(decision, "log_loss").state for decision in decisions] == ["inconclusive", "worse"]
    assert [check.outcome for check in decisions[0].failures] == ["inconclusive"]


@pytest.mark.parametrize("metric", ["log_loss", "auc"])
def test_the_rows_that_would_do_are_those_of_the_standard_error(metric: str) -> None:
    data = Impressions(rows=400, groups=50, seed=5)
    check = check_of(decide(config(rule(metric, 0.02)), data.observed, data.scores(0.5), data.scores(0.5)), metric)
    assert check.standard_error is not None
    assert check.difference is not None
    assert check.rows_needed is not None
    loss = check.difference if metric == "log_loss" else -check.difference
    reach = (norm.ppf(0.95) + norm.ppf(0.8)) * check.standard_error
    assert check.rows_needed.as_measured == math.ceil(400 * (reach / (0.02 - loss)) ** 2)
    assert check.rows_needed.if_equal == math.ceil(400 * (reach / 0.02) ** 2)
    assert "If the difference is what was measured, about " in check.reason


def test_the_standard_error_is_that_of_the_resamples() -> None:
    data = Impressions(rows=500, groups=40)
    champion, candidate = data.scores(0.2), data.scores(0.6)
    settings = config(rule("log_loss", confidence=0.8), resamples=25)
    label, weight = data.observed.label, data.observed.weight
    lost = np.log(np.where(label == 1, champion, 1 - champion) / np.where(label == 1, candidate, 1 - candidate))
    drawn = [np.average(lost, weights=weight * drawn_B) for drawn_B in draws(data.group, 25, 0).T]
    check = check_of(decide(settings, data.observed, candidate, champion), "log_loss")
    assert check.standard_error == pytest.approx(np.std(drawn, ddof=1), rel=1e-6)


def test_with_as_many_rows_as_would_do_four_of_five_days_pass() -> None:
    few = Impressions(rows=1000, groups=1000, seed=1)
    settings = config(rule("log_loss", 0.02))
    found = decide(settings, few.observed, few.scores(0.6), few.scores(0.6))
    needed = check_of(found, "log_loss").rows_needed
    assert needed is not None
    assert needed.if_equal is not None
    passed = 0
    for seed in range(40):
        day = Impressions(rows=needed.if_equal, groups=needed.if_equal, seed=seed)
        passed += check_of(decide(settings, day.observed, day.scores(0.6), day.scores(0.6)), "log_loss").passed
    assert 24 <= passed <= 39


def test_no_number_of_rows_would_do_where_the_measured_loss_is_the_tolerance_or_more() -> None:
    data = Impressions(rows=400, groups=50, seed=5)
    settings = config(rule("log_loss", 0.0))
    check = check_of(decide(settings, data.observed, data.scores(0.3), data.scores(0.1)), "log_loss")
    assert check.state == "inconclusive"
    assert check.rows_needed is not None
    assert (check.rows_needed.as_measured, check.rows_needed.if_equal) == (None, None)
    assert check.reason.endswith(
        "Inconclusive: that it is worse than the tolerance is not shown either. "
        "If the difference is what was measured, no number of rows would do; if there is none, none."
    )


def test_too_little_support_is_inconclusive_and_a_failure_beside_it_is_not() -> None:
    data = Impressions()
    much = {"rows": 7000, "positives": 5, "groups": 5}
    assert decide(config(rule("auc"), overall=much), data.observed, data.scores()).rejection == "inconclusive"
    unsound = np.full(6000, np.nan)
    assert decide(config(rule("auc"), overall=much), data.observed, unsound).rejection == "worse"
    assert decide(config(rule("auc")), data.observed, data.scores()).rejection is None


@pytest.mark.parametrize("with_champion", [True, False])
def test_the_calibration_has_the_interval_of_a_loop_over_resamples(with_champion: bool) -> None:
    data = Impressions(rows=500, groups=40)
    score, champion = data.scores(0.6), data.scores() if with_champion else None
    decision = decide(config(rule("auc", confidence=0.8), resamples=25), data.observed, score, champion)
    weights = [data.observed.weight * drawn_B for drawn_B in draws(data.group, 25, 0).T]
    ratios = sorted((weight * score).sum() / (weight * data.observed.label).sum() for weight in weights)
    assert calibration_of(decision).interval == pytest.approx((ratios[4], ratios[-5]), rel=1e-8)


def test_a_calibration_passes_only_if_both_ends_of_its_interval_lie_within_the_bounds() -> None:
    data = Impressions(rows=500, groups=40)
    score = data.scores()

    def state(low: float, high: float) -> str:
        settings = config(rule("auc"), resamples=200, calibration=(low, high))
        return str(calibration_of(decide(settings, data.observed, score)).state)

    interval = calibration_of(decide(config(rule("auc"), resamples=200), data.observed, score)).interval
    assert interval is not None
    (first, last), middle = interval, sum(interval) / 2
    assert state(first - 0.1, last + 0.1) == "passed"
    assert state(middle, last + 0.1) == state(first - 0.1, middle) == "inconclusive"
    assert state(last + 0.1, last + 0.2) == state(first / 4, first / 2) == "worse"


def perfect_with_few_positives(seed: int, shift: float) -> tuple[Observations, np.ndarray]:
    """3,000 users with .02 positives each in expectation: 59 or so."""
    random = np.random.default_rng(seed)
    probability = random.beta(2.0, 98.0, 3000)
    label = (random.random(3000) < probability).astype(np.float64)
    return Observations(label, np.ones(3000)), np.clip(probability * shift, 0.0, 1.0)


def test_a_perfect_model_with_59_positives_hardly_ever_fails_the_calibration_and_a_wrong_one_does() -> None:
    settings = config(rule("log_loss", 1.0), resamples=100, overall={"rows": 1, "positives": 1, "groups": 2})
    states: dict[float, list[str | None]] = {1.0: [], 2.0: []}
    bare = 0
    for seed in range(150):
        for shift, found in states.items():
            check = calibration_of(decide(settings, *perfect_with_few_positives(seed, shift)))
            assert check.passed == (check.state != "worse")
            found.append(check.state)
            assert check.candidate is not None
            bare += shift == 1.0 and not 0.8 <= check.candidate <= 1.25
    assert bare >= 6
    assert states[1.0].count("worse") <= 1
    assert states[2.0].count("worse") >= 140


def test_a_calibration_in_doubt_is_named_and_passes() -> None:
    observed, score = perfect_with_few_positives(3, 1.15)
    few = {"rows": 1, "positives": 1, "groups": 2}
    decision = decide(config(rule("log_loss", 1.0), resamples=100, overall=few), observed, score)
    check = calibration_of(decision)
    assert (check.passed, check.state, check.outcome) == (True, "inconclusive", "inconclusive")
    assert check.reason.endswith("with confidence 0.95 each way, neither within nor outside [0.8, 1.25].")


def test_positives_of_one_user_leave_the_calibration_without_a_bound_and_do_not_pass() -> None:
    data = Impressions()
    loner = data.group == data.group[0]
    label = np.where(loner, np.arange(6000) % 2, 0).astype(np.float64)
    score = np.where(loner, 0.4, 0.0001)
    few = {"rows": 1, "positives": 2, "groups": 2}
    decision = decide(config(rule("auc"), overall=few), Observations(label, np.ones(6000), data.group), score)
    check = calibration_of(decision)
    assert (check.passed, check.state, check.interval) == (False, "inconclusive", None)
    assert "without a bound" in check.reason


def test_a_baseline_that_is_better_is_a_warning_and_no_failure() -> None:
    data = Impressions()
    candidate, champion = data.scores(0.5), data.scores(0.6)
    baselines = {"lr": data.scores(), "deep": candidate, "broken": np.full(6000, np.nan)}
    decision = decide(
        config(rule("auc", 0.05), rule("log_loss", 0.05)), data.observed, candidate, champion, baselines=baselines
    )
    assert decision.verdict == "published"
    assert [(warning.baseline, warning.metric) for warning in decision.warnings] == [
        ("lr", "log_loss"),
        ("lr", "auc"),
        ("broken", "scores"),
    ]
    first = decision.warnings[0]
    as_champion = decide(config(rule("log_loss")), data.observed, candidate, baselines["lr"])
    against = check_of(as_champion, "log_loss")
    assert (first.difference, first.interval) == (against.difference, against.interval)
    assert "the baseline is better by at least " in first.reason
    assert (
        decision.checks
        == decide(config(rule("auc", 0.05), rule("log_loss", 0.05)), data.observed, candidate, champion).checks
    )


def test_the_first_night_is_warned_of_a_better_baseline_too() -> None:
    data = Impressions()
    decision = decide(config(rule("log_loss")), data.observed, data.scores(0.6), baselines={"lr": data.scores()})
    assert [warning.baseline for warning in decision.warnings] == ["lr"]
    assert decision.verdict == "published"


def test_every_rule_is_held_against_the_reference_as_against_a_champion() -> None:
    data = Impressions()
    candidate, champion, old = data.scores(0.5), data.scores(0.45), data.scores()
    rules = config(rule("auc", 0.02), rule("log_loss", 0.02))
    reference = ReferenceScores(Reference(version="old", days=7), old)
    decision = decide(rules, data.observed, candidate, champion, reference=reference)
    alone = decide(rules, data.observed, candidate, champion)
    assert alone.verdict == "published"
    assert [(check.metric, check.against) for check in decision.failures] == [
        ("auc", "reference"),
        ("log_loss", "reference"),
    ]
    assert decision.reference == reference.of
    assert decision.parts == alone.parts
    swapped = decide(rules, data.observed, candidate, old)
    for metric in ("auc", "log_loss"):
        check, other = check_of(decision, metric, against="reference"), check_of(swapped, metric)
        assert (check.reference, check.champion) == (other.champion, None)
        assert (check.difference, check.interval, check.state) == (other.difference, other.interval, other.state)
        assert "the reference's" in check.reason


def test_a_reference_whose_scores_cannot_be_used_is_an_error() -> None:
    data = Impressions()
    for score, message in (
        (np.full(6000, 2.0), "the reference's scores are no probabilities"),
        (np.ones(5), "6000 labels and needs as many of each"),
    ):
        reference = ReferenceScores(Reference(version="old"), score)
        with pytest.raises(DataError, match=message):
            decide(config(rule("auc")), data.observed, data.scores(), data.scores(), reference=reference)
