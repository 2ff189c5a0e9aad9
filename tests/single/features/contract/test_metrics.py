"""Metrics against scikit-learn and against loops."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from nightjar.features.contract.metrics.registry import (
    AUC,
    CALIBRATION,
    COMPARED,
    EVALUATED,
    HELD_OUT,
    LESS,
    LOG_LOSS,
    METRICS,
    MISCALIBRATION,
    MORE,
    Quality,
    SelectionMetric,
)
from nightjar.features.contract.metrics.sums import Sums
from nightjar.features.encoder.hashing import MISSING
from nightjar.serving.evaluation.metrics import Metrics, bins, measure
from nightjar.serving.sums.rows import Observations
from tests.kits.metric_kit import gauc_by_loops


def draw(n: int, seed: int = 0, groups: int = 20) -> tuple[Observations, np.ndarray]:
    """Labels drawn from a truth, scores near it and rounded so that there are ties, weights of 1 and 4."""
    rng = np.random.default_rng(seed)
    truth = rng.beta(1.0, 4.0, n)
    label = (rng.uniform(size=n) < truth).astype(np.float64)
    score = np.round(np.clip(truth + rng.normal(0, 0.1, n), 0.01, 0.99), 2).astype(np.float32)
    weight = rng.choice([1.0, 4.0], n)
    return Observations(label, weight, rng.integers(groups, size=n), truth), score


@pytest.mark.parametrize(("n", "groups"), [(3000, 20), (400, 150), (50, 3)])
def test_gauc_equals_a_loop_over_the_groups(n: int, groups: int):
    observed, score = draw(n, seed=n, groups=groups)
    assert observed.group is not None
    group = np.where(observed.group == 1, MISSING, observed.group)
    expected = gauc_by_loops(observed.label, score, group, observed.weight)
    assert measure(replace(observed, group=group), score).gauc == pytest.approx(expected, abs=1e-12)


def test_gauc_share_leaves_out_groups_of_one_class_and_rows_without_a_group():
    label = np.array([0.0, 1.0, 1.0, 1.0, 0.0, 1.0])
    group = np.array([7, 7, 8, 8, MISSING, MISSING])
    metrics = measure(Observations(label, np.array([1.0, 2.0, 1.0, 1.0, 2.0, 1.0]), group), np.arange(6.0) / 6)
    assert (metrics.gauc, metrics.gauc_share) == (1.0, 3.0 / 8.0)


@pytest.mark.parametrize("group", [[1, 2, 3], [MISSING] * 3])
def test_gauc_without_any_group_of_both_classes_is_undefined(group: list[int]):
    metrics = measure(Observations(np.array([0.0, 1.0, 1.0]), np.ones(3), np.array(group)), np.zeros(3))
    assert (metrics.gauc, metrics.gauc_share) == (None, None)


def test_log_loss_auc_and_calibration_are_scikit_learns_and_the_formulas():
    observed, score = draw(2000)
    metrics = measure(observed, score)
    y, p, w = observed.label, score.astype(np.float64), observed.weight
    rate = np.average(y, weights=w)
    assert metrics.log_loss == pytest.approx(log_loss(y, p, sample_weight=w), rel=1e-12)
    assert metrics.auc == pytest.approx(roc_auc_score(y, p, sample_weight=w), rel=1e-12)
    entropy = -(rate * math.log(rate) + (1 - rate) * math.log(1 - rate))
    assert metrics.normalized_entropy == pytest.approx(metrics.log_loss / entropy, rel=1e-12)
    assert metrics.calibration == pytest.approx((w * p).sum() / (w * y).sum(), rel=1e-12)


def test_predicting_the_base_rate_has_a_normalized_entropy_of_one():
    label = np.array([1.0, 0.0, 0.0, 0.0])
    metrics = measure(Observations(label, np.ones(4)), np.full(4, 0.25))
    assert metrics.normalized_entropy == pytest.approx(1.0, rel=1e-12)
    assert (metrics.auc, metrics.calibration, metrics.gauc, metrics.regret) == (0.5, 1.0, None, None)


def test_a_weight_of_k_counts_a_row_k_times():
    observed, score = draw(300, groups=5)
    times = observed.weight.astype(int)
    assert observed.group is not None
    assert observed.truth is not None
    repeated = Observations(
        np.repeat(observed.label, times),
        np.ones(times.sum()),
        np.repeat(observed.group, times),
        np.repeat(observed.truth, times),
    )
    weighted = measure(observed, score).model_dump(exclude={"calibration_error"})
    assert weighted == pytest.approx(
        measure(repeated, np.repeat(score, times)).model_dump(exclude={"calibration_error"}), rel=1e-9
    )


def test_the_truth_has_no_regret_and_any_other_score_has_some():
    observed, score = draw(5000)
    truth = observed.truth
    assert truth is not None
    floor = measure(observed, truth)
    assert floor.regret == 0.0
    assert floor.expected_regret == pytest.approx(0.0, abs=1e-15)
    p, q, w = truth, np.clip(score.astype(np.float64), 1e-7, 1 - 1e-7), observed.weight
    kl = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
    metrics = measure(observed, score)
    assert metrics.expected_regret == pytest.approx(np.average(kl, weights=w), rel=1e-6)
    assert metrics.expected_bayes_log_loss == pytest.approx(
        np.average(-p * np.log(p) - (1 - p) * np.log(1 - p), weights=w), rel=1e-6
    )
    assert metrics.regret == pytest.approx(metrics.log_loss - log_loss(observed.label, p, sample_weight=w))


def test_certain_and_wrong_scores_cost_a_finite_amount():
    metrics = measure(Observations(np.array([1.0]), np.ones(1)), np.array([0.0], dtype=np.float32))
    assert metrics.log_loss == pytest.approx(-math.log(1e-7))


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_a_single_class_leaves_the_undefined_metrics_empty(label: float):
    metrics = measure(Observations(np.full(3, label), np.ones(3)), np.array([0.2, 0.3, 0.9]))
    assert metrics.auc is None
    assert metrics.normalized_entropy is None
    assert (metrics.calibration is None) == (label == 0.0)


def test_bins_have_equal_weight_and_ascend():
    observed, score = draw(1000)
    found = bins(observed.label, score, np.ones(1000), 10)
    assert [round(b.weight, 12) for b in found] == [0.1] * 10
    order = np.argsort(score, kind="stable")
    for b, rows in zip(found, np.split(order, 10), strict=True):
        assert b.mean_score == pytest.approx(score[rows].mean(), rel=1e-5)
        assert b.mean_label == pytest.approx(observed.label[rows].mean())


def test_fewer_rows_than_bins_leave_no_empty_bin():
    found = bins(np.array([0.0, 1.0, 1.0]), np.array([0.1, 0.5, 0.9]), np.ones(3), 10)
    assert [(b.mean_score, b.mean_label) for b in found] == [(0.1, 0.0), (0.5, 1.0), (0.9, 1.0)]


def test_the_registry_and_the_records_of_metrics_name_the_same():
    assert [metric.name for metric in HELD_OUT if metric.direction in (LESS, MORE)] == list(get_args(SelectionMetric))
    assert {metric.name for metric in HELD_OUT} == Quality.model_fields.keys() - {"base_rate", "gauc_share"}
    beside = {"bayes_log_loss", "expected_bayes_log_loss"}
    assert {metric.name for metric in EVALUATED} | beside == Metrics.model_fields.keys() - {"base_rate", "gauc_share"}
    assert len(METRICS) == len({*EVALUATED, *COMPARED})


def test_what_a_metric_needs_is_what_leaves_it_undefined():
    observed, score = draw(500)
    for needs, column in (("groups", "group"), ("truth", "truth")):
        found = measure(replace(observed, **{column: None}), score)
        assert {m.name for m in EVALUATED if getattr(found, m.name) is None} == {
            m.name for m in EVALUATED if m.needs == needs
        }


def test_the_miscalibration_is_how_far_the_calibration_is_from_one_by_its_logarithm():
    sums = Sums(weight=10.0, label=4.0, score=3.0, loss=5.0, won=1.0, positives=4.0, negatives=6.0)
    values = {metric.name: metric.formula(sums) for metric in (*HELD_OUT, *COMPARED)}
    assert (values["calibration"], values["gauc"]) == (0.75, None)
    assert values["miscalibration"] == pytest.approx(-np.log(0.75), rel=1e-15)
    assert MISCALIBRATION.formula(replace(sums, score=16.0 / 3.0)) == pytest.approx(values["miscalibration"], rel=1e-15)
    assert MISCALIBRATION.formula(replace(sums, score=0.0)) is None


def test_a_gain_is_positive_where_the_new_value_is_better():
    assert LOG_LOSS.gain(0.5, over=0.75) == 0.25
    assert AUC.gain(0.5, over=0.75) == -0.25
    assert CALIBRATION.gain(1.25, over=0.5) == pytest.approx(math.log(2.0 / 1.25), rel=1e-12)
    assert CALIBRATION.is_best(0.9, [1.2, 0.9])
    assert CALIBRATION.is_best(1.9, [1.9, 0.5])
    assert CALIBRATION.is_best(0.5, [2.1, 0.5, 0.0])
    assert not AUC.is_best(0.7, [0.7])
