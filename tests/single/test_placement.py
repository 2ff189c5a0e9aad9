"""The one-process oracle: every rule, sharded and replicated, learns among workers what one worker learns."""

from __future__ import annotations

import numpy as np
import pytest

from tests.cluster import ThreadCollective, run_cluster
from tests.single.table_kit import ROWS, TABLES, copy_of, learn, rounds
from training import exchange, replication
from training.collective import Collective, Solo
from training.config import TableConfig
from training.tables import Table, place

STEPS = 60


def all_learn(collective: Collective, placement: str) -> dict[str, np.ndarray]:
    """Worker r gives the entries r, r + n - 1, ... of each round; the last of n > 1 workers has none."""
    rank, size = collective.rank, collective.size
    part = slice(rank, None, max(size - 1, 1)) if rank < size - 1 or size == 1 else slice(0, 0)
    config = TableConfig(placement=placement)  # type: ignore[arg-type]
    states = {}
    for name, make in TABLES.items():
        table = make(place(config, ROWS, rank, size))
        for ids, gradients in rounds(table.width, STEPS):
            learn(table, ids[part], gradients[part], 4.0, collective)
        states |= {f"{name}/{array}": values for array, values in copy_of(table).items()}
    return states


@pytest.mark.parametrize("world", [2, 3, 4])
def test_sharded_tables_learn_what_one_table_learns(world: int) -> None:
    parts = run_cluster(world, lambda collective: all_learn(collective, "sharded"))
    for name, whole in all_learn(Solo(), "sharded").items():
        joined = np.empty_like(whole)
        for rank in range(world):
            if whole.ndim:
                joined[rank::world] = parts[rank][name]
            else:
                assert parts[rank][name] == whole
                joined = parts[rank][name]
        np.testing.assert_allclose(joined, whole, rtol=1e-6, atol=1e-7, err_msg=name)


@pytest.mark.parametrize("world", [2, 3, 4])
def test_replicas_learn_what_one_table_learns_and_stay_the_same_bit_for_bit(world: int) -> None:
    replicas = run_cluster(world, lambda collective: all_learn(collective, "replicated"))
    for name, whole in all_learn(Solo(), "replicated").items():
        np.testing.assert_allclose(replicas[0][name], whole, rtol=1e-6, atol=1e-7, err_msg=name)
        assert len({replica[name].tobytes() for replica in replicas}) == 1


def test_tables_of_both_placements_travel_side_by_side() -> None:
    """Their order is kept, and each one's rows are its own."""
    names = list(TABLES)

    def work(collective: ThreadCollective) -> list[np.ndarray]:
        tables: list[Table] = []
        for n, name in enumerate(names):
            config = TableConfig(placement="replicated" if n % 2 else "sharded")
            tables.append(TABLES[name](place(config, ROWS, collective.rank, 2)))
        ids = np.arange(collective.rank, ROWS, 3)
        rows = replication.look_up(tables, [ids] * len(tables), collective)
        for r in rows:
            r.rows_UD.grad = r.rows_UD.detach().new_ones(r.rows_UD.shape)
        replication.update(rows, 2.0, collective)
        after = replication.look_up(tables, [np.arange(ROWS)] * len(tables), collective)
        return [r.rows_UD.detach().numpy()[r.index_M] for r in after]

    first, second = run_cluster(2, work)
    for n, name in enumerate(names):
        table = TABLES[name](place(TableConfig(), ROWS, 0, 1))
        [rows] = exchange.look_up([table], [np.unique([*range(0, ROWS, 3), *range(1, ROWS, 3)])], Solo())
        rows.rows_UD.grad = rows.rows_UD.detach().new_ones(rows.rows_UD.shape)
        exchange.update([rows], 2.0, Solo())
        np.testing.assert_allclose(first[n], table.weights(np.arange(ROWS)), rtol=1e-6, atol=1e-7, err_msg=name)
        assert np.array_equal(first[n], second[n])
