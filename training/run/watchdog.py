"""What ends a process that is stuck, and says where: by the count of features.contract.liveness, not by heartbeats."""

from __future__ import annotations

import faulthandler
import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from numba.core import event as numba_event

from nightjar.features.contract import liveness

_POLL_SECONDS = 0.5
# How long an interrupted function may take to leave.
_LEAVE_SECONDS = 15.0
_FRAMES = 12
STUCK_STATUS = 2

log = logging.getLogger(__name__)


def stacks() -> str:
    """Where every thread of this process is: its name, and its innermost frames. The main thread comes first."""
    frames, main = sys._current_frames(), threading.main_thread().ident
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    own = threading.get_ident()
    lines = []
    for ident in sorted(frames.keys() - {own}, key=lambda ident: (ident != main, names.get(ident, ""))):
        lines.append(f"thread {names.get(ident, ident)}, the innermost call last:\n")
        lines += traceback.format_list(traceback.extract_stack(frames[ident])[-_FRAMES:])
    return "".join(lines)


def count_compilation() -> None:
    """Let every pass of numba's compiler count as work that is done: a first step may do nothing else for long."""

    class Passes(numba_event.Listener):
        def on_start(self, event: Any) -> None:
            liveness.advance()

        def on_end(self, event: Any) -> None:
            liveness.advance()

    numba_event.register("numba:run_pass", Passes())


def end_if_python_stops(seconds: float) -> None:
    """From now on, write all stacks to standard error and end the process once no Python code has run for so long.

    A library that never gives Python's lock back stops every thread that could say so. The timer is C code of
    Python's own, and needs no lock.
    """

    def rearm() -> None:
        while True:
            faulthandler.dump_traceback_later(seconds, exit=True, file=2)
            time.sleep(min(1.0, seconds / 3))

    threading.Thread(target=rearm, name="python's lock", daemon=True).start()


@contextmanager
def interrupted_when_stuck(seconds: float, error: Callable[[str], Exception]) -> Iterator[None]:
    """Raise error(stacks) in the main thread once the count of work done has stood still for so long.

    A main thread that does not leave then (it waits for a disk that does not answer), or a body in another thread, ends
    the process with the same message: nothing in it can be relied on.
    """
    watch = _Watch(seconds, error)
    in_main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGUSR1, watch.interrupt) if in_main else None
    thread = threading.Thread(target=watch.run, args=(in_main,), name="watchdog", daemon=True)
    thread.start()
    try:
        yield
    finally:
        watch.over.set()
        if in_main:
            signal.signal(signal.SIGUSR1, before)


class _Watch:
    def __init__(self, seconds: float, error: Callable[[str], Exception]) -> None:
        self._seconds, self._error, self._found = seconds, error, ""
        self.over = threading.Event()

    def run(self, in_main: bool) -> None:
        count, since = liveness.advances(), time.monotonic()
        while not self.over.wait(_POLL_SECONDS):
            if liveness.advances() != count:
                count, since = liveness.advances(), time.monotonic()
            elif time.monotonic() - since > self._seconds:
                self._found = stacks()
                if in_main:
                    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
                if not in_main or not self.over.wait(_LEAVE_SECONDS):
                    self._end()
                return

    def interrupt(self, number: int, frame: FrameType | None) -> None:
        if not self.over.is_set() and self._found:
            raise self._error(self._found)

    def _end(self) -> None:
        print(f"error: {self._error(self._found)}", file=sys.stderr, flush=True)
        logging.shutdown()
        os._exit(STUCK_STATUS)
