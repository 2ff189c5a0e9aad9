"""FTRL with weights in q2.13: what randomised rounding costs, and what it saves."""

from __future__ import annotations

import numpy as np
import pytest

from nightjar.training.config import WideConfig
from nightjar.training.kernels import kernels
from nightjar.training.tables.choice import wide_table
from nightjar.training.tables.fixed_point import LIMIT, UNIT, decode, encode
from nightjar.training.tables.shard import Shard
from nightjar.training.tables.table import Table
from tests.kits.training.table_kit import FTRL, Q213, ROWS

D = FTRL.beta / FTRL.alpha + FTRL.lambda2


def test_rounding_is_the_papers_and_unbiased() -> None:
    """McMahan et al. 2013, section 4.2: 2^-13 floor(2^13 w + R). The mean's bound is 5 standard errors."""
    x = kernels.uniform(1, np.arange(100_000), 7)
    for w in (0.3, -0.3, 1.7e-5, -2.5 * UNIT, 3.99):
        z = -w * D
        rounded = np.array([encode(z, 0.0, r, FTRL.alpha, FTRL.beta, FTRL.lambda2) for r in x]) * UNIT
        assert np.array_equal(rounded, np.floor(w / UNIT + x) * UNIT)
        assert abs(rounded - w).max() < UNIT
        assert abs(rounded.mean() - w) < 5 * 0.5 * UNIT / len(x) ** 0.5
        assert len(np.unique(rounded)) == 2


def test_what_16_bits_hold_exactly_is_not_changed() -> None:
    for code in (-(2**15), -1, 0, 1, 8191, 2**15 - 1):
        for n in (0.0, 3.7):
            z = decode(code, n, FTRL.alpha, FTRL.beta, FTRL.lambda2)
            assert encode(z, n, 0.5, FTRL.alpha, FTRL.beta, FTRL.lambda2) == code


def test_weights_are_clipped_to_what_16_bits_hold() -> None:
    table = wide_table(Shard(3), WideConfig(alpha=10.0, precision="q2.13"))
    for _ in range(50):
        table.update(np.array([1, 2]), np.array([[-9.0], [9.0]], dtype=np.float32))
    assert table.weights(np.arange(3))[:, 0].tolist() == [0.0, LIMIT - UNIT, -LIMIT]


def test_random_numbers_depend_on_seed_row_and_step_alone_and_are_uniform() -> None:
    ids = np.arange(50_000)
    x = kernels.uniform(3, ids, 9)
    assert np.array_equal(kernels.uniform(3, ids[::7], 9), x[::7])
    assert 0.0 <= x.min() < x.max() < 1.0
    np.testing.assert_allclose(np.histogram(x, 20)[0], 2500, atol=5 * 2500**0.5)
    for other in (kernels.uniform(4, ids, 9), kernels.uniform(3, ids, 10), kernels.uniform(3, ids + 1, 9)):
        assert abs(np.corrcoef(x, other)[0, 1]) < 5 / len(ids) ** 0.5


def test_on_average_a_coordinate_learns_what_it_learns_in_float32() -> None:
    """Many coordinates under the same gradients; small ones, that rounding to the nearest would lose. Of a weight's
    mean, three parts in a thousand; the rounding's own noise is a few units.
    """
    exact = wide_table(Shard(2), FTRL)
    coded = wide_table(Shard(20_000), Q213, seed=1)
    places, rng = np.arange(1, 20_000), np.random.default_rng(0)
    for _ in range(300):
        g = np.float32(rng.normal(-0.02, 0.01))
        exact.update(np.array([1]), np.array([[g]], dtype=np.float32))
        coded.update(places, np.full((len(places), 1), g, dtype=np.float32))
    [[w]], weights = exact.weights(np.array([1])), coded.weights(places)[:, 0]
    assert w > 100 * UNIT
    assert weights.mean() == pytest.approx(w, rel=3e-3)
    assert UNIT / 2 < weights.std() < 20 * UNIT


def test_a_coordinate_inside_the_l1_ball_remembers_what_it_has_learned() -> None:
    """Two gradients that are each too small for a weight add up to one."""
    table = wide_table(Shard(2), Q213)
    for step in range(2):
        assert table.weights(np.array([1]))[0, 0] == 0.0, step
        table.update(np.array([1]), np.array([[-0.6]], dtype=np.float32))
    assert table.weights(np.array([1]))[0, 0] > 0.0


def test_a_gradient_of_zero_changes_nothing() -> None:
    table = wide_table(Shard(ROWS), Q213)
    table.update(np.arange(ROWS), np.linspace(-1, 1, ROWS, dtype=np.float32)[:, None])
    before = {name: array.copy() for name, array in table.state().items()}
    table.update(np.arange(ROWS), np.zeros((ROWS, 1), dtype=np.float32))
    assert all(np.array_equal(array, before[name]) for name, array in table.state().items())


def progressive_log_loss(table: Table, examples: int) -> float:
    """Each example scored before it is learned from: 20 of 2000 coordinates are 1, by a Zipf law."""
    rng = np.random.default_rng(0)
    truth = rng.normal(size=2000) * 0.5
    loss = 0.0
    for _ in range(examples // 100):
        ids = np.minimum(rng.zipf(1.3, (100, 20)), 1999)
        y = rng.random(100) < 1.0 / (1.0 + np.exp(-truth[ids].sum(axis=1)))
        unique, index = np.unique(ids, return_inverse=True)
        logit = table.weights(unique)[:, 0][index.reshape(ids.shape)].sum(axis=1)
        loss += np.logaddexp(0.0, np.where(y, -logit, logit)).sum()
        g = np.bincount(index.ravel(), np.repeat(1.0 / (1.0 + np.exp(-logit)) - y, 20), len(unique))
        table.update(unique, g[:, None].astype(np.float32))
    return loss / examples


def test_16_bits_save_a_quarter_of_the_state_and_cost_no_log_loss() -> None:
    """Within 1e-4 nats of float32 after 40,000 examples, where learning takes off 0.1."""
    exact, coded = (wide_table(Shard(2000), config, seed=1) for config in (WideConfig(), WideConfig(precision="q2.13")))
    losses = [progressive_log_loss(table, 40_000) for table in (exact, coded)]
    print(f"progressive log loss: float32 {losses[0]:.6f}, q2.13 {losses[1]:.6f}")
    assert losses[0] < 0.6
    assert losses[1] - losses[0] < 1e-4
    sizes = [sum(array.nbytes for array in table.state().values()) for table in (exact, coded)]
    assert sizes == [2000 * 8, 2000 * 6]
