"""The gate's metrics and intervals against scikit-learn and loops."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.metrics

from nightjar.features.contract.metrics.score_bins import bins_of
from nightjar.features.encoder.hashing import MISSING, hash_long
from nightjar.serving.evaluation.metrics import measure
from nightjar.serving.gate.bootstrap import bounds_of
from nightjar.serving.sums.draws import draws
from nightjar.serving.sums.rows import Observations
from tests.kits.gate_kit import METRICS, Impressions, Sliced, bound_of, check_of, config, decide, rule, sigmoid


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
        return abs(np.log((weight * score).sum() / (weight * label).sum()))
    values, weights = [], []
    for value in np.unique(group[weight > 0]):
        positive, negative = (np.flatnonzero((group == value) & (weight > 0) & (label == c)) for c in (1, 0))
        if value != MISSING and len(positive) and len(negative):
            above = score[positive][:, None] - score[negative]
            pairs = weight[positive][:, None] * weight[negative]
            values.append((pairs * ((above > 0) + 0.5 * (above == 0))).sum() / pairs.sum())
            weights.append(weight[positive].sum() + weight[negative].sum())
    return float(np.average(values, weights=weights))


def projected_auc(label: np.ndarray, score: np.ndarray, weight: np.ndarray, drawn: np.ndarray) -> float:
    """The AUC of a resample to first order: what each row adds to the pairs, drawn that much more or less often."""
    positive, negative = weight * label, weight * (1.0 - label)
    above = score[:, None] - score
    won = (above > 0) + 0.5 * (above == 0)
    auc = positive @ won @ negative / (positive.sum() * negative.sum())
    centred = positive[:, None] * negative * (won - auc)
    more = (drawn - 1.0) @ (centred.sum(axis=1) + centred.sum(axis=0))
    return auc + more / ((drawn @ positive) * (drawn @ negative))


def brute_force_interval(
    metric: str,
    observed: Observations,
    key: np.ndarray,
    scores: tuple[np.ndarray, np.ndarray],
    chosen: np.ndarray,
    bits: int = 16,
) -> tuple[float, float]:
    """80 % bounds of the second less the first from a loop that gives every row of `chosen` the weight that the draws
    of its unit's key give it.
    """
    assert observed.group is not None
    differences = []
    for drawn in draws(key, 25, 0).T:
        weight = observed.weight * chosen
        if metric == "auc":
            old, new = (projected_auc(observed.label, bins_of(score) >> (16 - bits), weight, drawn) for score in scores)
        else:
            old, new = (
                by_scikit_learn(metric, observed.label, score, weight * drawn, observed.group) for score in scores
            )
        differences.append(new - old)
    ordered = sorted(differences)
    return ordered[4], ordered[-5]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("decimals", [2, 17], ids=["tied scores", "distinct scores"])
def test_intervals_equal_a_loop_over_scikit_learn(metric: str, decimals: int) -> None:
    data = Impressions(rows=500, groups=40)
    champion, candidate = (data.scores(noise).round(decimals).clip(1e-6, 1 - 1e-6) for noise in (0.2, 0.6))
    by_country = rule(metric, confidence=0.8, slice="country")
    decision = decide(
        config(rule(metric, confidence=0.8), by_country, resamples=25),
        data.observed,
        candidate,
        champion,
        {"country": Sliced.of(data.country)},
    )
    parts = {None: np.ones(500)} | {f"country={c}": (data.country == c).astype(float) for c in ("de", "fr", "jp")}
    for name, chosen in parts.items():
        bits = 16 if name is None else 14
        expected = brute_force_interval(metric, data.observed, data.group, (champion, candidate), chosen, bits)
        check = check_of(decision, metric, name)
        assert check.interval == pytest.approx(expected, rel=1e-6, abs=1e-9)
        weight = data.observed.weight * chosen
        bound = bound_of(decision, metric, name)
        assert bound == 0.0 if metric != "auc" or decimals == 2 else 0.0 < bound < 0.001
        for score, value in ((champion, check.champion), (candidate, check.candidate)):
            direct = by_scikit_learn(metric, data.observed.label, score, weight, data.group)
            assert value == pytest.approx(direct, rel=1e-7, abs=bound + 1e-9)


@pytest.mark.parametrize("rows", [500, 5000])
def test_the_projected_auc_varies_as_the_aucs_of_the_resamples_do(rows: int) -> None:
    data = Impressions(rows=rows, groups=rows // 10)
    label, weight, score = data.observed.label, data.observed.weight, data.scores(0.6)
    drawn_BR = draws(data.group, 100, 0)
    exact, projected = [], []
    for drawn in drawn_BR.T:
        exact.append(sklearn.metrics.roc_auc_score(label, score, sample_weight=weight * drawn))
        projected.append(projected_auc(label[:500], score[:500], weight[:500], drawn[:500]) if rows == 500 else np.nan)
    settings = config(rule("auc", confidence=0.8), resamples=100)
    # Against a model whose AUC is always one half, the difference varies as the AUC does.
    error = check_of(decide(settings, data.observed, score, np.full(rows, 0.3)), "auc").standard_error
    assert error == pytest.approx(np.std(exact, ddof=1), rel=0.03)
    assert rows > 500 or error == pytest.approx(np.std(projected, ddof=1), rel=0.001)


@pytest.mark.parametrize("with_champion", [True, False])
def test_every_metric_is_given_overall_and_by_slice_whatever_the_rules_are(with_champion: bool) -> None:
    data = Impressions(rows=900, groups=60)
    champion, candidate = data.scores(0.2), data.scores(0.6)
    decision = decide(
        config(rule("auc"), slices=["country"], resamples=100),
        data.observed,
        candidate,
        champion if with_champion else None,
        {"country": Sliced.of(data.country)},
    )
    assert [part.name for part in decision.parts] == [None, "country=de", "country=fr", "country=jp"]
    for part in decision.parts:
        chosen = np.ones(900, bool) if part.name is None else data.country == part.name[-2:]
        assert (part.rows, part.positives) == (chosen.sum(), data.observed.label[chosen].sum())
        for metric, figure in zip(METRICS, part.figures, strict=True):
            assert figure.metric == ("miscalibration" if metric == "calibration" else metric)
            rest = (data.observed.weight * chosen, data.group)
            assert (figure.error_bound is not None) == (metric == "auc")
            near = {"rel": 1e-7, "abs": (figure.error_bound or 0.0) + 1e-9}
            expected = by_scikit_learn(metric, data.observed.label, candidate, *rest)
            assert figure.candidate == pytest.approx(expected, **near)
            if with_champion:
                expected = by_scikit_learn(metric, data.observed.label, champion, *rest)
                assert figure.champion == pytest.approx(expected, **near)
                assert figure.interval is not None
                assert figure.interval[0] <= figure.difference <= figure.interval[1]
            else:
                assert (figure.champion, figure.difference, figure.interval) == (None, None, None)


def test_values_are_those_of_the_evaluation() -> None:
    data = Impressions(rows=2000)
    data.group[::5] = MISSING
    score = data.scores(0.3)
    decision = decide(config(*(rule(m) for m in METRICS)), data.observed, score, score)
    evaluated = measure(data.observed, score)
    for metric in ("log_loss", "normalized_entropy", "auc", "gauc"):
        near = {"rel": 1e-8, "abs": bound_of(decision, metric)}
        assert check_of(decision, metric).candidate == pytest.approx(getattr(evaluated, metric), **near)
    ratio = next(check for check in decision.checks if check.metric == "calibration_ratio")
    assert ratio.candidate == pytest.approx(evaluated.calibration, rel=1e-8)


def test_impressions_without_a_group_are_drawn_one_by_one() -> None:
    data = Impressions(rows=500, groups=40)
    data.group[:200] = MISSING
    champion, candidate = data.scores(0.2), data.scores(0.6)
    decision = decide(config(rule("log_loss", confidence=0.8), resamples=25), data.observed, candidate, champion)
    key = np.where(data.group == MISSING, hash_long(np.arange(500)), data.group)
    expected = brute_force_interval("log_loss", data.observed, key, (champion, candidate), np.ones(500))
    assert check_of(decision, "log_loss").interval == pytest.approx(expected, rel=1e-6)


def test_a_unit_is_drawn_once_on_average_and_its_draws_are_its_own() -> None:
    key_U = np.random.default_rng(0).integers(1 << 62, size=4000)
    drawn_UR = draws(key_U, 50, seed=1)
    shares = np.bincount(drawn_UR.astype(int).ravel(), minlength=4)[:4] / drawn_UR.size
    np.testing.assert_allclose(shares, np.exp(-1.0) / np.array([1.0, 1.0, 2.0, 6.0]), atol=0.005)
    assert drawn_UR.mean() == pytest.approx(1.0, abs=0.01)
    assert drawn_UR.var() == pytest.approx(1.0, abs=0.02)
    between = np.corrcoef(drawn_UR, rowvar=False) - np.eye(50)
    assert np.abs(between).max() < 5.0 / np.sqrt(4000)
    np.testing.assert_array_equal(draws(key_U[[7, 3]], 50, seed=1), drawn_UR[[7, 3]])
    assert (draws(key_U, 50, seed=2) != drawn_UR).mean() > 0.5


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


@pytest.mark.parametrize("undefined", [0, 3, 10, 11, 200])
@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95, 0.975])
def test_bounds_are_numpys_quantiles_with_undefined_resamples_as_the_worst(undefined: int, confidence: float) -> None:
    value_R = np.random.default_rng(undefined).normal(size=200)
    value_R[:undefined] = np.nan
    gone = np.isnan(value_R)
    low = np.quantile(np.where(gone, -np.inf, value_R), 1.0 - confidence, method="lower")
    high = np.quantile(np.where(gone, np.inf, value_R), confidence, method="higher")
    expected = (low, high) if np.isfinite([low, high]).all() else None
    assert bounds_of(np.random.default_rng(0).permutation(value_R), confidence) == expected


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


@pytest.mark.parametrize("metric", METRICS)
def test_a_constant_against_a_constant_is_no_reason_to_fall_over(metric: str) -> None:
    data = Impressions()
    constant = np.full(6000, 0.3)
    decision = decide(config(rule(metric)), data.observed, constant, constant)
    assert check_of(decision, metric).difference == 0.0


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
