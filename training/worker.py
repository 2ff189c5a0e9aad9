"""What runs in a worker process: `python -m training.worker SCRATCH`, started by horovodrun; in a Spark task,
`run_here`.
"""

from __future__ import annotations

import logging
import os
import pickle
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch

from features.errors import NightjarError
from training.collective import Collective, LostPeer, horovod_collective

LAUNCHER_PID = "NIGHTJAR_LAUNCHER_PID"


@dataclass(frozen=True)
class Outcome:
    """How a worker ended. lost_peer: because another had; error: as an exception only if it is a
    NightjarError.
    """

    rank: int
    value: Any = None
    error: Exception | None = None
    traceback: str = ""
    lost_peer: bool = False


def run_here(function: Callable[[Collective], Any], threads: int) -> Outcome:
    """Call `function` as one worker of the run that this process was started for; never raises an Exception."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    set_threads(threads)
    rank = int(os.environ.get("HOROVOD_RANK", "0"))
    try:
        with horovod_collective() as collective:
            rank = collective.rank
            value = function(collective)
        return Outcome(rank, value)
    except NightjarError as error:
        return Outcome(rank, error=type(error)(str(error)))
    except Exception as error:
        text = traceback.format_exc()
        return Outcome(rank, error=RuntimeError(repr(error)), traceback=text, lost_peer=isinstance(error, LostPeer))


def set_threads(threads: int) -> None:
    """Bound torch's threads in this process."""
    torch.set_num_threads(threads)


def outcome_path(scratch: str, rank: int) -> Path:
    """Where a worker on the launcher's machine leaves its outcome."""
    return Path(scratch) / f"outcome_{rank}.pickle"


def _follow(launcher: int) -> None:
    """End this process soon after the launcher's: nobody else would stop it, and a new attempt may write to
    the same place.
    """
    while psutil.pid_exists(launcher):
        time.sleep(1.0)
    os._exit(1)


def main() -> None:
    """Run the task that the launcher left in SCRATCH, and leave its outcome there."""
    threading.Thread(target=_follow, args=(int(os.environ[LAUNCHER_PID]),), daemon=True).start()
    [scratch] = sys.argv[1:]
    task: Callable[[], Outcome] = pickle.loads((Path(scratch) / "task.pickle").read_bytes())
    outcome = task()
    target = outcome_path(scratch, outcome.rank)
    partial = target.with_suffix(".part")
    partial.write_bytes(pickle.dumps(outcome))
    partial.replace(target)
    logging.shutdown()
    # Everything is said: no library's thread or exit handler may hold up the end of the run.
    os._exit(0)


if __name__ == "__main__":
    main()
