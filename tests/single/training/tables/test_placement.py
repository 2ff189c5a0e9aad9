"""The one-process oracle: every rule, sharded and replicated, learns among workers what one worker learns."""

from __future__ import annotations

import numpy as np
import pytest

from nightjar.training.config import TableConfig
from nightjar.training.run.collective import Solo
from nightjar.training.step import replication
from nightjar.training.tables.choice import place
from nightjar.training.tables.table import Table
from tests.kits.training.cluster import ThreadCollective, run_cluster
from tests.kits.training.table_kit import ROWS, TABLES, all_learn, learn, single_field, teach

STEPS = 60


@pytest.mark.parametrize("world", [2, 3, 4])
def test_sharded_tables_learn_what_one_table_learns(world: int) -> None:
    parts = run_cluster(world, lambda collective: all_learn(collective, "sharded", STEPS))
    for name, whole in all_learn(Solo(), "sharded", STEPS).items():
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
    replicas = run_cluster(world, lambda collective: all_learn(collective, "replicated", STEPS))
    for name, whole in all_learn(Solo(), "replicated", STEPS).items():
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
        requested = replication.request(tables, [single_field(ids)] * len(tables), collective)
        rows = replication.look_up(tables, requested, collective)
        teach(rows, [np.ones_like(r.rows_UD) for r in rows], 2.0, collective)
        requested = replication.request(tables, [single_field(np.arange(ROWS))] * len(tables), collective)
        return [r.rows_UD for r in replication.look_up(tables, requested, collective)]

    first, second = run_cluster(2, work)
    for n, name in enumerate(names):
        table = TABLES[name](place(TableConfig(), ROWS, 0, 1))
        ids = np.concatenate([np.arange(0, ROWS, 3), np.arange(1, ROWS, 3)])
        learn(table, ids, np.ones((len(ids), table.width), dtype=np.float32), 2.0)
        np.testing.assert_allclose(first[n], table.weights(np.arange(ROWS)), rtol=1e-6, atol=1e-7, err_msg=name)
        assert np.array_equal(first[n], second[n])
