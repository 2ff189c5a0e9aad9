"""What runs in a worker process: `python -m nightjar.training.run.worker SCRATCH`, started by horovodrun; in a
Spark task, `run_here`.
"""

from __future__ import annotations

import logging
import os
import pickle
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from nightjar.features.contract.errors import MaskingFormatter, NightjarError
from nightjar.training.kernels.memory import keep_freed_memory
from nightjar.training.run.collective import Collective, HorovodCollective, LostPeer, rank_of_process
from nightjar.training.run.reports import Address, Outcome, line_to

TASK = "task.pickle"


def run_here(function: Callable[[Collective], Any], threads: int, launcher: Address) -> None:
    """Call `function` as one worker of the run that this process was started for, and report to the launcher.

    One that fails ends the process once it has said so: leaving Horovod in order takes the others, which may wait for
    this one.

    Args:
        function: what the worker does.
        threads: torch's.
        launcher: where to report.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(MaskingFormatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    prepare_process(threads)
    rank = rank_of_process()
    with line_to(launcher, rank) as line:
        try:
            collective = HorovodCollective()
            value = function(collective)
            collective.barrier()
        except Exception as error:
            line.report(_failure(rank, error))
            _leave()
        line.report(Outcome(rank, value))
        collective.close()


def _failure(rank: int, error: Exception) -> Outcome:
    if isinstance(error, NightjarError):
        return Outcome(rank, error=type(error)(str(error)))
    text = "".join(traceback.format_exception(error))
    return Outcome(rank, error=RuntimeError(repr(error)), traceback=text, lost_peer=isinstance(error, LostPeer))


def prepare_process(threads: int) -> None:
    """Bound torch's threads, and keep the memory that a step frees for the next."""
    torch.set_num_threads(threads)
    keep_freed_memory()


def _leave() -> None:
    """Everything is said: no library's thread or exit handler may hold up the end of the run."""
    logging.shutdown()
    os._exit(0)


def main() -> None:
    """Run the task that the launcher left in SCRATCH."""
    [scratch] = sys.argv[1:]
    task: Callable[[], None] = pickle.loads((Path(scratch) / TASK).read_bytes())
    task()
    _leave()


if __name__ == "__main__":
    main()
