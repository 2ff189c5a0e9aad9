"""The training loop: epochs of joint steps over the plan, then the candidate."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from functools import partial

from features import storage
from features.errors import DataError, UsageError
from features.manifest import DatasetManifest, read_manifest
from training import candidate
from training.collective import Collective
from training.data import epoch_batches
from training.dataset import REBUILD, Dataset
from training.job import TrainingJob
from training.launch import Launcher, run
from training.plan import Plan
from training.progress import Progress, RankLog
from training.step import Learner, Score

log = logging.getLogger(__name__)


def run_job(job: TrainingJob, launcher: Launcher = "local") -> None:
    """Carry a job out on its workers, unless its candidate is published already.

    launcher: where the workers run; `spark` needs an active session. Raises a NightjarError.
    """
    job.open()
    if job.is_done():
        log.info("published already: %s", job.output)
        return
    if job.warm_start:
        job.warm_start.verify()
    config = job.config
    run(
        partial(train, job),
        config.workers,
        launcher=launcher,
        threads=config.threads_per_worker,
        stall_seconds=config.stall_seconds,
        timeout_seconds=config.timeout_seconds,
    )


def train(job: TrainingJob, collective: Collective) -> Mapping[str, float]:
    """Train and publish the candidate; every worker of the run calls this. Returns its statistics."""
    ranked = RankLog(collective)
    dataset = job.open()
    plan = job.plan(dataset)
    if job.metrics and collective.rank == 0:
        storage.write_bytes(job.metrics, b"")
    learner = Learner(job.config, dataset.layout, collective)
    transfer = job.transfer(read_manifest(job.dataset, DatasetManifest))
    if transfer:
        transfer.fill(learner.wide, learner.embeddings, learner.head_tensors(), collective)
        ranked.info("%s", transfer.report().summary())
    ranked.info("%d rows in %d files, %d steps an epoch", plan.rows, len(plan.files), plan.steps)
    began = time.perf_counter()
    scores = [train_epoch(job, dataset, plan, learner, epoch, collective) for epoch in range(job.config.epochs)]
    seconds = time.perf_counter() - began
    ranked.info("trained on %d rows in %.1f s", sum(score.rows for score in scores), seconds)
    statistics = {
        "steps": float(plan.steps * len(scores)),
        "rows": float(sum(score.rows for score in scores)),
        "first_epoch_log_loss": scores[0].mean,
        "last_epoch_log_loss": scores[-1].mean,
    }
    candidate.publish(job, learner, statistics, collective)
    ranked.info("published %s", job.output)
    return statistics


def train_epoch(
    job: TrainingJob, dataset: Dataset, plan: Plan, learner: Learner, epoch: int, collective: Collective
) -> Score:
    """One epoch, each row once. Returns its progressive score. Raises DataError if rows were lost on the way."""
    batches = epoch_batches(dataset, plan.epoch(epoch), collective.rank, collective.size)
    with batches, Progress(epoch, job.config.epochs, plan.steps, collective, job.metrics) as progress:
        for step, batch in enumerate(batches):
            score = learner.step(batch)
            if not math.isfinite(score.loss):
                raise UsageError(
                    f"the loss is {score.loss} in epoch {epoch}, step {step}: training diverged. Lower the "
                    f"learning rates (training: deep.learning_rate, embeddings.learning_rate, wide.alpha)."
                )
            progress.add(score)
    if progress.total.rows != plan.rows:
        raise DataError(
            f"epoch {epoch} saw {progress.total.rows} rows of {dataset.directory}, but its manifest says "
            f"{plan.rows}. {REBUILD}"
        )
    return progress.total
