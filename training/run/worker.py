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

from nightjar.features.contract.errors import MaskingFormatter, NightjarError, OutOfMemoryError
from nightjar.training.kernels.memory import keep_freed_memory
from nightjar.training.run.collective import Collective, HorovodCollective, LostPeer, rank_of_process, workers_launched
from nightjar.training.run.memory_limits import memory_limit, ran_out_of_memory, resident_bytes
from nightjar.training.run.reports import Address, Outcome, line_to
from nightjar.training.run.watchdog import count_compilation, end_if_python_stops

TASK = "task.pickle"
# A timer that is set anew every second must be longer.
_LEAST_STALL_SECONDS = 5


def run_here(function: Callable[[Collective], Any], threads: int, stall_seconds: int, launcher: Address) -> None:
    """Call `function` as one worker of the run that this process was started for, and report to the launcher.

    One that fails ends the process once it has said so: leaving Horovod in order takes the others, which may wait for
    this one.

    Args:
        function: what the worker does.
        threads: torch's.
        launcher: where to report.
        stall_seconds: after so long in which no Python code could run, the process ends itself.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(MaskingFormatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    prepare_process(threads)
    end_if_python_stops(max(stall_seconds, _LEAST_STALL_SECONDS))
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
    if ran_out_of_memory(error):
        return Outcome(rank, error=out_of_memory(f"worker {rank} of {workers_launched()}", error))
    if isinstance(error, NightjarError):
        return Outcome(rank, error=type(error)(str(error)))
    text = "".join(traceback.format_exception(error))
    return Outcome(rank, error=RuntimeError(repr(error)), traceback=text, lost_peer=isinstance(error, LostPeer))


def out_of_memory(who: str, error: Exception) -> OutOfMemoryError:
    """One message for a person, from whatever a library made of it."""
    limit, place = memory_limit()
    said = str(error).strip().partition("\n")[0] or type(error).__name__
    return OutOfMemoryError(
        f"{who} ran out of memory: {said}. It holds {resident_bytes() / 1e9:.2f} GB of the {limit / 1e9:.2f} GB that "
        f"it may have ({place}). Give it more, lower training.batch_size or training.lanes, or raise training.workers, "
        f"among whom sharded tables are dealt."
    )


def prepare_process(threads: int) -> None:
    """Bound torch's threads, keep the memory that a step frees for the next, and let compilation count as work."""
    torch.set_num_threads(threads)
    keep_freed_memory()
    count_compilation()


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
