"""The training loop: epochs of joint steps over the plan, then the candidate."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from functools import partial

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
from training.snapshot import Snapshot
from training.step import Learner
from training.trackers import tracking
from training.validation import Validation

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
    learner = Learner(job.config, dataset.layout, collective)
    transfer = job.transfer(read_manifest(job.dataset, DatasetManifest))
    if transfer:
        transfer.fill(learner.wide, learner.embeddings, learner.head_tensors(), collective)
        ranked.info("%s", transfer.report().summary())
    for approximation in sorted({table.approximation for table in learner.tables if table.approximation}):
        ranked.info("%s", approximation)
    ranked.info("%d rows in %d files, %d steps an epoch", plan.rows, len(plan.files), plan.steps)
    began = time.perf_counter()
    tracked = tracking(job.config, job.output, job.metrics, collective.rank)
    with tracked as trackers, Snapshot() as snapshot:
        validation = Validation(job, plan.steps, learner, collective, trackers, ranked, snapshot)
        epochs: list[Progress] = []
        while len(epochs) < job.config.epochs and not validation.stopped:
            progress = Progress(len(epochs), job.config.epochs, plan.steps, collective, trackers)
            train_epoch(dataset, plan, learner, progress, validation, collective)
            epochs.append(progress)
        steps = sum(progress.step for progress in epochs)
        measured = validation.finish(steps)
    seconds = time.perf_counter() - began
    rows = sum(progress.total.rows for progress in epochs)
    ranked.info("trained on %d rows in %.1f s", rows, seconds)
    statistics = {
        "steps": float(steps),
        "rows": float(rows),
        "first_epoch_log_loss": epochs[0].total.mean,
        "last_epoch_log_loss": epochs[-1].total.mean,
        **measured,
    }
    candidate.publish(job, learner, statistics, collective)
    ranked.info("published %s", job.output)
    return statistics


def train_epoch(
    dataset: Dataset,
    plan: Plan,
    learner: Learner,
    progress: Progress,
    validation: Validation,
    collective: Collective,
) -> None:
    """One epoch, each row once, or less of it if validation stops it. Raises DataError if rows were lost on the way."""
    epoch = progress.epoch
    with epoch_batches(dataset, plan.epoch(epoch), collective.rank, collective.size) as batches, progress:
        for step, batch in enumerate(learner.ahead(batches)):
            score = learner.step(batch)
            if not math.isfinite(score.loss):
                raise UsageError(
                    f"the loss is {score.loss} in epoch {epoch}, step {step}: training diverged. Lower the "
                    f"learning rates (training: deep.learning_rate, embeddings.learning_rate, wide.alpha)."
                )
            progress.add(score, learner.learning_rate_scale)
            with progress.paused():
                validation.after(epoch * plan.steps + step + 1)
            if validation.stopped:
                return
    if progress.total.rows != plan.rows:
        raise DataError(
            f"epoch {epoch} saw {progress.total.rows} rows of {dataset.directory}, but its manifest says "
            f"{plan.rows}. {REBUILD}"
        )
