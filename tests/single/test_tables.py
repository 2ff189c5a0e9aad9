"""The tables' rules against NumPy in float64, written from the papers' formulas."""

from __future__ import annotations

import numpy as np
import pytest

from tests.cluster import ThreadCollective, run_cluster
from training import exchange, kernels
from training.batch import Entries
from training.collective import Collective, Solo
from training.config import EmbeddingConfig, WideConfig
from training.pooling import gradient_of_rows, pool
from training.tables import EmbeddingTable, Shard, Table, WideTable

ROWS, STEPS, ENTRIES = 60, 1000, 40
WIDE = WideConfig(alpha=0.1, beta=1.0, lambda1=0.7, lambda2=0.3)


def learn(table: Table, ids: np.ndarray, gradients: np.ndarray, weight: float, collective: Collective) -> np.ndarray:
    """Look ids up, give entry i the gradient gradients[i], update. Returns what was looked up, by entry."""
    [rows] = exchange.look_up([table], exchange.request([single_field(ids)], collective), collective)
    looked_up = np.empty_like(gradients)
    pool(rows.rows_UD, rows.entries, looked_up, 0)
    back = gradient_of_rows(gradients, rows.entries, table.width, 0)
    exchange.update([rows], exchange.send_gradients([rows], [back], collective).wait(), weight)
    return looked_up


def single_field(ids: np.ndarray) -> Entries:
    """One id a row, each in a cell of its own."""
    unique, index = np.unique(ids, return_inverse=True)
    nothing = np.empty((len(ids), 0), dtype=np.float32)
    return Entries(unique, nothing, index.astype(np.int32)[None, :], np.zeros((1, 3), dtype=np.int64), (), 1)


def random_rounds(width: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Ids with many duplicates, and a gradient for each."""
    rng = np.random.default_rng(3)
    return [
        (rng.zipf(1.5, ENTRIES) % (ROWS - 5), rng.normal(size=(ENTRIES, width)).astype(np.float32))
        for _ in range(STEPS)
    ]


def ftrl_weights(z: np.ndarray, n: np.ndarray) -> np.ndarray:
    """McMahan et al. 2013, algorithm 1; lambda1 is 0 for the bias."""
    lambda1 = np.full(ROWS, WIDE.lambda1)
    lambda1[0] = 0.0
    w = -(z - np.sign(z) * lambda1) / ((WIDE.beta + np.sqrt(n)) / WIDE.alpha + WIDE.lambda2)
    return np.where(np.abs(z) <= lambda1, 0.0, w)


def test_ftrl_follows_algorithm_1_over_1000_rounds_with_duplicates() -> None:
    table = WideTable(Shard(ROWS), WIDE)
    z, n = np.zeros(ROWS), np.zeros(ROWS)
    for ids, gradients in random_rounds(1):
        w = ftrl_weights(z, n)
        np.testing.assert_allclose(learn(table, ids, gradients, 7.0, Solo())[:, 0], w[ids], rtol=2e-4, atol=2e-6)
        g = np.zeros(ROWS)
        np.add.at(g, ids, gradients[:, 0].astype(np.float64))
        z += g - (np.sqrt(n + g**2) - np.sqrt(n)) / WIDE.alpha * w
        n += g**2
    np.testing.assert_allclose(table.state()["ftrl"], np.stack([z, n], axis=1), rtol=2e-4, atol=2e-4)
    assert 0 < np.count_nonzero(ftrl_weights(z, n)) < ROWS


def test_adagrad_follows_its_formula_over_1000_rounds_with_duplicates() -> None:
    config = EmbeddingConfig(learning_rate=0.07, initial_accumulator=0.2)
    table = EmbeddingTable(3, Shard(ROWS), config, seed=5)
    w = table.state()["values"].astype(np.float64)
    n = np.full(w.shape, 0.2)
    for ids, gradients in random_rounds(3):
        learn(table, ids, gradients, 8.0, Solo())
        g = np.zeros(w.shape)
        np.add.at(g, ids, gradients.astype(np.float64))
        g /= 8.0
        n += g**2
        w -= 0.07 * g / np.sqrt(n)
    np.testing.assert_allclose(table.state()["values"], w, rtol=2e-5, atol=2e-5)
    np.testing.assert_allclose(table.state()["accumulators"], n, rtol=2e-5)


@pytest.mark.parametrize("width", [1, 3])
def test_rows_without_a_gradient_keep_every_bit(width: int) -> None:
    table: Table
    table = WideTable(Shard(ROWS), WIDE) if width == 1 else EmbeddingTable(3, Shard(ROWS), EmbeddingConfig(), 5)
    for ids, gradients in random_rounds(width)[:20]:
        learn(table, ids, gradients, 1.0, Solo())
    before = {name: array.copy() for name, array in table.state().items()}
    ids = np.array([4, 9, 9, 11])
    gradients = np.ones((4, width), dtype=np.float32)
    gradients[3] = 0.0
    learn(table, ids, gradients, 1.0, Solo())
    untouched = np.setdiff1d(np.arange(ROWS), [4, 9])
    for name, array in table.state().items():
        assert array[untouched].tobytes() == before[name][untouched].tobytes()
        assert not np.array_equal(array[[4, 9]], before[name][[4, 9]])


def test_l1_makes_exact_zeros_but_leaves_the_bias_alone() -> None:
    table = WideTable(Shard(3), WideConfig(lambda1=1.0))
    learn(table, np.array([0, 1, 2]), np.array([[0.4], [0.4], [1.4]], dtype=np.float32), 1.0, Solo())
    bias, below, above = table.weights(np.arange(3))[:, 0]
    assert bias < 0.0
    assert below == 0.0
    assert above < 0.0


def test_initial_embeddings_do_not_depend_on_the_sharding() -> None:
    whole = EmbeddingTable(5, Shard(101), EmbeddingConfig(), seed=9).state()["values"]
    for world in (2, 3, 7):
        for rank in range(world):
            part = EmbeddingTable(5, Shard(101, rank, world), EmbeddingConfig(), seed=9).state()["values"]
            assert np.array_equal(part, whole[rank::world])


def test_initial_embeddings_are_spread_as_configured_and_differ_by_seed_and_width() -> None:
    def table(width: int, seed: int) -> np.ndarray:
        return EmbeddingTable(width, Shard(20_000), EmbeddingConfig(init_scale=0.4), seed).state()["values"]

    values = table(4, 1)
    assert values.std() == pytest.approx(0.4 / 4**0.5, rel=0.01)
    assert abs(values.mean()) < 0.003
    assert abs(values).max() <= 0.2 * 3**0.5
    assert abs(np.corrcoef(values[:-1].ravel(), values[1:].ravel())[0, 1]) < 0.01
    assert len(np.unique(values)) > 0.99 * values.size
    assert not np.array_equal(values, table(4, 2))
    assert not np.array_equal(values[:, :2], table(2, 1))


@pytest.mark.parametrize("world", [2, 3, 5])
def test_sharded_tables_learn_what_one_table_learns(world: int) -> None:
    """Worker r gives the entries r, r + world, ... of each round; the last worker has none."""

    def shares(rank: int) -> slice:
        return slice(rank, None, world - 1) if rank < world - 1 else slice(0, 0)

    def work(collective: ThreadCollective) -> dict[str, np.ndarray]:
        shard = Shard(ROWS, collective.rank, world)
        tables: list[Table] = [WideTable(shard, WIDE), EmbeddingTable(3, shard, EmbeddingConfig(), 5)]
        for (wide_ids, wide_g), (ids, g) in zip(random_rounds(1)[:200], random_rounds(3)[:200], strict=True):
            part = shares(collective.rank)
            learn(tables[0], wide_ids[part], wide_g[part], 4.0, collective)
            learn(tables[1], ids[part], g[part], 4.0, collective)
        return dict(tables[0].state()) | dict(tables[1].state())

    parts = run_cluster(world, work)
    [whole] = run_cluster(1, lambda _: single())
    for name, array in whole.items():
        joined = np.empty_like(array)
        for rank in range(world):
            joined[rank::world] = parts[rank][name]
        np.testing.assert_allclose(joined, array, rtol=1e-5, atol=1e-5)


def single() -> dict[str, np.ndarray]:
    tables: list[Table] = [WideTable(Shard(ROWS), WIDE), EmbeddingTable(3, Shard(ROWS), EmbeddingConfig(), 5)]
    for (wide_ids, wide_g), (ids, g) in zip(random_rounds(1)[:200], random_rounds(3)[:200], strict=True):
        learn(tables[0], wide_ids, wide_g, 4.0, Solo())
        learn(tables[1], ids, g, 4.0, Solo())
    return dict(tables[0].state()) | dict(tables[1].state())


@pytest.mark.parametrize("count", [0, 1, 7, 1000])
def test_deduplicate_gives_each_id_of_a_column_once_and_says_where(count: int) -> None:
    rng = np.random.default_rng(1)
    columns = [rng.integers(0, 300, length) * 2**23 for length in (count, 0, count // 2, 3 * count)]
    bounds = np.concatenate([[0], np.cumsum([len(column) for column in columns])])
    unique, starts, index = kernels.deduplicate(np.concatenate(columns), bounds)
    assert starts[-1] == len(unique)
    for c, ids in enumerate(columns):
        of_column, places = unique[starts[c] : starts[c + 1]], index[bounds[c] : bounds[c + 1]]
        assert len(set(of_column.tolist())) == len(of_column)
        assert np.array_equal(of_column[places - starts[c]], ids)


@pytest.mark.parametrize("world", [1, 2, 5])
def test_rows_are_grouped_by_owner_without_changing_their_order(world: int) -> None:
    ids = np.random.default_rng(2).permutation(100)[:40]
    order, counts = kernels.group_by_owner(ids, world)
    assert counts.tolist() == [int(np.sum(ids % world == owner)) for owner in range(world)]
    assert ids[order].tolist() == [i for owner in range(world) for i in ids.tolist() if i % world == owner]
