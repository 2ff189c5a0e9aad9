"""Run a function on the workers of a run: here, on this machine through horovodrun, or in Spark tasks."""

from __future__ import annotations

import os
import pickle
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import IO, Any, Literal, TypeVar

import psutil

from features.errors import NightjarError
from training.collective import Collective, Solo, environment, run_on_spark
from training.worker import LAUNCHER_PID, Outcome, outcome_path, run_here, set_threads

Launcher = Literal["local", "spark"]
T = TypeVar("T")
_OUTPUT = re.compile(r"^\[\d+\]<std(?:out|err)>:")
_GRACE_SECONDS = 15.0
_POLL_SECONDS = 0.1


class WorkerError(NightjarError):
    """A run that lost a worker, or its time."""


def run(
    function: Callable[[Collective], T],
    workers: int,
    *,
    launcher: Launcher = "local",
    threads: int | None = None,
    stall_seconds: int = 300,
    timeout_seconds: float = 24 * 3600,
) -> list[T]:
    """Call `function` in every worker at once; what each returned, by rank.

    function: picklable, by reference. One local worker runs in this process, without Horovod. A NightjarError
    of a worker is raised here as it is; anything else that ends the run raises WorkerError. threads: of
    torch, a worker.
    """
    threads = threads or max(1, (os.cpu_count() or 1) // workers)
    if workers == 1 and launcher == "local":
        set_threads(threads)
        return [function(Solo())]
    task = partial(run_here, function, threads)
    settings = environment(stall_seconds)
    if launcher == "spark":
        outcomes = _on_spark(task, workers, settings)
    else:
        outcomes = _on_this_machine(task, workers, settings, timeout_seconds)
    return _values(outcomes)


def _on_spark(task: Callable[[], Outcome], workers: int, settings: Mapping[str, str]) -> list[Outcome]:
    # Archives of --py-files lie in the executors' working directory, and on another machine only there.
    archives = [os.path.basename(path) for path in sys.path if path.endswith(".zip")]
    try:
        return run_on_spark(task, workers, {**settings, **os.environ, **_import_path(*archives)})
    except Exception as error:
        raise WorkerError(
            f"a worker of {workers} in Spark ended without a report: {error}. See Spark's log."
        ) from error


def _on_this_machine(
    task: Callable[[], Outcome], workers: int, settings: Mapping[str, str], timeout_seconds: float
) -> list[Outcome]:
    with tempfile.TemporaryDirectory(prefix="nightjar-run-") as scratch:
        (Path(scratch) / "task.pickle").write_bytes(pickle.dumps(task))
        command = [sys.executable, "-m", "horovod.runner.launch", "-np", str(workers), "--gloo"]
        command += ["--network-interfaces", "lo", sys.executable, "-m", "training.worker", scratch]
        process = subprocess.Popen(
            command,
            env={**settings, **os.environ, **_import_path(), LAUNCHER_PID: str(os.getpid())},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        assert process.stdout is not None
        said: deque[str] = deque(maxlen=15)
        reader = threading.Thread(target=_forward, args=(process.stdout, said), daemon=True)
        reader.start()
        paths = [outcome_path(scratch, rank) for rank in range(workers)]
        try:
            in_time = _wait(process, paths, timeout_seconds)
        finally:
            _stop(process)
            reader.join(_GRACE_SECONDS)
        silent = [rank for rank, path in enumerate(paths) if not path.exists()]
        found = [pickle.loads(path.read_bytes()) for path in paths if path.exists()]
    if any(outcome.error and not outcome.lost_peer for outcome in found):
        return found
    if not in_time:
        raise WorkerError(
            f"{workers} workers did not finish in {timeout_seconds:g} seconds and were stopped. "
            f"Raise training.timeout_seconds, or find out what holds them up."
        )
    if silent:
        raise WorkerError(
            f"of {workers} workers, {silent} ended without a report (horovodrun's "
            f"exit status: {process.returncode}); one was killed, perhaps for lack of memory. Last words:\n"
            + "".join(said)
        )
    return found


def _wait(process: subprocess.Popen[str], reports: list[Path], timeout_seconds: float) -> bool:
    """Wait for horovodrun. True if it ended, or a worker has reported: then the others have a little time left."""
    deadline = time.monotonic() + timeout_seconds
    reported = False
    while process.poll() is None and time.monotonic() < deadline:
        if not reported and any(path.exists() for path in reports):
            reported, deadline = True, time.monotonic() + _GRACE_SECONDS
        time.sleep(_POLL_SECONDS)
    return reported or process.poll() is not None


def _forward(stream: IO[str], said: deque[str]) -> None:
    """Pass the workers' log lines on as they come; keep the last lines of everything."""
    for line in stream:
        text, of_worker = _OUTPUT.subn("", line)
        said.append(text)
        if of_worker and "[rank " in text:
            sys.stderr.write(text)
            sys.stderr.flush()


def _stop(process: subprocess.Popen[str]) -> None:
    """End horovodrun and every process below it, by force if asking does not help."""
    if process.poll() is not None:
        return
    family = psutil.Process(process.pid).children(recursive=True)
    process.terminate()
    _, alive = psutil.wait_procs([psutil.Process(process.pid), *family], timeout=_GRACE_SECONDS)
    for member in alive:
        member.kill()
    process.wait()


def _values(outcomes: list[Outcome]) -> list[Any]:
    """What the workers returned; or the error that came first in the chain of causes, as the one error of the
    run.
    """
    errors = [outcome for outcome in outcomes if outcome.error is not None]
    for outcome in errors:
        if isinstance(outcome.error, NightjarError):
            raise outcome.error
    if errors:
        first = min(errors, key=lambda outcome: outcome.lost_peer)
        raise WorkerError(f"worker {first.rank} failed:\n{first.traceback}") from first.error
    return [outcome.value for outcome in sorted(outcomes, key=lambda outcome: outcome.rank)]


def _import_path(*more: str) -> Mapping[str, str]:
    return {"PYTHONPATH": os.pathsep.join([*(path or os.getcwd() for path in sys.path), *more])}
