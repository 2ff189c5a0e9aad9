"""Runs that are interrupted and go on, by as many workers or others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import BrokenBarrierError

import numpy as np
import pytest

from nightjar.features.contract.manifests import CandidateManifest
from nightjar.features.contract.publishing import read_manifest
from nightjar.training.checkpoint import checkpoint
from nightjar.training.checkpoint.checkpoint import Position
from nightjar.training.config import TrainingConfig
from nightjar.training.job import TrainingJob
from nightjar.training.run.collective import Solo
from nightjar.training.trainer import train
from tests.kits.training.cluster import run_cluster

FILES, BATCH, EPOCHS = (60, 31, 0, 90, 7, 40), 16, 2
STEPS = -(-sum(FILES) // BATCH)
EVERY = 5


class Interrupted(Exception):
    """What a test ends a run with."""


def make_job(place: Path, output: Path | str, **settings: object) -> TrainingJob:
    config = TrainingConfig.model_validate(
        {
            "epochs": EPOCHS,
            "batch_size": BATCH,
            "lanes": 4,
            "wide": {"lambda1": 0.05, "alpha": 0.1},
            "embeddings": {"init_scale": 0.5},
            "deep": {"layers": [8, 4]},
            "checkpoint": {"every_steps": EVERY, "every_minutes": None, "keep": 2},
        }
        | settings
    )
    return TrainingJob.of(config, str(place / "dataset"), str(output), str(place / "holdout"))


def by(world: int, job: TrainingJob) -> None:
    if world == 1:
        train(job, Solo())
    else:
        run_cluster(world, lambda collective: train(job, collective))


@contextmanager
def interrupted_after(done: int) -> Iterator[None]:
    """Every worker's run ends once it has learned `done` global batches, and saved them where that was due."""
    real = checkpoint.Checkpoints.save_if_due

    def counting(self: checkpoint.Checkpoints, at: Position) -> None:
        real(self, at)
        if at.done(self._plan) == done:
            raise Interrupted

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint.Checkpoints, "save_if_due", counting)
        with pytest.raises((Interrupted, BrokenBarrierError)):
            yield


def files(directory: str) -> dict[str, bytes]:
    root = Path(directory)
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def assert_differs_by_rounding(resumed: Path, alone: Path) -> None:
    """Two candidates: their tables, what the head's optimizer remembers, their statistics."""
    names = sorted(path.relative_to(alone) for path in alone.rglob("*.npy"))
    assert len(names) == 9
    for name in names:
        np.testing.assert_allclose(
            np.load(resumed / name), np.load(alone / name), rtol=5e-5, atol=2e-6, err_msg=str(name)
        )
    actual, expected = (np.load(directory / "optimizer/head.npz") for directory in (resumed, alone))
    for name in expected:
        np.testing.assert_allclose(actual[name], expected[name], rtol=5e-5, atol=2e-6)
    statistics = read_manifest(str(resumed), CandidateManifest).statistics
    assert statistics == pytest.approx(read_manifest(str(alone), CandidateManifest).statistics, rel=1e-6)
