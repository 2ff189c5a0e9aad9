"""Early stopping and plateaus by hand-worked sequences, and what a smaller learning rate is to a table."""

from __future__ import annotations

import json
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nightjar.training.config import EmbeddingConfig, HeldOutValidationConfig, WideConfig
from nightjar.training.evaluation.config import EarlyStopping, Plateau
from nightjar.training.evaluation.schedule import Schedule, Verdict
from nightjar.training.tables.choice import embedding_table, wide_table
from nightjar.training.tables.shard import Shard


def verdicts(config: HeldOutValidationConfig, values: list[float]) -> list[Verdict]:
    schedule = Schedule(config)
    return [schedule.observe(value) for value in values]


def test_training_stops_at_the_patienceth_validation_in_a_row_without_improvement() -> None:
    config = HeldOutValidationConfig(early_stopping=EarlyStopping(patience=2))
    found = verdicts(config, [0.5, 0.6, 0.4, 0.4, 0.41])
    assert [v.improved for v in found] == [True, False, True, False, False]
    assert [v.stop for v in found] == [False, False, False, False, True]


def test_of_auc_more_is_better_and_of_log_loss_less() -> None:
    values = [0.6, 0.7, 0.65]
    assert [v.improved for v in verdicts(HeldOutValidationConfig(metric="auc"), values)] == [True, True, False]
    assert [v.improved for v in verdicts(HeldOutValidationConfig(metric="gauc"), values)] == [True, True, False]
    assert [v.improved for v in verdicts(HeldOutValidationConfig(metric="log_loss"), values)] == [True, False, False]


def test_an_improvement_exceeds_min_delta_over_the_best_and_not_over_the_last() -> None:
    found = verdicts(HeldOutValidationConfig(min_delta=0.125), [1.0, 0.9375, 0.875, 0.75, 0.9])
    assert [v.improved for v in found] == [True, False, False, True, False]


def test_learning_rates_fall_at_each_plateau_down_to_the_least_scale() -> None:
    config = HeldOutValidationConfig(plateau=Plateau(factor=0.1, patience=2, min_scale=0.01))
    found = verdicts(config, [0.5, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6, 0.4, 0.6, 0.6])
    assert [v.factor for v in found] == [1.0, 1.0, 0.1, 1.0, 0.1, 1.0, 1.0, 1.0, 1.0, 1.0]
    assert not any(v.stop for v in found)


def test_a_plateau_delays_no_stop_and_a_stop_no_plateau() -> None:
    config = HeldOutValidationConfig(plateau=Plateau(factor=0.5, patience=1), early_stopping=EarlyStopping(patience=3))
    found = verdicts(config, [0.5, 0.6, 0.6, 0.6])
    assert [(v.factor, v.stop) for v in found] == [(1.0, False), (0.5, False), (0.5, False), (0.5, True)]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([0.1, 0.2, 0.3, 0.4]), min_size=1, max_size=12), st.integers(0, 12))
def test_a_schedule_restored_from_json_goes_on_as_if_nothing_had_happened(values: list[float], at: int) -> None:
    config = HeldOutValidationConfig(
        plateau=Plateau(factor=0.5, patience=2), early_stopping=EarlyStopping(patience=4), min_delta=0.05
    )
    first, second = Schedule(config), Schedule(config)
    expected = verdicts(config, values)
    found = [first.observe(value) for value in values[:at]]
    second.restore(json.loads(json.dumps(first.state())))
    assert found + [second.observe(value) for value in values[at:]] == expected


def test_ftrl_with_a_learning_rate_that_changes_is_its_definition() -> None:
    """McMahan 2011: w = argmin sum g.w + sum sigma_s (w - w_s)^2 / 2 + l1 |w| + l2 w^2 / 2, where the sum of all sigma
    to t is 1 / eta_t = (beta + sqrt(n_t)) / alpha_t.
    """
    rows, alphas = 6, [0.2] * 6 + [0.02] * 6 + [0.1] * 6
    config = WideConfig(alpha=0.2, beta=0.5, lambda1=0.3, lambda2=0.1)
    gradients = np.random.default_rng(0).normal(0.3, 1.0, (len(alphas), rows)).astype(np.float32)
    table = wide_table(Shard(rows), config)
    l1 = np.full(rows, 0.3)
    l1[0] = 0.0  # the bias

    weights, sigmas, n, inverse_eta = [np.zeros(rows)], [], np.zeros(rows), np.zeros(rows)
    for step, alpha in enumerate(alphas):
        n = n + gradients[step].astype(np.float64) ** 2
        sigmas.append((0.5 + np.sqrt(n)) / alpha - inverse_eta if step else (0.5 + np.sqrt(n)) / alpha)
        inverse_eta = (0.5 + np.sqrt(n)) / alpha
        z = gradients[: step + 1].astype(np.float64).sum(axis=0)
        z = z - sum(sigma * w for sigma, w in zip(sigmas, weights, strict=True))
        weights.append(np.where(np.abs(z) <= l1, 0.0, -(z - np.sign(z) * l1) / (inverse_eta + 0.1)))

    everywhere = np.arange(rows)
    for step, alpha in enumerate(alphas):
        before = table.weights(everywhere).copy()
        table.scale_learning_rate(alpha / (alphas[step - 1] if step else 0.2))
        np.testing.assert_allclose(table.weights(everywhere), before, rtol=1e-5)
        np.testing.assert_array_equal(table.weights(everywhere) == 0.0, before == 0.0)
        table.update(everywhere, gradients[step][:, None])
        np.testing.assert_allclose(table.weights(everywhere)[:, 0], weights[step + 1], rtol=2e-4, atol=1e-6)
    assert np.count_nonzero(np.array(weights[1:]) == 0.0) > 2


@pytest.mark.parametrize("rule", ["adagrad", "row_adagrad", "lazy_adam", "adam"])
def test_every_rule_takes_a_scaled_step(rule: Literal["adagrad", "row_adagrad", "lazy_adam", "adam"]) -> None:
    tables = [
        embedding_table(4, Shard(3), EmbeddingConfig(rule=rule, learning_rate=rate), seed=1) for rate in (0.1, 0.4)
    ]
    tables[1].scale_learning_rate(0.25)
    for table in tables:
        table.update(np.array([0, 2]), np.full((2, 4), 0.5, np.float32))
    np.testing.assert_array_equal(tables[0].weights(np.arange(3)), tables[1].weights(np.arange(3)))


@pytest.mark.parametrize(("precision", "error"), [("float32", 1e-7), ("q2.13", 2.0**-12)])
def test_scaling_there_and_back_keeps_the_weights(precision: Literal["float32", "q2.13"], error: float) -> None:
    table = wide_table(Shard(50), WideConfig(lambda1=0.1, precision=precision))
    rng = np.random.default_rng(3)
    for _ in range(5):
        table.update(np.arange(50), rng.normal(size=(50, 1)).astype(np.float32))
    before = table.weights(np.arange(50))
    table.scale_learning_rate(0.01)
    table.scale_learning_rate(100.0)
    np.testing.assert_allclose(table.weights(np.arange(50)), before, rtol=1e-4, atol=error)
