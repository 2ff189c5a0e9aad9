"""What a run says about itself: log lines, a progress bar on a terminal, records for the trackers."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from datetime import timedelta
from types import TracebackType
from typing import Any

import psutil

from nightjar.features.contract.records import ProgressRecord
from nightjar.training.data.plan import EpochPlan
from nightjar.training.run.collective import Collective
from nightjar.training.step.step import NOTHING, Score
from nightjar.training.tracking.trackers import Tracker

_REPORT_SECONDS = 10.0


class RankLog(logging.LoggerAdapter[logging.Logger]):
    """Log lines that begin with `[rank r/n]`; below warnings, rank 0's only, unless the logger `training` is
    at DEBUG.
    """

    def __init__(self, collective: Collective) -> None:
        super().__init__(logging.getLogger("training"))
        self._rank = collective.rank
        self._prefix = f"[rank {collective.rank}/{collective.size}]"

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 (logging's name)
        """See logging.Logger."""
        spoken = self._rank == 0 or level >= logging.WARNING or self.logger.isEnabledFor(logging.DEBUG)
        return spoken and super().isEnabledFor(level)

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """See logging.LoggerAdapter."""
        return f"{self._prefix} {msg}", kwargs


class Progress:
    """Progressive validation of one epoch (McMahan et al. 2013, section 5): the loss of rows the model has
    not learned from yet.

    step, total: global batches of this epoch that the run has behind it, and their score.
    """

    def __init__(
        self,
        epoch: EpochPlan,
        epochs: int,
        collective: Collective,
        tracker: Tracker,
        step: int = 0,
        total: Score = NOTHING,
    ) -> None:
        self._epoch, self.step, self.total = epoch, step, total
        self._first, self._before, self._recent = step, total.rows, NOTHING
        self._title, self._steps = f"epoch {epoch.number + 1}/{epochs}", epoch.steps
        self._log, self._tracker = RankLog(collective), tracker
        self._bar = _bar(self._title, epoch.steps, step) if collective.rank == 0 and sys.stderr.isatty() else None
        self._clock = self._reported = 0.0

    def __enter__(self) -> Progress:
        if self._bar:
            self._bar.start()
        self._clock = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def add(self, score: Score, learning_rate_scale: float) -> None:
        """Count a global batch; report now and then, and at the end."""
        self.step += 1
        self.total += score
        self._recent += score
        seconds = self._seconds()
        if self._bar:
            speed = (self.total.rows - self._before) / seconds
            self._bar.update(self._bar.task_ids[0], advance=1, loss=self.total.mean, speed=speed)
        if seconds - self._reported >= _REPORT_SECONDS or self.step == self._steps:
            self._report(seconds, learning_rate_scale)
            self._recent, self._reported = NOTHING, self._seconds()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What happens in here does not count into the speed."""
        began = time.perf_counter()
        yield
        self._clock += time.perf_counter() - began

    def _seconds(self) -> float:
        return time.perf_counter() - self._clock

    def _report(self, seconds: float, learning_rate_scale: float) -> None:
        speed = self._recent.rows / (seconds - self._reported)
        left = timedelta(seconds=round(seconds / (self.step - self._first) * (self._steps - self.step)))
        self._log.info(
            "%s step %d/%d: log loss %.5f, lately %.5f, %s rows/s, %s left",
            *(self._title, self.step, self._steps, self.total.mean, self._recent.mean, f"{speed:,.0f}", left),
        )
        record = ProgressRecord(
            step=self._epoch.plan.steps_before(self._epoch.number) + self.step,
            epoch=self._epoch.number,
            rows=self.total.rows,
            log_loss=self.total.mean if self.total.weight else None,
            recent_log_loss=self._recent.mean if self._recent.weight else None,
            rows_per_second=speed,
            memory_bytes=psutil.Process().memory_info().rss,
            learning_rate_scale=learning_rate_scale,
        )
        self._tracker.log(record)


def _bar(title: str, steps: int, done: int) -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    bar = Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("log loss {task.fields[loss]:.5f}"),
        TextColumn("{task.fields[speed]:,.0f} rows/s"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    bar.add_task(title, total=steps, completed=done, loss=float("nan"), speed=0.0)
    return bar
