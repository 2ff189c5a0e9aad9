"""Carrying a run out in spite of lost workers: attempt after attempt, each from the last checkpoint.

A killed, hung or unreachable worker ends the attempt of all (training.run.launch): their tables are sharded, and what
it held is gone. The next attempt has as many workers as before; where these are lost again without a new
checkpoint in between, or where Spark has no place for so many, it has those that were left, and never fewer than
`min_workers`. A run gives up after `max_restarts` restarts in a row without a new checkpoint. Errors that would
come again (bad data, a diverged loss, a bug) are never retried.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from nightjar.training.config import TrainingConfig
from nightjar.training.run.launch import LostWorkers, TooFewWorkers, WorkerError

log = logging.getLogger(__name__)


def carry_out(
    attempt: Callable[[int, float], object],
    config: TrainingConfig,
    saved: Callable[[], int],
    is_done: Callable[[], bool],
) -> None:
    """Make attempts until one ends well. Raises what the last attempt raised.

    Args:
        attempt: called with the number of workers and the seconds that are left.
        config: says how many workers and restarts there may be, and how long all may take.
        saved: the global batch of the newest checkpoint, 0 for none.
        is_done: true if the result stands, whatever became of the workers.
    """
    deadline = time.monotonic() + config.timeout_seconds
    workers, fruitless, before = config.workers, 0, saved()
    while True:
        try:
            attempt(workers, max(1.0, deadline - time.monotonic()))
            return
        except LostWorkers as loss:
            if is_done():
                return
            now = saved()
            fruitless = 1 if now > before else fruitless + 1
            before = now
            if fruitless > config.max_restarts:
                raise WorkerError(
                    f"{loss}\nGiven up after {config.max_restarts} restarts without a new checkpoint in between "
                    f"(training.max_restarts). The same command goes on from global batch {now}."
                ) from loss
            if fruitless > 1 or isinstance(loss, TooFewWorkers):
                workers = max(config.min_workers, loss.left)
            log.warning("%s", loss)
            log.warning("going on from global batch %d with %d workers", now, workers)
