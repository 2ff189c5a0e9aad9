"""Held-out evaluation between the steps of a run, and what follows from it."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from typing import Any

from nightjar.features.contract.errors import DataError
from nightjar.features.contract.metrics.registry import HELD_OUT
from nightjar.features.contract.records import ValidationRecord
from nightjar.training.checkpoint.snapshot import Snapshot
from nightjar.training.data.plan import Plan
from nightjar.training.evaluation.config import HeldOutValidationConfig
from nightjar.training.evaluation.evaluation import evaluate
from nightjar.training.evaluation.schedule import Schedule
from nightjar.training.job import TrainingJob
from nightjar.training.run.collective import Collective
from nightjar.training.step.step import Learner
from nightjar.training.tracking.trackers import Tracker

_NAMES = tuple(metric.name for metric in HELD_OUT)


class HeldOutValidation:
    """Evaluates the model when it is due, keeps the best state, lowers learning rates, says when to stop.

    Every worker holds one, and all of them decide the same, since the metrics are the same on all. Without a
    `validation` section nothing is ever due.
    """

    def __init__(
        self,
        job: TrainingJob,
        plan: Plan,
        learner: Learner,
        collective: Collective,
        log: logging.LoggerAdapter[logging.Logger],
    ) -> None:
        self._config = job.config.validation or HeldOutValidationConfig()
        self._job, self._dataset = job, job.open_validation()
        self._plan = plan
        self._learner, self._collective = learner, collective
        self._log, self._snapshot = log, Snapshot(job, collective)
        self._best: ValidationRecord | None = None
        self._last: ValidationRecord | None = None
        self.schedule = Schedule(self._config)
        self.stopped = False

    def after(self, step: int, tracker: Tracker) -> None:
        """Evaluate if it is due after `step` global batches of the run; every worker calls this after every step."""
        every = self._config.every_steps
        due = step % every == 0 if every else step == self._plan.steps_before(self._plan.epoch_of(step) + 1)
        if due:
            self._evaluate(step, tracker)

    def finish(self, step: int, tracker: Tracker) -> Mapping[str, float]:
        """End the run after `step` global batches with the state that is to be published; its statistics.

        Learning rates are at their full scale again: what goes on from the published state starts with those of the
        config, and FTRL's sums mean other weights under another rate.
        """
        if (self._last is None or self._last.step != step) and not self.stopped:
            self._evaluate(step, tracker)
        if self._config.publish == "best" and self._best:
            self._snapshot.restore(self._learner, self._best.step)
        self._learner.scale_learning_rates(1.0 / self._learner.learning_rate_scale)
        published = self._best if self._config.publish == "best" else self._last
        figures = published.model_dump(include={"step", *_NAMES}) if published else {}
        return {f"validation_{name}": float(figure) for name, figure in figures.items() if figure is not None}

    def state(self) -> Mapping[str, Any]:
        """All that it remembers, as JSON values, for a checkpoint; the best state itself is the snapshot's."""
        records = {"best": self._best, "last": self._last}
        return {
            "schedule": self.schedule.state(),
            **{name: record and record.model_dump(mode="json") for name, record in records.items()},
        }

    def go_on(self, step: int, state: Mapping[str, Any] | None) -> None:
        """Begin after `step` global batches of the run, with what `state` returned then; None: at the beginning. The
        learning rates' scale is the learner's to restore.
        """
        self._snapshot.go_on(step)
        if state is None:
            return
        self.schedule.restore(state["schedule"])
        self._best, self._last = (
            ValidationRecord.model_validate(state[name]) if state[name] else None for name in ("best", "last")
        )

    def _evaluate(self, step: int, tracker: Tracker) -> None:
        if self._dataset is None:
            return
        began, plan = time.perf_counter(), self._job.evaluation_plan(self._dataset)
        found = evaluate(self._learner, self._dataset, plan, self._collective)
        value: float | None = getattr(found, self._config.metric)
        if value is None:
            raise DataError(
                f"{self._config.metric} is not defined on the held-out rows of {self._dataset.directory}, which lack "
                f"one of the classes. Hold back more rows, or set training.validation.metric to log_loss."
            )
        verdict = self.schedule.observe(value)
        record = ValidationRecord(
            step=step,
            epoch=self._plan.epoch_of(step),
            rows=plan.rows,
            seconds=time.perf_counter() - began,
            best=verdict.improved,
            learning_rate_scale=self._learner.learning_rate_scale,
            **found.model_dump(include={*_NAMES}),
        )
        self._last = record
        tracker.log(record)
        self._log.info(
            "validation after step %d: log loss %.5f, AUC %.5f%s",
            *(step, found.log_loss, math.nan if found.auc is None else found.auc, ", the best" * verdict.improved),
        )
        self.stopped = verdict.stop
        if verdict.improved:
            self._best = record
            if self._config.publish == "best":
                self._snapshot.keep(self._learner, step)
        if verdict.factor != 1.0:
            self._learner.scale_learning_rates(verdict.factor)
            self._log.info("no better: learning rates times %g", verdict.factor)
        if verdict.stop:
            self._log.info("stopped early: %s was %g at best", self._config.metric, self.schedule.best)
