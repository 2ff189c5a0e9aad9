"""The training loop: epochs of joint steps over the plan, then the candidate."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial

from nightjar.features.contract import liveness
from nightjar.features.contract.errors import DataError, UsageError
from nightjar.features.contract.manifests import DatasetManifest
from nightjar.features.contract.publishing import read_manifest
from nightjar.training.checkpoint import checkpoint
from nightjar.training.checkpoint.checkpoint import Checkpoints, Position
from nightjar.training.data.base_rate import base_log_odds
from nightjar.training.data.dataset import REBUILD, Dataset
from nightjar.training.data.loader import epoch_batches
from nightjar.training.data.plan import Plan
from nightjar.training.evaluation.validation import HeldOutValidation
from nightjar.training.export import candidate
from nightjar.training.job import TrainingJob
from nightjar.training.run.attempts import carry_out
from nightjar.training.run.collective import Collective
from nightjar.training.run.launch import Launcher, run
from nightjar.training.step.step import NOTHING, Learner
from nightjar.training.tracking.progress import Progress, RankLog
from nightjar.training.tracking.trackers import Tracker, tracking
from nightjar.training.warm_start.intercept import begin_at

log = logging.getLogger(__name__)


def run_job(job: TrainingJob, launcher: Launcher = "local") -> None:
    """Carry a job out on its workers, unless its candidate is published already.

    A run that lost workers goes on from its last checkpoint (training.run.attempts), and so does one that is started
    again after its driver was killed. Fewer files than workers are trained on by as many workers. launcher: where the
    workers run; `spark` needs an active session. Raises a NightjarError.
    """
    job = job.within_files()
    job.open()
    if job.is_done():
        log.info("published already: %s", job.output)
        checkpoint.discard(job)
        return
    if job.warm_start:
        job.warm_start.verify()
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
    with liveness.opaque_work():
        dataset = job.open()
        plan = job.plan(dataset)
        learner = Learner(job.config, dataset.layout, collective)
    for approximation in sorted({table.approximation for table in learner.tables if table.approximation}):
        ranked.info("%s", approximation)
    ranked.info("%d rows in %d files, %d steps", plan.rows, len(plan.files), plan.steps_before(job.config.epochs))
    validation = HeldOutValidation(job, plan, learner, collective, ranked)
    checkpoints = Checkpoints(job, plan, learner, validation.state, collective)
    at = checkpoints.resume()
    validation.go_on(at.done(plan), at.extra)
    if at.extra is None:
        _begin(job, dataset, learner, collective, ranked)
    began, before = time.perf_counter(), sum(score.rows for score in at.scores)
    with tracking(job.config, job.output, job.metrics, collective.rank, at.done(plan)) as tracker:
        while at.epoch < job.config.epochs and not validation.stopped:
            train_epoch(
                _Session(job, dataset, plan, learner, collective), at, _Between(validation, checkpoints, tracker)
            )
        measured = validation.finish(at.done(plan), tracker)
    seconds, rows = time.perf_counter() - began, sum(score.rows for score in at.scores)
    ranked.info("trained on %d rows in %.1f s", rows - before, seconds)
    statistics = {
        "steps": float(at.done(plan)),
        "rows": float(rows),
        "first_epoch_log_loss": at.scores[0].mean,
        "last_epoch_log_loss": at.scores[-1].mean,
        **measured,
    }
    candidate.publish(job, learner, statistics, collective)
    ranked.info("published %s", job.output)
    if collective.rank == 0:
        checkpoint.discard(job)
    return statistics


def _begin(job: TrainingJob, dataset: Dataset, learner: Learner, collective: Collective, ranked: RankLog) -> None:
    """With what the parent of a warm start has learned, or with the base rate alone."""
    transfer = job.transfer(read_manifest(job.dataset, DatasetManifest))
    if transfer is None:
        log_odds = base_log_odds(dataset, collective)
        begin_at(log_odds, learner.wide, job.config.resolved.wide, learner.head)
        ranked.info("a cold start, with the intercept %.4f, the log-odds of the training rows", log_odds)
    else:
        report = transfer.fill(learner.wide, learner.embeddings, learner.head_tensors(), collective)
        ranked.info("%s", report.summary())


@dataclass(frozen=True)
class _Session:
    """Who learns what from which rows, in which order."""

    job: TrainingJob
    dataset: Dataset
    plan: Plan
    learner: Learner
    collective: Collective


@dataclass(frozen=True)
class _Between:
    """What happens between the steps."""

    validation: HeldOutValidation
    checkpoints: Checkpoints
    tracker: Tracker


def train_epoch(session: _Session, at: Position, between: _Between) -> None:
    """The rest of an epoch, each row once, and on to the next one's beginning, unless validation stops it. Raises
    DataError if rows were lost on the way, before an interruption or after.

    Args:
        session: what is trained; its learner is changed.
        at: where the run is; moved on.
        between: what happens between the steps.
    """
    epoch, dataset, plan, learner = at.epoch, session.dataset, session.plan, session.learner
    world = session.collective.rank, session.collective.size
    validation, tracker = between.validation, between.tracker
    if len(at.scores) == epoch:
        at.scores.append(NOTHING)
    read = epoch_batches(dataset, plan.epoch(epoch), *world, at.step)
    epochs = session.job.config.epochs
    progress = Progress(plan.epoch(epoch), epochs, session.collective, tracker, at.step, at.scores[epoch])
    with read, closing(learner.ahead(read)) as batches, progress:
        for batch in batches:
            score = learner.step(batch)
            liveness.advance()
            if not math.isfinite(score.loss):
                raise UsageError(
                    f"the loss is {score.loss} in epoch {epoch}, step {at.step}: training diverged. Lower the "
                    f"learning rates (training: deep.learning_rate, embeddings.learning_rate, wide.alpha)."
                )
            progress.add(score, learner.learning_rate_scale)
            at.step, at.scores[epoch] = at.step + 1, progress.total
            with progress.paused():
                validation.after(at.done(plan), tracker)
                if validation.stopped:
                    return
                between.checkpoints.save_if_due(at)
    if progress.total.rows != plan.rows:
        raise DataError(
            f"epoch {epoch} saw {progress.total.rows} rows of {dataset.directory}, but its manifest says "
            f"{plan.rows}. {REBUILD}"
        )
    if not progress.total.weight:
        raise DataError(
            f"no row of {dataset.directory} has a weight above 0, so there is nothing to learn. "
            f"Correct the weights in the log, or leave features.weight out."
        )
    at.epoch, at.step = epoch + 1, 0
