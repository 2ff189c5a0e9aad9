"""The promotion gate: its bootstrap against scikit-learn, its verdicts on models of known worth."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import sklearn.metrics

from nightjar.features.contract.errors import DataError, SpecError, UsageError
from nightjar.features.contract.spec import CategoricalField, FeatureSpec
from nightjar.features.contract.strict import load_yaml
from nightjar.features.encoder.hashing import MISSING
from nightjar.serving.evaluation.metrics import Observations, measure
from nightjar.serving.gate.bootstrap import Metric, Slices, draws
from nightjar.serving.gate.decision import Check, Decision, DryRunLimits, GateConfig
from nightjar.serving.gate.gate import decide
from nightjar.serving.gate.slices import by_value
from nightjar.serving.packing.dry_run import DryRun, Measured

SMALL = {"rows": 50, "positives": 5, "groups": 5}
METRICS: tuple[Metric, ...] = ("log_loss", "normalized_entropy", "auc", "gauc", "calibration")


class Impressions:
    """Impressions whose true log odds are known, so that scores of any worth can be made."""

    def __init__(self, rows: int = 6000, groups: int = 400, seed: int = 3) -> None:
        self.random = np.random.default_rng(seed)
        self.group = self.random.integers(1, groups + 1, rows).astype(np.int64) * 7919
        user = self.random.normal(0.0, 0.8, groups + 1)[self.group // 7919]
        self.logit = user + self.random.normal(-1.0, 1.0, rows)
        self.country = np.array(["de", "fr", "jp"])[self.random.integers(0, 3, rows)]
        label = (self.random.random(rows) < sigmoid(self.logit)).astype(np.float64)
        self.observed = Observations(label, self.random.uniform(0.5, 2.0, rows), self.group)

    def scores(self, noise: float = 0.0, shift: float = 0.0) -> np.ndarray:
        """The true probabilities after `noise` and `shift` of their log odds."""
        return sigmoid(self.logit + shift + noise * self.random.normal(size=len(self.logit)))


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-x))


def config(*rules: dict[str, object], **settings: object) -> GateConfig:
    return GateConfig.model_validate({"overall": SMALL, "slice_support": SMALL, "rules": rules, **settings})


def rule(metric: str, tolerance: float = 0.01, **settings: object) -> dict[str, object]:
    return {"metric": metric, "tolerance": tolerance, **settings}


def check_of(decision: Decision, metric: str, part: str | None = None) -> Check:
    """The comparison with the champion of this metric."""
    found = [c for c in decision.checks if (c.metric, c.slice) == (metric, part) and c.tolerance is not None]
    assert len(found) == 1
    return found[0]


def by_scikit_learn(metric: str, label: np.ndarray, score: np.ndarray, weight: np.ndarray, group: np.ndarray) -> float:
    """A metric of weighted rows, written from its definition."""
    if metric == "log_loss":
        return sklearn.metrics.log_loss(label, score, sample_weight=weight)
    if metric == "normalized_entropy":
        rate = np.full(len(label), np.average(label, weights=weight))
        return sklearn.metrics.log_loss(label, score, sample_weight=weight) / sklearn.metrics.log_loss(
            label, rate, sample_weight=weight
        )
    if metric == "auc":
        return sklearn.metrics.roc_auc_score(label, score, sample_weight=weight)
    if metric == "calibration":
        return abs((weight * score).sum() / (weight * label).sum() - 1.0)
    values, weights = [], []
    for value in np.unique(group[weight > 0]):
        positive, negative = (np.flatnonzero((group == value) & (weight > 0) & (label == c)) for c in (1, 0))
        if value != MISSING and len(positive) and len(negative):
            above = score[positive][:, None] - score[negative]
            pairs = weight[positive][:, None] * weight[negative]
            values.append((pairs * ((above > 0) + 0.5 * (above == 0))).sum() / pairs.sum())
            weights.append(weight[positive].sum() + weight[negative].sum())
    return float(np.average(values, weights=weights))


def brute_force_interval(
    metric: str,
    observed: Observations,
    unit: np.ndarray,
    champion: np.ndarray,
    candidate: np.ndarray,
    chosen: np.ndarray,
    confidence: float,
) -> tuple[float, float]:
    """Bounds from a loop that gives every row of `chosen` the weight that its unit's draws give it."""
    assert observed.group is not None
    differences = []
    for drawn in draws(int(unit.max()) + 1, 25, 0):
        weight = observed.weight * drawn[unit] * chosen
        new, old = (
            by_scikit_learn(metric, observed.label, score, weight, observed.group) for score in (candidate, champion)
        )
        differences.append(new - old)
    ordered = sorted(differences)
    beyond = int((1.0 - confidence) * (len(ordered) - 1))
    return ordered[beyond], ordered[-1 - beyond]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("decimals", [2, 17], ids=["tied scores", "distinct scores"])
def test_intervals_equal_a_loop_over_scikit_learn(metric: Metric, decimals: int) -> None:
    data = Impressions(rows=500, groups=40)
    champion, candidate = (data.scores(noise).round(decimals).clip(1e-6, 1 - 1e-6) for noise in (0.2, 0.6))
    by_country = rule(metric, confidence=0.8, slice="country")
    decision = decide(
        config(rule(metric, confidence=0.8), by_country, resamples=25),
        data.observed,
        candidate,
        champion,
        {"country": Slices.of(data.country)},
    )
    unit = np.unique(data.group, return_inverse=True)[1]
    parts = {None: np.ones(500)} | {f"country={c}": (data.country == c).astype(float) for c in ("de", "fr", "jp")}
    for name, chosen in parts.items():
        expected = brute_force_interval(metric, data.observed, unit, champion, candidate, chosen, 0.8)
        check = check_of(decision, metric, name)
        assert check.interval == pytest.approx(expected, rel=1e-9, abs=1e-12)
        weight = data.observed.weight * chosen
        for score, value in ((champion, check.champion), (candidate, check.candidate)):
            direct = by_scikit_learn(metric, data.observed.label, score, weight, data.group)
            assert value == pytest.approx(direct, rel=1e-9)


@pytest.mark.parametrize("with_champion", [True, False])
def test_every_metric_is_given_overall_and_by_slice_whatever_the_rules_are(with_champion: bool) -> None:
    data = Impressions(rows=900, groups=60)
    champion, candidate = data.scores(0.2), data.scores(0.6)
    decision = decide(
        config(rule("auc"), slices=["country"], resamples=100),
        data.observed,
        candidate,
        champion if with_champion else None,
        {"country": Slices.of(data.country)},
    )
    assert [part.name for part in decision.parts] == [None, "country=de", "country=fr", "country=jp"]
    for part in decision.parts:
        chosen = np.ones(900, bool) if part.name is None else data.country == part.name[-2:]
        assert (part.rows, part.positives) == (chosen.sum(), data.observed.label[chosen].sum())
        assert [figure.metric for figure in part.figures] == list(METRICS)
        for figure in part.figures:
            rest = (data.observed.weight * chosen, data.group)
            assert figure.candidate == pytest.approx(
                by_scikit_learn(figure.metric, data.observed.label, candidate, *rest), rel=1e-9
            )
            if with_champion:
                expected = by_scikit_learn(figure.metric, data.observed.label, champion, *rest)
                assert figure.champion == pytest.approx(expected, rel=1e-9)
                assert figure.interval is not None
                assert figure.interval[0] <= figure.difference <= figure.interval[1]
            else:
                assert (figure.champion, figure.difference, figure.interval) == (None, None, None)


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


def test_values_are_those_of_the_evaluation() -> None:
    data = Impressions(rows=2000)
    data.group[::5] = MISSING
    score = data.scores(0.3)
    decision = decide(config(*(rule(m) for m in METRICS)), data.observed, score, score)
    evaluated = measure(data.observed, score)
    for metric in ("log_loss", "normalized_entropy", "auc", "gauc"):
        assert check_of(decision, metric).candidate == pytest.approx(getattr(evaluated, metric), rel=1e-12)
    ratio = next(check for check in decision.checks if check.metric == "calibration_ratio")
    assert ratio.candidate == pytest.approx(evaluated.calibration, rel=1e-12)


def test_impressions_without_a_group_are_drawn_one_by_one() -> None:
    data = Impressions(rows=500, groups=40)
    data.group[:200] = MISSING
    champion, candidate = data.scores(0.2), data.scores(0.6)
    decision = decide(config(rule("log_loss", confidence=0.8), resamples=25), data.observed, candidate, champion)
    unit = np.unique(data.group, return_inverse=True)[1]
    groups = np.unique(data.group[200:])
    unit[200:] = np.searchsorted(groups, data.group[200:])
    unit[:200] = len(groups) + np.arange(200)
    expected = brute_force_interval("log_loss", data.observed, unit, champion, candidate, np.ones(500), 0.8)
    assert check_of(decision, "log_loss").interval == pytest.approx(expected, rel=1e-9)


def test_a_draw_holds_as_many_units_as_there_are() -> None:
    drawn = np.array(list(draws(units=50, resamples=2500, seed=1)))
    assert (drawn.sum(axis=1) == 50).all()
    np.testing.assert_allclose(drawn.mean(axis=0), 1.0, atol=0.08)
    np.testing.assert_allclose(drawn.var(axis=0), 1.0 - 1.0 / 50, atol=0.15)


def test_the_one_sided_bound_covers_the_true_difference_as_often_as_it_says() -> None:
    covered = 0
    for night in range(100):
        data = Impressions(rows=1500, groups=150, seed=night)
        champion, candidate = data.scores(0.0), data.scores(0.5)
        truth = sigmoid(data.logit)
        expected = [
            np.average(-truth * np.log(score) - (1 - truth) * np.log1p(-score), weights=data.observed.weight)
            for score in (candidate, champion)
        ]
        decision = decide(config(rule("log_loss", confidence=0.9), resamples=100), data.observed, candidate, champion)
        interval = check_of(decision, "log_loss").interval
        assert interval is not None
        covered += expected[0] - expected[1] <= interval[1]
    assert 82 <= covered <= 99


def test_identical_models_pass_with_no_tolerance_at_all() -> None:
    data = Impressions()
    rules = [rule(m, tolerance=0.0, slice=s) for m in METRICS for s in (None, "country")]
    score = data.scores(0.2)
    decision = decide(config(*rules), data.observed, score, score, {"country": Slices.of(data.country)})
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
        f"worse by at most {-auc.interval[0]:.4g}, beyond the tolerance of 0.01."
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
    assert not check.passed


def test_groups_make_the_bound_wider_when_users_differ() -> None:
    data = Impressions(rows=8000, groups=40)
    champion = data.scores()
    candidate = sigmoid(data.logit + data.random.normal(0.0, 1.5, 41)[data.group // 7919])
    widths = []
    for group in (None, data.group):
        observed = Observations(data.observed.label, data.observed.weight, group)
        interval = check_of(decide(config(rule("log_loss")), observed, candidate, champion), "log_loss").interval
        assert interval is not None
        widths.append(interval[1] - interval[0])
    assert widths[1] > 2.0 * widths[0], widths


def test_a_regression_in_one_slice_is_rejected_while_the_whole_improves() -> None:
    data = Impressions()
    japan = data.country == "jp"
    champion = data.scores(0.8)
    candidate = np.where(japan, data.scores(1.1), data.scores(0.0))
    rules = [rule("log_loss", 0.005), rule("log_loss", 0.005, slice="country")]
    decision = decide(config(*rules), data.observed, candidate, champion, {"country": Slices.of(data.country)})
    assert check_of(decision, "log_loss").passed
    assert [check.slice for check in decision.failures] == ["country=jp"]


def test_small_slices_are_judged_together_and_too_few_of_them_not_at_all() -> None:
    data = Impressions()
    small = np.where(np.arange(6000) < 90, np.arange(6000) % 3, 9)
    champion = data.scores()
    candidate = np.where(small == 9, champion, data.scores(3.0))
    by_slice = rule("log_loss", slice="tier")
    decision = decide(config(by_slice), data.observed, candidate, champion, {"tier": Slices.of(small)})
    assert [check.slice for check in decision.failures] == ["tier: all others"]
    strict = config(by_slice, slice_support={"rows": 100})
    decision = decide(strict, data.observed, candidate, champion, {"tier": Slices.of(small)})
    assert decision.verdict == "published"
    assert decision.checks[-1].reason.startswith("log_loss is not judged: 90 rows, 100 needed")


@pytest.mark.parametrize("shift", [-0.6, 0.6])
def test_a_miscalibrated_model_is_rejected_though_it_ranks_as_well(shift: float) -> None:
    data = Impressions()
    decision = decide(config(rule("auc", 0.0)), data.observed, data.scores(shift=shift), data.scores())
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


@pytest.mark.parametrize("metric", METRICS)
def test_a_constant_against_a_constant_is_no_reason_to_fall_over(metric: Metric) -> None:
    data = Impressions()
    constant = np.full(6000, 0.3)
    decision = decide(config(rule(metric)), data.observed, constant, constant)
    assert check_of(decision, metric).difference == 0.0


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


def test_impressions_of_weight_zero_change_nothing() -> None:
    data = Impressions(rows=1000)
    champion, candidate = data.scores(0.2), data.scores(0.3)
    rules = config(*(rule(metric) for metric in METRICS))
    expected = decide(rules, data.observed, candidate, champion)
    padded = Observations(
        *(
            np.r_[column, extra]
            for column, extra in (
                (data.observed.label, [1.0, 0.0]),
                (data.observed.weight, [0.0, 0.0]),
                (data.group, [7919, 5]),
            )
        )
    )
    assert decide(rules, padded, np.r_[candidate, 0.1, 0.2], np.r_[champion, 0.9, 0.8]) == expected


def test_positives_that_a_single_user_holds_leave_no_bound() -> None:
    data = Impressions()
    loner = data.group == data.group[0]
    label = np.where(loner, np.arange(6000) % 2, 0).astype(np.float64)
    observed = Observations(label, np.ones(6000), data.group)
    score = np.where(loner, 0.4, 0.0001)
    few = {"rows": 1, "positives": 2, "groups": 2}
    decision = decide(config(rule("auc"), overall=few, calibration=(0, 9)), observed, score, score)
    check = check_of(decision, "auc")
    assert (check.passed, check.interval) == (False, None)
    assert "auc overall has no bound: it is undefined in " in check.reason


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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda o: Observations(o.label[:-1], o.weight, o.group), "5999 labels"),
        (lambda o: Observations(o.label + 1, o.weight, o.group), r"labels 0 or 1; got also \[2.0\]"),
        (lambda o: Observations(o.label, -o.weight, o.group), "finite weights of 0 or more"),
    ],
)
def test_observations_that_cannot_be_used_are_an_error(
    change: Callable[[Observations], Observations], message: str
) -> None:
    data = Impressions()
    with pytest.raises(DataError, match=message):
        decide(config(rule("auc")), change(data.observed), data.scores())


def test_a_rule_on_something_that_is_not_there_is_an_error_even_for_the_first_model() -> None:
    data = Impressions()
    by_device = config(rule("auc", slice="device"))
    with pytest.raises(UsageError, match=r"rules on the slices \['device'\]; given are \['country'\]"):
        decide(by_device, data.observed, data.scores(), slices={"country": Slices.of(data.country)})
    with pytest.raises(UsageError, match="the data set has no group"):
        decide(config(rule("gauc")), Observations(data.observed.label, data.observed.weight), data.scores())


def test_rules_are_read_from_yaml_and_every_mistake_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "gate.yaml"
    path.write_text(
        "gate:\n"
        "  calibration: [0.9, 1.1]\n"
        "  rules:\n"
        "    - {metric: log_loss, tolerance: 0.002}\n"
        "    - {metric: auc, tolerance: 0.01, confidence: 0.9, slice: country}\n"
    )
    loaded = load_yaml(path, GateConfig, "gate")
    assert [(r.metric, r.slice, r.confidence) for r in loaded.rules] == [
        ("log_loss", None, 0.95),
        ("auc", "country", 0.9),
    ]
    path.write_text("gate: {rules: [{metric: f1, tolerance: -1}], resample: 5}")
    with pytest.raises(SpecError) as error:
        load_yaml(path, GateConfig, "gate")
    assert "3 problem(s)" in str(error.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"calibration": (1.2, 0.8)}, "two bounds in ascending order"),
        ({"rules": [rule("auc"), rule("auc", 0.5)]}, r"one rule overall .* got \['auc', 'auc'\]"),
        ({"rules": []}, "one rule or more"),
        ({"rules": [rule("auc", confidence=0.99)]}, "needs 500 resamples or more; got 200"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GateConfig.model_validate({"rules": [rule("auc")], **settings})


def test_a_hashed_field_makes_no_slices_since_its_ids_have_no_names() -> None:
    fields = ({"name": "query", "kind": "hashed", "buckets": 8}, {"name": "country", "oov_buckets": 3})
    spec = FeatureSpec.model_validate({"name": "s", "label": "y", "timestamp": "t", "fields": fields})
    rules = [{"metric": "auc", "tolerance": 0.1}]
    GateConfig.model_validate({"rules": rules, "slices": ["country"]}).require_features(spec)
    with pytest.raises(UsageError, match=r"slices \['query'\] are neither .* Choose from \['country'\]"):
        GateConfig.model_validate({"rules": rules, "slices": ["query"]}).require_features(spec)


def test_all_unknown_values_of_a_field_are_one_slice() -> None:
    field = CategoricalField(name="country", oov_buckets=3)
    slices = by_value(np.array([0, 1, 2, 3, 4, 5, 4]), field, {4: "de", 5: "fr"})
    named = [slices.names[code] for code in slices.code_B.tolist()]
    assert named == ["(missing)", *["(out of vocabulary)"] * 3, "de", "fr", "de"]
    assert len(set(slices.code_B.tolist())) == 4
