"""A candidate's files of its tables: every rule, both placements, any number of workers; the same bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nightjar.training.config import TableConfig
from nightjar.training.export.table_files import write_embeddings, write_wide
from nightjar.training.run.collective import Collective, Solo
from nightjar.training.tables.choice import place
from nightjar.training.tables.table import Table
from tests.kits.training.cluster import ThreadCollective, run_cluster
from tests.kits.training.table_kit import ROWS, TABLES, WIDTH, learn, rounds


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nightjar.training.export.table_files._BLOCK_ROWS", 4)


def trained(name: str, placement: str, collective: Collective) -> Table:
    """By gradients that are summed alike in any order."""
    config = TableConfig(placement=placement)  # type: ignore[arg-type]
    table = TABLES[name](place(config, ROWS, collective.rank, collective.size))
    for ids, gradients in rounds(table.width, 30):
        part = slice(collective.rank, None, collective.size)
        learn(table, ids[part], gradients[part], 4.0, collective)
    return table


def written(name: str, placement: str, output: Path, world: int) -> dict[str, bytes]:
    """The files' bytes by path."""
    write = write_wide if name.startswith("wide") else write_embeddings

    def work(collective: Collective) -> None:
        write(str(output), trained(name, placement, collective), collective)

    if world == 1:
        work(Solo())
    else:
        run_cluster(world, work)
    return {str(path.relative_to(output)): path.read_bytes() for path in output.rglob("*.npy")}


@pytest.mark.parametrize("name", TABLES)
def test_files_are_the_same_for_any_number_of_workers_and_either_placement(name: str, tmp_path: Path) -> None:
    alone = written(name, "sharded", tmp_path / "alone", 1)
    for world in (2, 3):
        for placement in ("sharded", "replicated"):
            assert written(name, placement, tmp_path / f"{placement}_{world}", world) == alone


@pytest.mark.parametrize("name", TABLES)
def test_files_hold_the_table(name: str, tmp_path: Path) -> None:
    files = {path: tmp_path / path for path in written(name, "sharded", tmp_path, 1)}
    arrays = {path.removesuffix(".npy"): np.load(file) for path, file in files.items()}
    table = trained(name, "sharded", Solo())
    expected = dict(table.scalars())
    if name.startswith("wide"):
        prefix, every = "wide", np.arange(ROWS)
        weights, touched = table.weights(every)[:, 0], table.touched(every).nonzero()[0]
        assert arrays["optimizer/wide_ids"].tolist() == touched.tolist() == sorted({*touched})
        assert 0 < len(touched) < ROWS
        assert arrays["scoring/wide_ids"].tolist() == weights.nonzero()[0].tolist()
        assert arrays["scoring/wide_weights"].tolist() == weights[weights != 0.0].tolist()
        expected |= {"ids": touched, **{part: array[touched] for part, array in table.state().items()}}
    else:
        prefix = f"embedding_{WIDTH}"
        expected |= table.state()
        assert np.array_equal(arrays[f"scoring/{prefix}"], expected.pop("values"))
    found = {
        path.removeprefix(f"optimizer/{prefix}_"): a for path, a in arrays.items() if path.startswith("optimizer/")
    }
    assert found.keys() == expected.keys()
    for part, array in expected.items():
        assert found[part].dtype == array.dtype
        assert np.array_equal(found[part], array)


def test_files_of_ftrl_and_adagrad_keep_their_names(tmp_path: Path) -> None:
    assert sorted(written("wide ftrl", "sharded", tmp_path / "wide", 1)) == [
        "optimizer/wide_ftrl.npy",
        "optimizer/wide_ids.npy",
        "scoring/wide_ids.npy",
        "scoring/wide_weights.npy",
    ]
    assert sorted(written("embeddings adagrad", "sharded", tmp_path / "deep", 1)) == [
        f"optimizer/embedding_{WIDTH}_accumulators.npy",
        f"scoring/embedding_{WIDTH}.npy",
    ]


def test_a_model_without_a_wide_table_has_empty_wide_files(tmp_path: Path) -> None:
    write_wide(str(tmp_path), None, Solo())
    assert np.load(tmp_path / "scoring/wide_ids.npy").shape == (0,)
    assert np.load(tmp_path / "scoring/wide_weights.npy").shape == (0,)


def test_no_worker_receives_more_than_a_block_of_rows_at_a_time(tmp_path: Path) -> None:
    largest = []

    class Watched(ThreadCollective):
        def begin_all_to_all(self, tensors, splits):  # type: ignore[no-untyped-def]
            largest.append(max(len(tensor) for tensor in tensors))
            return super().begin_all_to_all(tensors, splits)

    def work(collective: ThreadCollective) -> None:
        table = trained("wide ftrl", "sharded", collective)
        collective.barrier()
        collective.__class__ = Watched
        write_wide(str(tmp_path), table, collective)

    run_cluster(2, work)
    assert max(largest) == 4
