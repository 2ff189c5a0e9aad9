"""What every table does, whatever its rule; FTRL against NumPy in float64, written from the paper's formulas."""

from __future__ import annotations

import numpy as np
import pytest

from nightjar.features.contract.errors import UsageError
from nightjar.features.contract.layout import ColumnSpec, table_layout
from nightjar.training.config import EmbeddingConfig, TableConfig, WideConfig
from nightjar.training.kernels import kernels
from nightjar.training.kernels.memory import zeros
from nightjar.training.tables.choice import check_tables, embedding_table, place, wide_table
from nightjar.training.tables.shard import Shard
from nightjar.training.tables.table import Table
from tests.kits.training.table_kit import (
    EMBEDDINGS,
    FTRL,
    ROWS,
    SPARSE,
    TABLES,
    WIDTH,
    copy_of,
    dense_gradient,
    learn,
    rounds,
)


def ftrl_weights(z: np.ndarray, n: np.ndarray) -> np.ndarray:
    """McMahan et al. 2013, algorithm 1; lambda1 is 0 for the bias."""
    lambda1 = np.full(ROWS, FTRL.lambda1)
    lambda1[0] = 0.0
    w = -(z - np.sign(z) * lambda1) / ((FTRL.beta + np.sqrt(n)) / FTRL.alpha + FTRL.lambda2)
    return np.where(np.abs(z) <= lambda1, 0.0, w)


def test_ftrl_follows_algorithm_1_over_1000_rounds_with_duplicates() -> None:
    table = wide_table(Shard(ROWS), FTRL)
    z, n = np.zeros(ROWS), np.zeros(ROWS)
    for ids, gradients in rounds(1, 1000):
        w = ftrl_weights(z, n)
        np.testing.assert_allclose(learn(table, ids, gradients, 7.0)[:, 0], w[ids], rtol=2e-4, atol=2e-6)
        g = dense_gradient(ids, gradients)[:, 0]
        z += g - (np.sqrt(n + g**2) - np.sqrt(n)) / FTRL.alpha * w
        n += g**2
    np.testing.assert_allclose(table.state()["ftrl"], np.stack([z, n], axis=1), rtol=2e-4, atol=2e-4)
    assert 0 < np.count_nonzero(ftrl_weights(z, n)) < ROWS


def test_l1_makes_exact_zeros_but_leaves_the_bias_alone() -> None:
    table = wide_table(Shard(3), WideConfig(lambda1=1.0))
    learn(table, np.array([0, 1, 2]), np.array([[0.4], [0.4], [1.4]], dtype=np.float32), 1.0)
    bias, below, above = table.weights(np.arange(3))[:, 0]
    assert bias < 0.0
    assert below == 0.0
    assert above < 0.0


def test_more_l1_leaves_fewer_weights_and_none_in_the_end() -> None:
    """Coordinates 1 to 9 say something about the label, 10 to 59 nothing."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 2, (3000, ROWS)).astype(np.float32)
    truth = np.where(np.arange(ROWS) < 10, rng.normal(size=ROWS) * 2.0, 0.0)
    y = rng.random(3000) < 1.0 / (1.0 + np.exp(-(x - 0.5) @ truth))

    def kept(lambda1: float) -> np.ndarray:
        table, places = wide_table(Shard(ROWS), WideConfig(alpha=0.2, lambda1=lambda1)), np.arange(ROWS)
        for first in range(0, 3000, 10):
            rows, labels = x[first : first + 10], y[first : first + 10]
            p = 1.0 / (1.0 + np.exp(-rows @ table.weights(places)[:, 0]))
            table.update(places, ((p - labels) @ rows)[:, None].astype(np.float32))
        return table.weights(places)[1:, 0].nonzero()[0] + 1

    counts = [len(kept(lambda1)) for lambda1 in (0.0, 3.0, 10.0, 1e4)]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] == ROWS - 1
    assert counts[-1] == 0
    assert np.mean(kept(10.0) < 10) > 9 / counts[0]


@pytest.mark.parametrize("name", SPARSE)
def test_rows_without_a_gradient_keep_every_bit(name: str) -> None:
    table = TABLES[name](Shard(ROWS))
    for ids, gradients in rounds(table.width, 20):
        learn(table, ids, gradients, 1.0)
    before = {part: array.copy() for part, array in table.state().items()}
    ids = np.array([4, 9, 9, 11])
    gradients = np.ones((4, table.width), dtype=np.float32)
    gradients[3] = 0.0
    learn(table, ids, gradients, 1.0)
    untouched = np.setdiff1d(np.arange(ROWS), [4, 9])
    for part, array in table.state().items():
        assert array[untouched].tobytes() == before[part][untouched].tobytes()
    assert any(not np.array_equal(array[[4, 9]], before[part][[4, 9]]) for part, array in table.state().items())


def test_initial_embeddings_are_spread_as_configured_and_differ_by_seed_and_width() -> None:
    def values(width: int, seed: int, **more: bool) -> np.ndarray:
        return embedding_table(width, Shard(20_000), EmbeddingConfig(init_scale=0.4, **more), seed).state()["values"]

    spread = values(4, 1)
    assert spread.std() == pytest.approx(0.4 / 4**0.5, rel=0.01)
    assert abs(spread.mean()) < 0.003
    assert abs(spread).max() <= 0.2 * 3**0.5
    assert abs(np.corrcoef(spread[:-1].ravel(), spread[1:].ravel())[0, 1]) < 0.01
    assert len(np.unique(spread)) > 0.99 * spread.size
    assert not np.array_equal(spread, values(4, 2))
    assert not np.array_equal(spread[:, :2], values(2, 1))
    assert np.array_equal(values(4, 1, nonnegative=True), abs(spread))


def bytes_of(table: Table) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in copy_of(table).items()}


@pytest.mark.parametrize("name", TABLES)
def test_state_and_scalars_written_back_restore_a_table(name: str) -> None:
    first, second = TABLES[name](Shard(ROWS)), TABLES[name](Shard(ROWS))
    early, late = rounds(first.width, 40)[:20], rounds(first.width, 40)[20:]
    for ids, gradients in early:
        learn(first, ids, gradients, 3.0)
    for target, source in ((second.state(), first.state()), (second.scalars(), first.scalars())):
        for part, array in source.items():
            target[part][...] = array
    for ids, gradients in late:
        learn(first, ids, gradients, 3.0)
        learn(second, ids, gradients, 3.0)
    assert bytes_of(first) == bytes_of(second)


@pytest.mark.parametrize("name", [name for name in TABLES if name.startswith("wide")])
def test_touched_rows_are_those_that_had_a_gradient(name: str) -> None:
    table = TABLES[name](Shard(ROWS))
    learn(table, np.array([4, 9, 9, 11]), np.array([[1e-6], [1.0], [-0.5], [0.0]], dtype=np.float32), 1.0)
    assert np.flatnonzero(table.touched(np.arange(ROWS))).tolist() == [4, 9]


def layout(rows: int):  # type: ignore[no-untyped-def]
    return table_layout([ColumnSpec(name="f", feature="f", role="field", size=rows, embedding=WIDTH, wide=True)])


@pytest.mark.parametrize(
    ("wide", "embeddings", "said"),
    [
        (WideConfig(), EMBEDDINGS["adam"], "training.embeddings.rule adam moves every row of a table in every step, "),
        (WideConfig(rule="adam"), None, "a table has 1000002 rows, more than training.wide.dense_rows_limit = 1000000"),
        (WideConfig(rule="adagrad", l2=0.1), None, r"only the rule adam does, not adagrad\. Remove l2"),
        (WideConfig(rule="adagrad", precision="q2.13"), None, "is made for the rule ftrl, not for adagrad"),
        (WideConfig(rule="adagrad", squares="examples"), None, "is a way of the rule ftrl to count, not of adagrad"),
        (WideConfig(alpha=0.5, lambda1=4.5, precision="q2.13"), None, r"at most 2 \(beta / alpha \+ lambda2\) = 4\."),
    ],
)
def test_tables_that_cannot_be_are_refused(wide: WideConfig, embeddings: EmbeddingConfig | None, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        check_tables(layout(1_000_001), wide, embeddings)


def test_the_bound_on_dense_rows_is_a_setting() -> None:
    check_tables(layout(1000), WideConfig(rule="adam"), EMBEDDINGS["adam"])
    check_tables(layout(2000), WideConfig(), EmbeddingConfig(rule="adam", dense_rows_limit=2000))


def test_a_table_is_placed_as_configured() -> None:
    assert place(TableConfig(), 10, 1, 3) == Shard(10, 1, 3)
    assert place(TableConfig(placement="replicated"), 10, 1, 3) == Shard(10)


@pytest.mark.parametrize("count", [0, 1, 7, 1000])
def test_deduplicate_gives_each_id_of_a_column_once_and_says_where(count: int) -> None:
    rng = np.random.default_rng(1)
    # Ids that differ in their upper or in their lower half alone.
    ids_of = rng.integers(0, 20, 300) * 2**40 + rng.integers(0, 20, 300)
    columns = [rng.choice(ids_of, length) for length in (count, 0, count // 2, 3 * count)]
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
    dealt = Shard(100, 0, world).by_owner(ids)
    assert dealt.counts == [int(np.sum(ids % world == owner)) for owner in range(world)]
    assert ids[dealt.order_U].tolist() == [i for owner in range(world) for i in ids.tolist() if i % world == owner]
    assert np.array_equal(dealt.places_U, ids[dealt.order_U] // world)


@pytest.mark.parametrize("world", [1, 2, 3, 4, 6])
def test_shards_hold_every_row_once_at_places_without_gaps(world: int) -> None:
    shards, everything = [Shard(ROWS, rank, world) for rank in range(world)], np.arange(ROWS)
    of_each = [shard.ids(np.arange(shard.size)) for shard in shards]
    assert sorted(np.concatenate(of_each).tolist()) == everything.tolist()
    assert max(shard.size for shard in shards) == shards[-1].largest_size
    for shard, ids in zip(shards, of_each, strict=True):
        mine, places = shard.held(everything)
        assert mine.tolist() == ids.tolist()
        assert places.tolist() == list(range(shard.size))
        assert [shard.place(row) for row in ids.tolist()] == places.tolist()
        for other in (Shard(ROWS, rank, 4) for rank in range(4)):
            assert shard.overlaps(other) == bool(set(ids.tolist()) & set(other.ids(np.arange(other.size)).tolist()))


@pytest.mark.parametrize("rows", [0, 1, 3, 1_000_003])
@pytest.mark.parametrize("dtype", [np.float32, np.int16])
def test_zeros_of_any_size_can_be_written_and_read(rows: int, dtype: type) -> None:
    """Above 4 MiB they come from pages of their own."""
    array = zeros(rows, 3, dtype)
    assert (array.shape, array.dtype, array.flags.c_contiguous) == ((rows, 3), np.dtype(dtype), True)
    assert not array.any()
    array[rows // 2 :] = 7
    assert int(array.sum(dtype=np.int64)) == 7 * 3 * (rows - rows // 2)
    assert not np.shares_memory(array, zeros(rows, 3, dtype))
