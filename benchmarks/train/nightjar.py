"""Nightjar's trainer as a contestant: a round is an epoch through its own loader, files and all.

python -m benchmarks.train.nightjar MODEL TRAIN_DIR TEST_DIR THREADS SETTINGS EPOCHS_BEFORE ROWS

EPOCHS_BEFORE: how many epochs a fresh model has been trained for when the measured one begins. ROWS: `files`, or
`memory`: the measured epoch's rows have been read and shuffled before, as other trainers' are, and are laid out in it.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping

import numpy as np
import psutil

from benchmarks.train.contestant import cpu_seconds, serve
from benchmarks.train.rows import log_loss
from nightjar.features.contract.manifests import DatasetManifest
from nightjar.features.contract.publishing import read_manifest
from nightjar.training.config import TrainingConfig
from nightjar.training.data.dataset import Dataset
from nightjar.training.data.loader import epoch_batches, epoch_columns, laid_out
from nightjar.training.data.plan import Plan
from nightjar.training.job import TrainingJob
from nightjar.training.run.collective import Collective, Solo
from nightjar.training.run.worker import prepare_process
from nightjar.training.step.step import Learner

BATCH = 4096
SETTINGS = {
    "batch_size": BATCH,
    "embeddings": {"rule": "adagrad", "learning_rate": 0.02, "initial_accumulator": 1e-6, "init_scale": 0.05},
    "deep": {"layers": [400, 400, 400], "optimizer": "adagrad", "learning_rate": 0.02, "initial_accumulator": 1e-3},
    "wide": {"rule": "ftrl", "alpha": 0.1, "beta": 1.0, "lambda1": 0.0, "lambda2": 0.0},
}


class Trainer:
    """Epochs of training, one after the other. directory: a published data set."""

    def __init__(self, config: TrainingConfig, directory: str, collective: Collective) -> None:
        self._job = TrainingJob(config, directory, "")
        self.dataset = self._job.open()
        self.plan = self._job.plan(self.dataset)
        self.learner = Learner(config, self.dataset.layout, collective)
        self._collective = collective
        self._epoch = 0

    def epoch(self, in_memory: bool = False) -> Mapping[str, float]:
        """Seconds and processor time of the next epoch."""
        order = self.plan.epoch(self._epoch)
        self._epoch += 1
        share = (self.dataset, order, self._collective.rank, self._collective.size)
        if in_memory:
            ahead = laid_out(list(epoch_columns(*share)), self.dataset.layout, self.plan.steps_before(order.number))
        else:
            ahead = epoch_batches(*share)
        before, began = cpu_seconds(), time.perf_counter()
        with ahead as batches:
            for batch in self.learner.ahead(batches):
                self.learner.step(batch)
        return {"seconds": time.perf_counter() - began, "cpu": cpu_seconds() - before}

    def held_out(self, directory: str) -> float:
        """Log loss on another data set."""
        dataset = Dataset.of(directory, self._job.used(read_manifest(directory, DatasetManifest)))
        order = Plan(dataset.rows, BATCH, 1, 0).epoch(0)
        labels, logits = [], []
        with epoch_batches(dataset, order, 0, 1) as batches:
            for batch in batches:
                labels.append(batch.label_B)
                logits.append(self.learner.logits(batch).numpy())
        return log_loss(np.concatenate(labels), np.concatenate(logits))


def main() -> None:
    model, train, test, threads, settings, epochs_before, rows = sys.argv[1:]
    prepare_process(int(threads))
    config = TrainingConfig.model_validate(SETTINGS | {"model": model} | json.loads(settings))

    def measure() -> Mapping[str, float]:
        trainer = Trainer(config, train, Solo())
        for _ in range(int(epochs_before)):
            trainer.epoch()
        figures = {**trainer.epoch(rows == "memory"), "rows": trainer.plan.rows}
        resident = psutil.Process().memory_info().rss / 2**20
        return {**figures, "mib": resident, "log_loss": trainer.held_out(test)}

    Trainer(config, train, Solo()).epoch()  # loads the kernels, compiled in this process or from numba's cache
    serve(measure)


if __name__ == "__main__":
    main()
