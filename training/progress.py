"""What a run says about itself: log lines, a progress bar on a terminal, metrics in a file."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import MutableMapping
from pathlib import Path
from types import TracebackType
from typing import Any

from features import storage
from training.collective import Collective
from training.step import NOTHING, Score

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

    metrics: a file to which rank 0 appends a JSON line for every report; None for none. done, total: global
    batches of this epoch that the run has behind it, and their score.
    """

    def __init__(
        self,
        epoch: int,
        epochs: int,
        steps: int,
        collective: Collective,
        metrics: str | None,
        done: int = 0,
        total: Score = NOTHING,
    ) -> None:
        self._title = f"epoch {epoch + 1}/{epochs}"
        self._epoch, self._steps = epoch, steps
        self._log = RankLog(collective)
        self._metrics = metrics if collective.rank == 0 else None
        self._bar = _bar(self._title, steps, done) if collective.rank == 0 and sys.stderr.isatty() else None
        self._step = done
        self.total, self._recent = total, NOTHING
        self._since = time.perf_counter()

    def __enter__(self) -> Progress:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def add(self, score: Score) -> None:
        """Count a global batch; report now and then, and at the end."""
        self._step += 1
        self.total += score
        self._recent += score
        if self._bar:
            self._bar.update(self._bar.task_ids[0], advance=1, loss=self.total.mean)
        seconds = time.perf_counter() - self._since
        if seconds >= _REPORT_SECONDS or self._step == self._steps:
            self._report(seconds)
            self._recent, self._since = NOTHING, time.perf_counter()

    def _report(self, seconds: float) -> None:
        speed = self._recent.rows / seconds
        self._log.info(
            "%s step %d/%d: log loss %.5f, lately %.5f, %s rows/s",
            *(self._title, self._step, self._steps, self.total.mean, self._recent.mean, f"{speed:,.0f}"),
        )
        if self._metrics:
            line = {
                "epoch": self._epoch,
                "step": self._step,
                "rows": self.total.rows,
                "log_loss": self.total.mean,
                "recent_log_loss": self._recent.mean,
                "rows_per_second": speed,
            }
            with Path(self._metrics).open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(line) + "\n")


def begin_metrics(metrics: str, epoch: int, step: int) -> None:
    """Keep the lines up to this position, which a run goes on from; begin the file if there is none."""
    lines = storage.read_bytes(metrics).splitlines(keepends=True) if storage.exists(metrics) else []
    kept = [line for line in lines if (at := json.loads(line)) and (at["epoch"], at["step"]) <= (epoch, step)]
    storage.write_bytes(metrics, b"".join(kept))


def _bar(title: str, steps: int, done: int) -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    loss = TextColumn("log loss {task.fields[loss]:.5f}")
    bar = Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        loss,
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    bar.add_task(title, total=steps, completed=done, loss=float("nan"))
    return bar
