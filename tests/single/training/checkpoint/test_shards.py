"""The rows of the tables in a checkpoint."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nightjar.features.contract.manifests import DatasetManifest
from nightjar.features.contract.publishing import read_manifest
from nightjar.training.checkpoint.shards import read_shards, write_shards
from nightjar.training.config import WideConfig
from nightjar.training.data.dataset import Dataset
from nightjar.training.run.collective import Collective
from nightjar.training.step.step import Learner
from nightjar.training.tables.choice import wide_table
from nightjar.training.tables.shard import Shard
from nightjar.training.tables.table import Table
from tests.kits.training.checkpoint_kit import make_job
from tests.kits.training.cluster import run_cluster


@pytest.mark.parametrize(("before", "after"), [(1, 1), (1, 3), (3, 2), (2, 4), (4, 2)])
def test_shards_come_back_bit_for_bit_in_any_world(tmp_path: Path, before: int, after: int) -> None:
    rows = 600_011
    rng = np.random.default_rng(3)
    whole = np.zeros((rows, 2), dtype=np.float32)
    touched = rng.choice(rows, 500, replace=False)
    whole[touched] = rng.standard_normal((500, 2))
    whole[touched[:3]] = [[-0.0, 0.0], [np.nan, np.inf], [np.float32(1e-45), 0.0]]
    entries = [
        write_shards(str(tmp_path), f"shard-{rank}", {"wide": table_of(whole, rank, before)}) for rank in range(before)
    ]
    assert sum(entry.bytes for entry in entries) < 60_000
    for rank in range(after):
        table = table_of(np.ones_like(whole), rank, after)
        read_shards([str(tmp_path / entry.path) for entry in entries], {"wide": table})
        assert table.state()["ftrl"].tobytes() == whole[rank::after].tobytes()


def table_of(whole: np.ndarray, rank: int, world: int) -> Table:
    table = wide_table(Shard(len(whole), rank, world), WideConfig(), 0)
    table.state()["ftrl"][:] = whole[rank::world]
    return table


def test_a_checkpoint_holds_the_touched_rows_of_the_wide_table_only(place: Path, tmp_path: Path) -> None:
    dataset = Dataset.of(str(place / "dataset"), read_manifest(str(place / "dataset"), DatasetManifest))

    def sizes(collective: Collective) -> tuple[int, int]:
        learner = Learner(make_job(place, "out").config, dataset.layout, collective)
        assert learner.wide
        fresh = write_shards(str(tmp_path), f"fresh-{collective.rank}", {"wide": learner.wide}).bytes
        learner.wide.update(np.arange(20), np.ones((20, 1), dtype=np.float32))
        return fresh, write_shards(str(tmp_path), f"touched-{collective.rank}", {"wide": learner.wide}).bytes

    for fresh, touched in run_cluster(2, sizes):
        assert touched - fresh == 20 * (8 + 4)
