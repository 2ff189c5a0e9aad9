"""The promotion gate: its verdicts on models of known worth."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from nightjar.features.contract.errors import DataError
from nightjar.serving.gate.decision import Decision, DryRunLimits
from nightjar.serving.packing.dry_run import DryRun, Measured
from tests.kits.gate_kit import METRICS, Impressions, Sliced, check_of, config, decide, rule

MEASURED = Measured(rows=64, largest_difference=1e-7, median_latency=8.0, p99_latency=20.0, resident_mib=300.0)


@pytest.mark.parametrize(
    ("found", "limits", "reasons"),
    [
        (DryRun(problems=(), measured=MEASURED), {}, []),
        (DryRun(problems=("it fell over.",)), {}, ["the dry run failed: it fell over."]),
        (
            DryRun(problems=(), measured=MEASURED),
            {"median_latency": 7.0, "p99_latency": 19.0, "resident_mib": 299.0},
            [
                "the median latency is 8 ms, beyond the limit of 7 ms.",
                "the 99th percentile of the latency is 20 ms, beyond the limit of 19 ms.",
                "the resident memory is 300 MiB, beyond the limit of 299 MiB.",
            ],
        ),
    ],
)
def test_a_dry_run_that_fails_or_takes_too_much_rejects_a_good_model(
    found: DryRun, limits: dict[str, float], reasons: list[str]
) -> None:
    data = Impressions()
    settings = config(rule("auc"), dry_run=DryRunLimits(**limits).model_dump())
    decision = decide(settings, data.observed, data.scores(), dry_run=found)
    assert [check.reason for check in decision.failures] == reasons
    assert decision.verdict == ("rejected" if reasons else "published")


def test_a_decision_does_not_depend_on_how_fast_the_dry_run_was() -> None:
    data = Impressions()
    score = data.scores()
    slower = MEASURED.model_copy(update={"median_latency": 9.5, "resident_mib": 310.0})
    one, other = (
        decide(config(rule("auc")), data.observed, score, dry_run=DryRun(problems=(), measured=measured))
        for measured in (MEASURED, slower)
    )
    assert one == other


def test_identical_models_pass_with_no_tolerance_at_all() -> None:
    data = Impressions()
    rules = [rule(m, tolerance=0.0, slice=s) for m in METRICS for s in (None, "country")]
    score = data.scores(0.2)
    decision = decide(config(*rules), data.observed, score, score, {"country": Sliced.of(data.country)})
    assert decision.verdict == "published"
    assert {c.difference for c in decision.checks if c.tolerance is not None} == {0.0}


def test_a_clearly_worse_model_is_rejected_with_the_figures() -> None:
    data = Impressions()
    decision = decide(config(rule("auc"), rule("log_loss")), data.observed, data.scores(1.0), data.scores())
    assert decision.verdict == "rejected"
    assert [check.metric for check in decision.failures] == ["auc", "log_loss"]
    auc = decision.failures[0]
    assert auc.interval is not None
    assert auc.interval[1] < -0.01
    assert auc.reason == (
        f"auc overall is {auc.candidate:.6g}, the champion's {auc.champion:.6g}: with confidence 0.95 "
        f"worse by at least {-auc.interval[1]:.4g}, beyond the tolerance of 0.01."
    )


def test_a_clearly_better_model_passes_with_no_tolerance_at_all() -> None:
    data = Impressions()
    rules = [rule(metric, tolerance=0.0) for metric in ("auc", "gauc", "log_loss", "normalized_entropy")]
    decision = decide(config(*rules), data.observed, data.scores(), data.scores(1.0))
    assert decision.verdict == "published"
    assert "better by at least" in check_of(decision, "auc").reason


def test_a_difference_of_noise_passes_within_the_tolerance_and_is_rejected_without_one() -> None:
    data = Impressions()
    champion, candidate = data.scores(0.1), data.scores(0.1)
    rules = ("log_loss", "auc", "gauc", "normalized_entropy")
    tolerant = decide(config(*(rule(m, 0.01) for m in rules)), data.observed, candidate, champion)
    strict = decide(config(*(rule(m, 0.0) for m in rules)), data.observed, candidate, champion)
    assert (tolerant.verdict, strict.verdict) == ("published", "rejected")


def test_doubt_counts_against_the_candidate() -> None:
    data = Impressions(rows=400, groups=50, seed=5)
    champion, candidate = data.scores(0.5), data.scores(0.5)
    check = check_of(decide(config(rule("auc", 0.01)), data.observed, candidate, champion), "auc")
    assert check.interval is not None
    assert check.interval[0] < -0.01 < 0.0 < check.interval[1]
    assert (check.passed, check.state) == (False, "inconclusive")


def test_a_regression_in_one_slice_is_rejected_while_the_whole_improves() -> None:
    data = Impressions()
    japan = data.country == "jp"
    champion = data.scores(0.8)
    candidate = np.where(japan, data.scores(1.1), data.scores(0.0))
    rules = [rule("log_loss", 0.005), rule("log_loss", 0.005, slice="country")]
    decision = decide(config(*rules), data.observed, candidate, champion, {"country": Sliced.of(data.country)})
    assert check_of(decision, "log_loss").passed
    assert [check.slice for check in decision.failures] == ["country=jp"]


def test_small_slices_are_judged_together_and_too_few_of_them_not_at_all() -> None:
    data = Impressions()
    small = np.where(np.arange(6000) < 90, np.arange(6000) % 3, 9)
    champion = data.scores()
    candidate = np.where(small == 9, champion, data.scores(3.0))
    by_slice = rule("log_loss", slice="tier")
    decision = decide(config(by_slice), data.observed, candidate, champion, {"tier": Sliced.of(small)})
    assert [check.slice for check in decision.failures] == ["tier: all others"]
    strict = config(by_slice, slice_support={"rows": 100})
    decision = decide(strict, data.observed, candidate, champion, {"tier": Sliced.of(small)})
    assert decision.verdict == "published"
    assert decision.checks[-1].reason.startswith("log_loss is not judged: 90 rows, 100 needed")


@pytest.mark.parametrize("shift", [-0.6, 0.6])
def test_a_miscalibrated_model_is_rejected_though_it_ranks_as_well(shift: float) -> None:
    data = Impressions()
    decision = decide(config(rule("auc", 1e-5)), data.observed, data.scores(shift=shift), data.scores())
    assert check_of(decision, "auc").passed
    assert [check.metric for check in decision.failures] == ["calibration_ratio"]
    against_champion = config(rule("calibration", 0.1), calibration=(0.1, 10.0))
    decision = decide(against_champion, data.observed, data.scores(shift=shift), data.scores())
    assert [check.metric for check in decision.failures] == ["calibration"]


@pytest.mark.parametrize("value", [np.nan, np.inf, -0.01, 1.01])
def test_a_score_that_is_no_probability_is_rejected(value: float) -> None:
    data = Impressions()
    score = data.scores()
    score[17] = value
    decision = decide(config(rule("auc")), data.observed, score, data.scores())
    assert decision.verdict == "rejected"
    counts = "1 NaN or infinite, 0 outside" if not np.isfinite(value) else "0 NaN or infinite, 1 outside"
    assert [check.reason for check in decision.failures] == [f"scores are no probabilities: {counts} [0, 1]."]
    with pytest.raises(DataError, match="the champion's scores are no probabilities"):
        decide(config(rule("auc")), data.observed, data.scores(), score)


@pytest.mark.parametrize("with_champion", [True, False])
def test_a_model_of_shuffled_labels_is_rejected(with_champion: bool) -> None:
    data = Impressions()
    shuffled = data.random.permutation(data.scores())
    champion = data.scores() if with_champion else None
    decision = decide(config(rule("auc")), data.observed, shuffled, champion)
    assert decision.failures[0].metric == "normalized_entropy"


def test_the_first_model_needs_no_champion_but_must_beat_the_base_rate() -> None:
    data = Impressions()
    by_rules = config(rule("auc"), rule("gauc"))
    assert decide(by_rules, data.observed, data.scores(0.3)).verdict == "published"
    base_rate = np.full(6000, np.average(data.observed.label, weights=data.observed.weight))
    decision = decide(by_rules, data.observed, base_rate)
    assert decision.verdict == "rejected"
    assert [check.metric for check in decision.failures] == ["normalized_entropy"]


@pytest.mark.parametrize(
    ("support", "reason"),
    [
        ({"rows": 7000}, "too little to judge by: 6000 rows, 7000 needed."),
        ({"positives": 3000}, r"too little to judge by: \d+ positives, 3000 needed."),
        ({"groups": 500}, "too little to judge by: 400 groups, 500 needed."),
    ],
)
def test_too_little_data_is_rejected(support: dict[str, int], reason: str) -> None:
    data = Impressions()
    decision = decide(config(rule("auc"), overall=support), data.observed, data.scores(), data.scores())
    assert decision.verdict == "rejected"
    (failure,) = decision.failures
    assert re.fullmatch(reason, failure.reason)


def test_the_same_inputs_give_the_same_json_and_the_seed_matters() -> None:
    data = Impressions()
    champion, candidate = data.scores(0.2), data.scores(0.2)
    rules = [rule(metric) for metric in METRICS]

    def text(**settings: object) -> str:
        return decide(config(*rules, **settings), data.observed, candidate, champion).model_dump_json(indent=1)

    assert text() == text()
    assert text(seed=1) != text()
    assert Decision.model_validate(json.loads(text())).model_dump_json(indent=1) == text()
    assert "NaN" not in text()
    assert "Infinity" not in text()
