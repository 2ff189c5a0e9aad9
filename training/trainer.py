"""The training loop: epochs of joint steps over the plan, then the candidate."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from functools import partial

from features.errors import DataError, UsageError
from training import candidate, checkpoint
from training.attempts import carry_out
from training.checkpoint import Checkpoints, Position
from training.collective import Collective
from training.data import epoch_batches
from training.dataset import REBUILD, Dataset
from training.job import TrainingJob
from training.launch import Launcher, run
from training.plan import Plan
from training.progress import Progress, RankLog, begin_metrics
from training.step import NOTHING, Learner

log = logging.getLogger(__name__)


def run_job(job: TrainingJob, launcher: Launcher = "local") -> None:
    """Carry a job out on its workers, unless its candidate is published already.

    A run that lost workers goes on from its last checkpoint (training.attempts), and so does one that is started
    again after its driver was killed. launcher: where the workers run; `spark` needs an active session. Raises a
    NightjarError.
    """
    job.open()
    if job.is_done():
        log.info("published already: %s", job.output)
        checkpoint.discard(job)
        return
    config = job.config

    def attempt(workers: int, seconds: float) -> None:
        run(
            partial(train, job),
            workers,
            launcher=launcher,
            threads=config.threads_per_worker,
            stall_seconds=config.stall_seconds,
            start_seconds=config.start_seconds,
            timeout_seconds=seconds,
        )

    carry_out(attempt, config, partial(checkpoint.newest_step, job), job.is_done)


def train(job: TrainingJob, collective: Collective) -> Mapping[str, float]:
    """Train and publish the candidate, going on from the newest checkpoint if there is one; every worker of the
    run calls this. Returns its statistics.
    """
    ranked = RankLog(collective)
    dataset = job.open()
    plan = job.plan(dataset)
    learner = Learner(job.config, dataset.layout, collective)
    for approximation in sorted({table.approximation for table in learner.tables if table.approximation}):
        ranked.info("%s", approximation)
    ranked.info("%d rows in %d files, %d steps an epoch", plan.rows, len(plan.files), plan.steps)
    checkpoints = Checkpoints(job, plan.steps, learner, collective)
    at = checkpoints.resume()
    if job.metrics and collective.rank == 0:
        begin_metrics(job.metrics, at.epoch, at.step)
    began, before = time.perf_counter(), sum(score.rows for score in at.scores)
    while at.epoch < job.config.epochs:
        train_epoch(job, dataset, plan, learner, at, checkpoints, collective)
    seconds, rows = time.perf_counter() - began, sum(score.rows for score in at.scores)
    ranked.info("trained on %d rows in %.1f s", rows - before, seconds)
    statistics = {
        "steps": float(plan.steps * len(at.scores)),
        "rows": float(rows),
        "first_epoch_log_loss": at.scores[0].mean,
        "last_epoch_log_loss": at.scores[-1].mean,
    }
    candidate.publish(job, learner, statistics, collective)
    ranked.info("published %s", job.output)
    if collective.rank == 0:
        checkpoint.discard(job)
    return statistics


def train_epoch(
    job: TrainingJob,
    dataset: Dataset,
    plan: Plan,
    learner: Learner,
    at: Position,
    checkpoints: Checkpoints,
    collective: Collective,
) -> None:
    """The rest of an epoch, each row once, and on to the next one's beginning. Raises DataError if rows were lost
    on the way, before an interruption or after.
    """
    epoch = at.epoch
    if len(at.scores) == epoch:
        at.scores.append(NOTHING)
    batches = epoch_batches(dataset, plan.epoch(epoch), collective.rank, collective.size, at.step)
    progress = Progress(epoch, job.config.epochs, plan.steps, collective, job.metrics, at.step, at.scores[epoch])
    with batches, progress:
        for batch in learner.ahead(batches):
            score = learner.step(batch)
            if not math.isfinite(score.loss):
                raise UsageError(
                    f"the loss is {score.loss} in epoch {epoch}, step {at.step}: training diverged. Lower the "
                    f"learning rates (training: deep.learning_rate, embeddings.learning_rate, wide.alpha)."
                )
            progress.add(score)
            at.step, at.scores[epoch] = at.step + 1, progress.total
            checkpoints.save_if_due(at)
    if progress.total.rows != plan.rows:
        raise DataError(
            f"epoch {epoch} saw {progress.total.rows} rows of {dataset.directory}, but its manifest says "
            f"{plan.rows}. {REBUILD}"
        )
    at.epoch, at.step = epoch + 1, 0
