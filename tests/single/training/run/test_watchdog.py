"""A function that is stuck in this process: interrupted where it can be, and the end of the process where not."""

from __future__ import annotations

import os
import queue
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable

import pytest
from numba import njit

from nightjar.features.contract import liveness
from nightjar.features.contract.errors import NightjarError
from nightjar.training.run.collective import Collective
from nightjar.training.run.launch import LostWorkers, run
from nightjar.training.run.watchdog import count_compilation, interrupted_when_stuck


def sleep() -> None:
    time.sleep(600)


def spin() -> None:
    while True:
        pass


def wait_for_a_message() -> None:
    queue.Queue[int]().get()


def wait_for_a_thread() -> None:
    thread = threading.Thread(target=time.sleep, args=(600,), daemon=True)
    thread.start()
    thread.join()


def read_a_pipe() -> None:
    os.read(os.pipe()[0], 1)


def read_a_socket() -> None:
    here, there = socket.socketpair()
    with here, there:
        here.recv(1)


def run_a_program() -> None:
    subprocess.run(["sleep", "600"], check=False)


@pytest.mark.parametrize(
    "stuck", [sleep, spin, wait_for_a_message, wait_for_a_thread, read_a_pipe, read_a_socket, run_a_program]
)
def test_the_main_thread_leaves_whatever_it_waits_for(stuck: Callable[[], None]) -> None:
    before = signal.getsignal(signal.SIGUSR1)
    with pytest.raises(NightjarError) as error, interrupted_when_stuck(1, NightjarError):
        stuck()
    assert f"in {stuck.__name__}\n" in str(error.value)
    assert signal.getsignal(signal.SIGUSR1) is before
    time.sleep(1.5)  # and no second interruption comes


def test_work_that_is_done_is_no_standstill() -> None:
    with interrupted_when_stuck(1, NightjarError):
        for _ in range(30):
            time.sleep(0.1)
            liveness.advance()


def test_libraries_that_compute_in_several_threads_leave_nothing_behind() -> None:
    """The first to enter leaves first, and its thread ends."""
    entered, left = threading.Event(), threading.Event()

    def first() -> None:
        with liveness.opaque_work():
            entered.set()
            left.wait()

    def second() -> None:
        with liveness.opaque_work():
            left.set()
            one.join()

    one, other = threading.Thread(target=first), threading.Thread(target=second)
    one.start()
    entered.wait()
    other.start()
    other.join()
    before = liveness.advances()
    assert liveness.advances() == before
    liveness.advance()
    assert liveness.advances() == before + 1


def test_a_library_that_computes_does_its_work_and_one_that_waits_does_not() -> None:
    def compute(seconds: float) -> None:
        end = time.thread_time() + seconds
        while time.thread_time() < end:
            pass

    with interrupted_when_stuck(2, NightjarError), liveness.opaque_work():
        compute(4)
    with pytest.raises(NightjarError), interrupted_when_stuck(1, NightjarError), liveness.opaque_work():
        sleep()
    before = liveness.advances()
    compute(0.5)
    assert liveness.advances() == before


def test_compilation_is_work() -> None:
    count_compilation()
    before = liveness.advances()
    njit(lambda x: x + 1)(1)
    assert liveness.advances() > before + 5


def forever(collective: Collective) -> None:
    sleep()


def test_a_single_local_worker_is_watched() -> None:
    with pytest.raises(LostWorkers, match=r"the only worker has got nothing done for 1 seconds(.|\n)*in sleep"):
        run(forever, 1, stall_seconds=1)


# Each runs in a process of its own, which must end, with the stacks on standard error.
UNINTERRUPTED = {
    "a main thread that does not leave": """
        def hold():
            while True:
                try:
                    time.sleep(600)
                except NightjarError:
                    pass
        with interrupted_when_stuck(1, NightjarError):
            hold()
        """,
    "another thread": """
        def hold():
            with interrupted_when_stuck(1, NightjarError):
                time.sleep(600)
        thread = threading.Thread(target=hold)
        thread.start()
        thread.join()
        """,
    "a library that keeps Python's lock": """
        def hold():
            ctypes.PyDLL(None).sleep(600)
        end_if_python_stops(2)
        time.sleep(1)
        hold()
        """,
}


@pytest.mark.parametrize("case", UNINTERRUPTED)
def test_what_cannot_be_interrupted_ends_the_process(case: str) -> None:
    imports = (
        "import ctypes, threading, time\n"
        "from nightjar.features.contract.errors import NightjarError\n"
        "from nightjar.training.run import watchdog\n"
        "from nightjar.training.run.watchdog import end_if_python_stops, interrupted_when_stuck\n"
        "watchdog._LEAVE_SECONDS = 1\n"
    )
    code = imports + textwrap.dedent(UNINTERRUPTED[case])
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode in (1, 2)
    assert "in hold" in ended.stderr
