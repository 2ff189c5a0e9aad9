"""Training by some number of real workers, each on a core of its own: all its threads, the loader's too."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import psutil

from benchmarks.train.nightjar import SETTINGS, Trainer
from training.collective import Collective
from training.config import TrainingConfig
from training.launch import run

EPOCHS = 2


def workers_round(model: str, train: str, workers: int) -> Mapping[str, float]:
    """The slowest worker's seconds over some epochs, after one that is not counted."""
    config = TrainingConfig.model_validate(SETTINGS | {"model": model})
    found = run(partial(_seconds, config, train), workers, threads=1, timeout_seconds=600)
    return max(found, key=lambda figures: figures["seconds"])


def _seconds(config: TrainingConfig, train: str, collective: Collective) -> Mapping[str, float]:
    process = psutil.Process()
    cores = process.cpu_affinity()
    process.cpu_affinity([collective.rank])
    trainer = Trainer(config, train, collective)
    trainer.epoch()
    collective.barrier()
    seconds = sum(trainer.epoch() for _ in range(EPOCHS))
    process.cpu_affinity(cores)
    return {"rows": trainer.plan.rows * EPOCHS, "seconds": seconds}
