"""Training by some number of real workers."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial

import psutil

from benchmarks.train.nightjar import SETTINGS, Trainer
from nightjar.training.config import TrainingConfig
from nightjar.training.run.collective import Collective
from nightjar.training.run.launch import run

EPOCHS = 2


def workers_round(
    settings: Mapping[str, object], train: str, test: str, workers: int, pinned: bool
) -> Mapping[str, float]:
    """The slowest worker's seconds over some epochs, after one that is not counted, the processor time of all workers,
    and what the model has learned.

    pinned: each worker has a core of its own for all its threads, the loader's and Horovod's too.
    """
    config = TrainingConfig.model_validate(SETTINGS | settings)
    found = run(partial(_figures, config, train, test, pinned), workers, threads=1, timeout_seconds=600)
    slowest = max(found, key=lambda figures: figures["seconds"])
    return {**slowest, "cpu": sum(figures["cpu"] for figures in found)}


def _figures(config: TrainingConfig, train: str, test: str, pinned: bool, collective: Collective) -> dict[str, float]:
    cores = os.sched_getaffinity(0)
    if pinned:
        _keep_to({collective.rank})
    trainer = Trainer(config, train, collective)
    trainer.epoch()
    collective.barrier()
    epochs = [trainer.epoch() for _ in range(EPOCHS)]
    _keep_to(cores)  # of one worker this process is the benchmark's own
    figures = {name: sum(epoch[name] for epoch in epochs) for name in ("seconds", "cpu")}
    return {**figures, "rows": trainer.plan.rows * EPOCHS, "log_loss": trainer.held_out(test)}


def _keep_to(cores: set[int]) -> None:
    """All threads that are there, and those that they start."""
    for thread in psutil.Process().threads():
        os.sched_setaffinity(thread.id, cores)
