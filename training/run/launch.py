"""Run a function once on the workers of a run: here, on this machine through horovodrun, or in Spark tasks.

However it ends, it ends in bounded time, and nothing of it is left running.
"""

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
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Any, Literal, Protocol, TypeVar

import psutil

from nightjar.features.contract.errors import NightjarError
from nightjar.training.run.collective import Collective, Solo, SparkTasks, environment, local_command
from nightjar.training.run.memory_limits import oom_kills, ran_out_of_memory
from nightjar.training.run.reports import Heard, Reports
from nightjar.training.run.watchdog import interrupted_when_stuck
from nightjar.training.run.worker import TASK, out_of_memory, prepare_process, run_here

Launcher = Literal["local", "spark"]
T = TypeVar("T")
_OUTPUT = re.compile(r"^\[\d+\]<std(?:out|err)>:")
_POLL_SECONDS = 0.1
WORKER = "nightjar.training.run.worker"
_LAST_LINES = 40
# Once a worker has ended, the others have so long to end too; only so long, if one has failed for certain.
_GRACE_SECONDS = 15.0
_SHORT_GRACE_SECONDS = 2.0
# On a busy machine, or from cold storage.
_LEAST_START_SECONDS = 120


class WorkerError(NightjarError):
    """A run that failed in a worker, or ran out of time."""


class LostWorkers(WorkerError):
    """A run that lost workers. left: how many there were still."""

    def __init__(self, message: str, left: int) -> None:
        super().__init__(message)
        self.left = left


class TooFewWorkers(LostWorkers):
    """A run that was not given all of its workers in time."""


class _Crew(Protocol):
    """The processes of a run."""

    @property
    def ended(self) -> bool:
        """True once none is left."""

    @property
    def started(self) -> int:
        """How many workers have been given a place to run."""

    def last_words(self) -> str:
        """What there is to read about a failure."""

    def end(self, reports: Reports, orderly: bool) -> None:
        """Return when none is left. orderly: they are about to end by themselves."""


def run(
    function: Callable[[Collective], T],
    workers: int,
    *,
    launcher: Launcher = "local",
    threads: int | None = None,
    stall_seconds: int = 300,
    start_seconds: int = 600,
    timeout_seconds: float = 24 * 3600,
) -> list[T]:
    """Call `function` in every worker at once; what each returned, by rank.

    One local worker runs in this process, without Horovod. A NightjarError of a worker is raised here as it is, a loss
    of workers as LostWorkers, anything else that ends the run as WorkerError.

    Args:
        function: picklable, by reference.
        workers: how many.
        launcher: where they run; `spark` needs an active session.
        threads: torch's, of a worker; None shares the machine's cores.
        stall_seconds: how long a worker may be silent, and how long all of them together may get nothing done
            (features.contract.liveness) before they count as lost; their stacks are in the error.
        start_seconds: how long Spark may take to start the workers; on this machine they have `stall_seconds`, and two
            minutes at least.
        timeout_seconds: the limit of the run.
    """
    threads = threads or max(1, (os.cpu_count() or 1) // workers)
    if workers == 1 and launcher == "local":
        return [_run_alone(function, threads, stall_seconds)]
    if launcher == "local":  # where workers wait for nothing but their imports
        start_seconds = min(start_seconds, max(stall_seconds, _LEAST_START_SECONDS))
    host, bind = SparkTasks.driver_host() if launcher == "spark" else ("127.0.0.1", "127.0.0.1")
    # Archives of --py-files lie in the executors' working directory, and on another machine only there.
    archives = [os.path.basename(path) for path in sys.path if path.endswith(".zip")] if launcher == "spark" else []
    env = {**environment(stall_seconds), **os.environ, **_import_path(*archives)}
    with Reports(host, bind) as reports:
        task = partial(run_here, function, threads, stall_seconds, launcher=reports.address)
        crew: _Crew
        crew = _SparkCrew(task, workers, env, start_seconds) if launcher == "spark" else _LocalCrew(task, workers, env)
        reported = False
        try:
            failure = _watch(reports, crew, workers, stall_seconds, start_seconds, timeout_seconds)
            reported = failure is None
        finally:
            crew.end(reports, orderly=reported)
        return _values(reports, workers, failure)


def _run_alone(function: Callable[[Collective], T], threads: int, stall_seconds: int) -> T:
    """In this process, which has no launcher to look after it."""
    prepare_process(threads)

    def stalled(stacks: str) -> LostWorkers:
        return LostWorkers(_standstill(1, stall_seconds, {0: stacks}), 1)

    try:
        with interrupted_when_stuck(stall_seconds, stalled):
            return function(Solo())
    except Exception as error:
        if ran_out_of_memory(error):
            raise out_of_memory("the only worker", error) from error
        raise


def _standstill(workers: int, seconds: float, stacks: Mapping[int, str | None]) -> str:
    """What to say of workers that live and get nothing done."""
    who = "the only worker has" if workers == 1 else f"{workers} workers have"
    whose = "\n".join(f"Worker {rank} is at:\n{text}" for rank, text in stacks.items() if text)
    return (
        f"{who} got nothing done for {seconds:g} seconds (training.stall_seconds) and were stopped: "
        f"no global batch, no file, no block of a table. Storage may hang, or one waits for what never comes.\n{whose}"
    )


def _watch(
    reports: Reports, crew: _Crew, workers: int, stall_seconds: float, start_seconds: float, timeout_seconds: float
) -> WorkerError | None:
    """Wait until every worker has reported (None), or until no more reports are to be expected, and say why."""
    began, killed_before = time.monotonic(), oom_kills()
    deadline = began + timeout_seconds
    while True:
        ended = crew.ended
        heard = dict(reports.heard)
        outcomes = [worker.outcome for worker in heard.values() if worker.outcome]
        if len(outcomes) == workers:
            return None
        now = time.monotonic()
        if reports.at_a_standstill(workers, stall_seconds):
            stacks = reports.ask_for_stacks()
            text, mute = _standstill(workers, stall_seconds, stacks), [r for r, said in stacks.items() if said is None]
            if mute:
                text = f"{_unreported(mute, workers, heard, killed_before)} {text}"
            stuck = mute or [rank for rank, worker in heard.items() if not worker.beat.waiting]
            return LostWorkers(text, workers - len(stuck) or workers)
        lost = [rank for rank, worker in heard.items() if worker.broken] + reports.silent(stall_seconds)
        if ended or lost or any(outcome.error and not outcome.lost_peer for outcome in outcomes):
            deadline = min(deadline, now + _SHORT_GRACE_SECONDS)
        elif outcomes:
            deadline = min(deadline, now + _GRACE_SECONDS)
        late = len(heard) < workers and now - began > start_seconds
        if late or now > deadline:
            break
        time.sleep(_POLL_SECONDS)
    if not heard and not late and ended:
        started = crew.started
        text = f"none of {workers} workers has started. {crew.last_words()}"
        return TooFewWorkers(text, started) if started < workers else WorkerError(text)
    if late and crew.started < workers:
        text = f"only {crew.started} of {workers} workers have started within {start_seconds:g} seconds"
        return TooFewWorkers(f"{text} (training.start_seconds)", crew.started)
    if late:
        mute = [rank for rank in range(workers) if rank not in heard]
        text = f"of {workers} workers, {mute} have said nothing within {start_seconds:g} seconds and were stopped"
        return LostWorkers(f"{text}: imports may hang. {crew.last_words()}", len(heard) or workers)
    if not (lost or outcomes or ended):
        return WorkerError(
            f"{workers} workers did not finish in {timeout_seconds:g} seconds and were stopped. "
            f"Raise training.timeout_seconds, or find out what holds them up."
        )
    silent = [rank for rank in range(workers) if rank not in heard or heard[rank].outcome is None]
    text = f"{_unreported(silent, workers, heard, killed_before)} {crew.last_words()}"
    return LostWorkers(text, workers - len(silent))


def _unreported(silent: Sequence[int], workers: int, heard: Mapping[int, Heard], killed_before: int) -> str:
    """What is known of workers that say nothing any more. killed_before: oom_kills() when the run began."""
    cause, killed = "one was killed, perhaps for lack of memory, or hung", oom_kills() - killed_before
    if killed:
        cause = f"the kernel has killed for lack of memory ({killed} since the run began)"
    held = "".join(
        f" Worker {rank} last held {heard[rank].beat.resident / 1e9:.2f} GB of {heard[rank].memory[0] / 1e9:.2f} GB."
        for rank in silent
        if rank in heard
    )
    return f"of {workers} workers, {silent} ended without a report; {cause}.{held}"


def _values(reports: Reports, workers: int, failure: WorkerError | None) -> list[Any]:
    """What the workers returned; or the error that came first in the chain of causes, as the one error of the
    run.
    """
    outcomes = [worker.outcome for _, worker in sorted(reports.heard.items()) if worker.outcome]
    errors = [outcome for outcome in outcomes if outcome.error is not None]
    for outcome in errors:
        if isinstance(outcome.error, NightjarError):
            raise outcome.error
    for outcome in errors:
        if not outcome.lost_peer:
            raise WorkerError(f"worker {outcome.rank} failed:\n{outcome.traceback}") from outcome.error
    if failure:
        raise failure
    if errors:
        raise LostWorkers(f"{workers} workers lost each other:\n{errors[0].traceback}", workers)
    return [outcome.value for outcome in outcomes]


class _LocalCrew:
    """horovodrun and its workers on this machine."""

    def __init__(self, task: Callable[[], None], workers: int, env: Mapping[str, str]) -> None:
        self.started = workers
        self._scratch = tempfile.TemporaryDirectory(prefix="nightjar-run-")
        (Path(self._scratch.name) / TASK).write_bytes(pickle.dumps(task))
        self._process = subprocess.Popen(
            local_command(workers, ["-m", WORKER, self._scratch.name]),
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        assert self._process.stdout is not None
        self._said: deque[str] = deque(maxlen=_LAST_LINES)
        self._reader = threading.Thread(target=_forward, args=(self._process.stdout, self._said), daemon=True)
        self._reader.start()

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    def last_words(self) -> str:
        return "Last words:\n" + "".join(self._said)

    def end(self, reports: Reports, orderly: bool) -> None:
        """The workers at once and by force: nothing less ends one that is stopped. horovodrun is asked first."""
        family = psutil.Process(self._process.pid).children(recursive=True) if not self.ended else []
        if orderly:
            psutil.wait_procs(family, timeout=_GRACE_SECONDS)
        for worker in reports.heard.values():
            if self._scratch.name in _command_line(worker.pid):
                psutil.Process(worker.pid).kill()
        if not self.ended and not orderly:
            self._process.terminate()
        try:
            self._process.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for member in psutil.wait_procs(family, timeout=_SHORT_GRACE_SECONDS)[1]:
            member.kill()
        self._reader.join(_GRACE_SECONDS)
        self._scratch.cleanup()


class _SparkCrew:
    """Workers in Spark tasks."""

    def __init__(self, task: Callable[[], None], workers: int, env: Mapping[str, str], start_seconds: int) -> None:
        self._tasks = SparkTasks(task, workers, env, start_seconds)
        self.started = 0

    @property
    def ended(self) -> bool:
        if self._tasks.ended:
            return True
        self.started = max(self.started, self._tasks.running)
        return False

    def last_words(self) -> str:
        return f"Spark: {self._tasks.error}. See its log." if self._tasks.error else "See Spark's log."

    def end(self, reports: Reports, orderly: bool) -> None:
        if orderly:
            self._tasks.wait(_GRACE_SECONDS)
        if not self._tasks.ended:
            self._tasks.cancel()
            self._tasks.wait(2 * _GRACE_SECONDS)


def _forward(stream: IO[str], said: deque[str]) -> None:
    """Pass the workers' log lines on as they come; keep the last lines of everything."""
    for line in stream:
        text, of_worker = _OUTPUT.subn("", line)
        said.append(text)
        if of_worker and "[rank " in text:
            sys.stderr.write(text)
            sys.stderr.flush()


def _command_line(pid: int) -> list[str]:
    try:
        return psutil.Process(pid).cmdline()
    except psutil.NoSuchProcess:
        return []


def _import_path(*more: str) -> Mapping[str, str]:
    return {"PYTHONPATH": os.pathsep.join([*(path or os.getcwd() for path in sys.path), *more])}
