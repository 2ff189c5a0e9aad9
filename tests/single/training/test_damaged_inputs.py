"""What a run reads beside its rows: no flipped bit in it is learned from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nightjar.features.contract.errors import DataError
from nightjar.features.contract.manifests import CandidateManifest, DatasetManifest
from nightjar.features.contract.publishing import read_manifest
from nightjar.training.checkpoint.shards import read_shards, write_shards
from nightjar.training.config import TrainingConfig, WideConfig
from nightjar.training.job import TrainingJob
from nightjar.training.run.collective import Solo
from nightjar.training.step.step import Learner
from nightjar.training.tables.choice import wide_table
from nightjar.training.tables.shard import Shard
from nightjar.training.trainer import run_job
from nightjar.training.warm_start import WarmStart
from tests.kits.training.datasets import make_dataset, make_state

CONFIG = TrainingConfig.model_validate({"batch_size": 16, "lanes": 2, "deep": {"layers": [4]}})


def flip(path: Path, position: int) -> bytes:
    """Returns what it was."""
    content = path.read_bytes()
    damaged = bytearray(content)
    damaged[position % len(content)] ^= 1
    path.write_bytes(damaged)
    return content


def test_golden_rows(tmp_path: Path) -> None:
    make_dataset(str(tmp_path / "dataset"), [40])
    make_dataset(str(tmp_path / "holdout"), [10], seed=1, golden=20)
    job = TrainingJob(CONFIG, str(tmp_path / "dataset"), str(tmp_path / "out"), str(tmp_path / "holdout"))
    flip(tmp_path / "holdout/golden/encoded.parquet", 500)
    with pytest.raises(DataError, match=r"golden/encoded\.parquet differs from the manifest"):
        run_job(job)
    assert not (tmp_path / "out/manifest.json").exists()


def test_a_parents_files(tmp_path: Path) -> None:
    """Before they are read, by whichever worker reads them; not only before the run."""
    digests = [make_state(str(tmp_path / name), seed) for seed, name in enumerate(("before", "now"))]
    for name, state in zip(("old", "new"), digests, strict=True):
        make_dataset(str(tmp_path / name), [40], state=state)
    run_job(TrainingJob(CONFIG, str(tmp_path / "old"), str(tmp_path / "parent")))
    start = WarmStart(str(tmp_path / "parent"), str(tmp_path / "before"), str(tmp_path / "now"))
    job = TrainingJob(CONFIG, str(tmp_path / "new"), str(tmp_path / "out"), warm_start=start)
    transfer = job.transfer(read_manifest(job.dataset, DatasetManifest))
    assert transfer is not None
    dataset = job.open()
    for entry in read_manifest(str(tmp_path / "parent"), CandidateManifest).files:
        path = tmp_path / "parent" / entry.path
        was = flip(path, -1)
        learner = Learner(CONFIG, dataset.layout, Solo())
        with pytest.raises(DataError, match=f"is damaged: .*{path.name}.* differ from the manifest"):
            transfer.fill(learner.wide, learner.embeddings, learner.head_tensors(), Solo())
        path.write_bytes(was)
    learner = Learner(CONFIG, dataset.layout, Solo())
    transfer.fill(learner.wide, learner.embeddings, learner.head_tensors(), Solo())


def test_a_checkpoints_shards(tmp_path: Path) -> None:
    """Each worker reads its rows out of all of them, after the first has compared them as wholes."""
    table = wide_table(Shard(300, 0, 1), WideConfig().resolved("ftrl"), 0)
    rng = np.random.default_rng(0)
    for array in table.state().values():
        array[...] = rng.standard_normal(array.shape)
    entry = write_shards(str(tmp_path), "shard.zip", {"wide": table})
    path, good = tmp_path / entry.path, {name: array.copy() for name, array in table.state().items()}
    for position in rng.integers(entry.bytes, size=200).tolist():
        was = flip(path, position)
        fresh = wide_table(Shard(300, 0, 1), WideConfig().resolved("ftrl"), 0)
        try:
            read_shards([str(path)], {"wide": fresh})
        except DataError as error:
            assert "shard.zip" in str(error)  # noqa: PT017
        else:  # a bit that means nothing, such as a time in a header
            assert all(np.array_equal(array, good[name]) for name, array in fresh.state().items())
        path.write_bytes(was)
