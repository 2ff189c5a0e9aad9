"""Training by some number of real workers of one thread each."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

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
    trainer = Trainer(config, train, collective)
    trainer.epoch()
    collective.barrier()
    seconds = sum(trainer.epoch() for _ in range(EPOCHS))
    return {"rows": trainer.plan.rows * EPOCHS, "seconds": seconds}
