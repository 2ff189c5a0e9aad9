"""AdaGrad, row-wise AdaGrad, Adam and lazy Adam against their formulas in NumPy float64 and against torch.optim."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from nightjar.training.config import EmbeddingConfig, WideConfig
from nightjar.training.tables.choice import embedding_table, wide_table
from nightjar.training.tables.shard import Shard
from nightjar.training.tables.table import Table
from tests.kits.training.table_kit import EMBEDDINGS, ROWS, WIDE, WIDTH, dense_gradient, learn, rounds

STEPS, TOTAL = 1000, 8.0


def trained(table: Table, each: Callable[[np.ndarray, np.ndarray], None]) -> np.ndarray:
    """STEPS rounds; each(mean gradient float64[ROWS, D], touched ids) as well. Returns the table's values."""
    for ids, gradients in rounds(table.width, STEPS):
        learn(table, ids, gradients, TOTAL)
        each(dense_gradient(ids, gradients) / TOTAL, np.unique(ids))
    return table.state()["values"]


def start(name: str) -> tuple[Table, np.ndarray]:
    """A table of embeddings and its initial values."""
    table = embedding_table(WIDTH, Shard(ROWS), EMBEDDINGS[name], seed=5)
    return table, table.state()["values"].astype(np.float64)


def test_adagrad_follows_its_formula_over_1000_rounds_with_duplicates() -> None:
    table, w = start("adagrad")
    n = np.full(w.shape, 0.2)

    def each(g: np.ndarray, touched: np.ndarray) -> None:
        np.add(n, g**2, out=n)
        np.subtract(w, 0.07 * g / np.sqrt(n), out=w)

    np.testing.assert_allclose(trained(table, each), w, rtol=2e-5, atol=2e-5)
    np.testing.assert_allclose(table.state()["accumulators"], n, rtol=2e-5)


def test_row_adagrad_follows_its_formula_over_1000_rounds_with_duplicates() -> None:
    table, w = start("row_adagrad")
    n = np.full((ROWS, 1), 0.2)

    def each(g: np.ndarray, touched: np.ndarray) -> None:
        np.add(n, np.mean(g**2, axis=1, keepdims=True), out=n)
        np.subtract(w, 0.07 * g / np.sqrt(n), out=w)

    np.testing.assert_allclose(trained(table, each), w, rtol=2e-5, atol=2e-5)
    np.testing.assert_allclose(table.state()["row_accumulators"], n, rtol=2e-5)


def test_row_adagrad_of_one_column_is_adagrad() -> None:
    tables = [
        embedding_table(1, Shard(ROWS), EmbeddingConfig(rule=rule), seed=5)  # type: ignore[arg-type]
        for rule in ("row_adagrad", "adagrad")
    ]
    row_wise, by_element = (trained(table, lambda g, touched: None) for table in tables)
    np.testing.assert_allclose(row_wise, by_element, rtol=1e-5, atol=1e-6)


def test_adam_follows_algorithm_1_and_moves_rows_without_a_gradient() -> None:
    table, w = start("adam")
    first = w.copy()
    m, v, t = np.zeros(w.shape), np.zeros(w.shape), 0

    def each(g: np.ndarray, touched: np.ndarray) -> None:
        nonlocal t
        t += 1
        g = g + 0.03 * w
        m[:] = 0.9 * m + 0.1 * g
        v[:] = 0.999 * v + 0.001 * g**2
        w[:] -= 0.01 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)

    np.testing.assert_allclose(trained(table, each), w, rtol=1e-3, atol=5e-5)
    np.testing.assert_allclose(table.state()["means"], m, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(table.state()["squares"], v, rtol=1e-3, atol=1e-8)
    assert int(table.scalars()["step"]) == STEPS
    assert np.all(w[-5:] != first[-5:])


def test_lazy_adam_is_the_adam_of_each_row_alone() -> None:
    table, w = start("lazy_adam")
    first, m, v, t = w.copy(), np.zeros(w.shape), np.zeros(w.shape), np.zeros((ROWS, 1))

    def each(g: np.ndarray, touched: np.ndarray) -> None:
        r = touched[g[touched].any(axis=1)]
        t[r] += 1
        m[r] = 0.9 * m[r] + 0.1 * g[r]
        v[r] = 0.999 * v[r] + 0.001 * g[r] ** 2
        w[r] -= 0.01 * (m[r] / (1 - 0.9 ** t[r])) / (np.sqrt(v[r] / (1 - 0.999 ** t[r])) + 1e-8)

    np.testing.assert_allclose(trained(table, each), w, rtol=1e-3, atol=5e-5)
    assert np.array_equal(table.state()["steps"], t)
    assert 0 < t[t > 0].min() < t.max() <= STEPS
    assert np.array_equal(w[-5:], first[-5:])


@pytest.mark.parametrize("name", ["adagrad", "adam"])
def test_torch_optim_agrees(name: str) -> None:
    """adam's l2 is torch's weight_decay: l2 w in the gradient."""
    table, w = start(name)
    parameter = torch.nn.Parameter(torch.from_numpy(w))
    optimizer: torch.optim.Optimizer
    if name == "adagrad":
        optimizer = torch.optim.Adagrad([parameter], lr=0.07, initial_accumulator_value=0.2, eps=0.0)
    else:
        optimizer = torch.optim.Adam([parameter], lr=0.01, weight_decay=0.03)

    def each(g: np.ndarray, touched: np.ndarray) -> None:
        parameter.grad = torch.from_numpy(g)
        optimizer.step()

    np.testing.assert_allclose(trained(table, each), parameter.detach().numpy(), rtol=1e-3, atol=5e-5)


def test_adam_is_lazy_adam_where_every_row_has_a_gradient_in_every_step() -> None:
    rng, places = np.random.default_rng(0), np.arange(ROWS)
    configs = [EmbeddingConfig(rule="adam"), EmbeddingConfig(rule="lazy_adam")]
    tables = [embedding_table(WIDTH, Shard(ROWS), config, seed=5) for config in configs]
    for _ in range(50):
        gradients = rng.normal(size=(ROWS, WIDTH)).astype(np.float32)
        for table in tables:
            table.update(places, gradients)
    np.testing.assert_allclose(tables[0].state()["values"], tables[1].state()["values"], rtol=1e-6)
    assert tables[0].approximation == ""
    assert tables[1].approximation.startswith("lazy_adam is an approximation of Adam")


def test_adam_steps_without_any_gradient() -> None:
    """A worker whose shard no batch touches must call update all the same."""
    table, w = start("adam")
    learn(table, np.empty(0, dtype=np.int64), np.empty((0, WIDTH), dtype=np.float32), 1.0)
    assert int(table.scalars()["step"]) == 1
    g = 0.03 * w
    np.testing.assert_allclose(table.state()["values"], w - 0.01 * g / (abs(g) + 1e-8), rtol=1e-5, atol=1e-6)


def test_l2_leaves_the_bias_alone() -> None:
    table = wide_table(Shard(3), WIDE["adam"])
    table.state()["values"][:] = 0.5
    for _ in range(10):
        table.update(np.empty(0, dtype=np.int64), np.empty((0, 1), dtype=np.float32))
    assert table.state()["values"][0, 0] == 0.5
    assert np.all(table.state()["values"][1:, 0] < 0.45)


@pytest.mark.parametrize("rule", ["adagrad", "row_adagrad", "lazy_adam", "adam"])
def test_nonnegative_tables_are_projected_after_every_step(rule: str) -> None:
    """The first steps from the same values, with and without the projection, agree but for the sign."""
    free, projected = (
        embedding_table(WIDTH, Shard(ROWS), EmbeddingConfig(rule=rule, learning_rate=0.05, nonnegative=flag), seed=5)  # type: ignore[arg-type]
        for flag in (False, True)
    )
    free.state()["values"][:] = projected.state()["values"]
    for step, (ids, gradients) in enumerate(rounds(WIDTH, 100)):
        for table in (free, projected):
            learn(table, ids, gradients, TOTAL)
        if step == 0:
            expected = np.maximum(free.state()["values"], 0.0)
            assert np.array_equal(projected.state()["values"], expected)
            assert (free.state()["values"] < 0.0).any()
        assert projected.state()["values"].min() >= 0.0
    assert 0 < np.count_nonzero(projected.state()["values"]) < ROWS * WIDTH


@pytest.mark.parametrize(("rule", "rate"), [("adagrad", 0.05), ("adam", 0.001), ("lazy_adam", 0.001)])
def test_a_rule_brings_its_own_learning_rate(rule: str, rate: float) -> None:
    config = WideConfig(rule=rule, initial_accumulator=0.0)  # type: ignore[arg-type]
    table = wide_table(Shard(3), config)
    table.update(np.array([1]), np.array([[2.0]], dtype=np.float32))
    assert table.weights(np.array([1]))[0, 0] == pytest.approx(-rate, rel=1e-5)
