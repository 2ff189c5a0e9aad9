"""The line between a launcher and its workers, whoever started them: what became of each, whether it gets on, and
where it is stuck.

A worker says hello, then a beat every second, and last its outcome. The line breaks when either end's process
does: the launcher learns at once of a killed worker, a worker of a launcher that is gone.

Whoever comes must prove that it knows the secret (HMAC, multiprocessing.connection) before anything that it says is
unpickled. Each does so in a thread of its own and in bounded time, and of those that have not yet, the oldest leave
when they are too many: strangers keep no worker out.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, answer_challenge, deliver_challenge
from types import TracebackType
from typing import Any

from nightjar.features.contract import liveness
from nightjar.training.run.memory_limits import memory_limit, resident_bytes
from nightjar.training.run.watchdog import stacks

_BEAT_SECONDS = 1.0
_PROOF_SECONDS = 10.0
_STRANGERS = 64
_STACKS_SECONDS = 5.0
_ATTEMPTS = 3

log = logging.getLogger(__name__)


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


@dataclass(frozen=True)
class Hello:
    """A worker's first word. memory: what it may have, in bytes, and where that is set."""

    rank: int
    pid: int
    memory: tuple[int, str]


@dataclass(frozen=True)
class Beat:
    """advances: features.contract.liveness; waiting: for another worker, in an operation of all; resident: bytes."""

    advances: int
    waiting: bool
    resident: int


@dataclass(frozen=True)
class Stacks:
    """Where a worker's threads are; asked for by this class's name."""

    text: str


@dataclass(frozen=True)
class Address:
    """Where the launcher listens, and the secret that lets a worker in."""

    host: str
    port: int
    key: bytes


@dataclass
class Heard:
    """What is known of a worker. pid: in its own machine; last: when it spoke; moved: when its count of work did;
    broken: the line ended without an outcome.
    """

    pid: int
    last: float
    moved: float
    memory: tuple[int, str] = (0, "")
    beat: Beat = Beat(0, False, 0)
    outcome: Outcome | None = None
    broken: bool = False
    stacks: str | None = None


class Reports:
    """The launcher's end. heard: by rank."""

    def __init__(self, host: str, bind: str) -> None:
        key = secrets.token_bytes(32)
        self._socket = socket.create_server((bind, 0), backlog=128)
        self.address = Address(host, self._socket.getsockname()[1], key)
        self.heard: dict[int, Heard] = {}
        self._lines: dict[int, Connection] = {}
        self._strangers: list[socket.socket] = []
        self._closed = False
        threading.Thread(target=self._accept, name="reports", daemon=True).start()

    def __enter__(self) -> Reports:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._closed = True
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
        self._socket.close()
        for stranger in list(self._strangers):
            _hang_up(stranger)
        for line in list(self._lines.values()):
            line.close()

    def silent(self, seconds: float) -> list[int]:
        """Ranks of workers without an outcome that have said nothing for so long."""
        now = time.monotonic()
        return [r for r, worker in self.heard.items() if worker.outcome is None and now - worker.last > seconds]

    def at_a_standstill(self, workers: int, seconds: float) -> bool:
        """True if all workers are here, none has an outcome, and none has got any work done for so long."""
        heard = list(self.heard.values())
        if len(heard) < workers or any(worker.outcome for worker in heard):
            return False
        return time.monotonic() - max(worker.moved for worker in heard) > seconds

    def ask_for_stacks(self) -> dict[int, str | None]:
        """Where each worker is, by rank; None of one that does not answer in a few seconds."""
        for line in list(self._lines.values()):
            with suppress(OSError):
                line.send(Stacks.__name__)
        deadline = time.monotonic() + _STACKS_SECONDS
        while time.monotonic() < deadline and any(worker.stacks is None for worker in self.heard.values()):
            time.sleep(0.05)
        return {rank: worker.stacks for rank, worker in sorted(self.heard.items())}

    def _accept(self) -> None:
        while not self._closed:
            try:
                stranger, _ = self._socket.accept()
            except OSError:
                time.sleep(0.1)  # closed, or out of file descriptors for a moment
                continue
            self._strangers.append(stranger)
            if len(self._strangers) > _STRANGERS:
                _hang_up(self._strangers.pop(0))
            threading.Thread(target=self._meet, args=(stranger,), name="report", daemon=True).start()

    def _meet(self, stranger: socket.socket) -> None:
        """Let it in if it proves in time that it knows the secret, and listen until it ends."""
        in_time = threading.Timer(_PROOF_SECONDS, _hang_up, [stranger])
        in_time.daemon = True
        in_time.start()
        line = Connection(os.dup(stranger.fileno()))
        try:
            deliver_challenge(line, self.address.key)
            answer_challenge(line, self.address.key)
        except (AuthenticationError, AssertionError, EOFError, OSError, ValueError):
            line.close()
            return
        finally:
            in_time.cancel()
            with suppress(ValueError):
                self._strangers.remove(stranger)
            stranger.close()
        self._listen(line)

    def _listen(self, line: Connection) -> None:
        worker: Heard | None = None
        try:
            hello: Hello = line.recv()
            now = time.monotonic()
            self._lines[hello.rank] = line
            worker = self.heard[hello.rank] = Heard(hello.pid, now, now, hello.memory)
            while worker.outcome is None:
                said = line.recv()
                worker.last = time.monotonic()
                if isinstance(said, Outcome):
                    worker.outcome = said
                elif isinstance(said, Stacks):
                    worker.stacks = said.text
                elif isinstance(said, Beat):
                    if said.advances != worker.beat.advances:
                        worker.moved = worker.last
                    worker.beat = said
        except (EOFError, OSError):
            if worker:
                worker.broken = True
        except Exception as error:  # an outcome that cannot be unpickled here
            if worker:
                worker.outcome = Outcome(hello.rank, error=RuntimeError(repr(error)), traceback=repr(error))


class Line:
    """A worker's end. waiting: set while the worker waits for another."""

    def __init__(self, line: Connection, rank: int) -> None:
        self._line = line
        self._lock = threading.Lock()
        self._ended = threading.Event()
        line.send(Hello(rank, os.getpid(), memory_limit()))

    def report(self, outcome: Outcome) -> None:
        """The last word."""
        with self._lock:
            self._ended.set()
            self._line.send(outcome)

    def fall_silent(self) -> None:
        """Nothing follows."""
        with self._lock:
            self._ended.set()

    def beat(self) -> None:
        """Beat until the last word is said. Nobody else would stop this process if the launcher's has ended, and a
        new attempt may write to the same place: then it ends here.
        """
        while not self._ended.wait(_BEAT_SECONDS):
            beat = Beat(liveness.advances(), liveness.is_waiting(), resident_bytes())
            if not self._send(beat):
                os._exit(1)

    def answer(self) -> None:
        """Say where this process's threads are when the launcher asks."""
        with suppress(EOFError, OSError):
            while self._line.recv() == Stacks.__name__:
                self._send(Stacks(stacks()))

    def _send(self, said: object) -> bool:
        """False if nobody listens any more."""
        with self._lock:
            if not self._ended.is_set():
                try:
                    self._line.send(said)
                except OSError:
                    return False
        return True


@contextmanager
def line_to(address: Address, rank: int) -> Iterator[Line]:
    """A line to the launcher that beats, and answers it, in threads."""
    with _connected(address) as connection:
        line = Line(connection, rank)
        for target in (line.beat, line.answer):
            threading.Thread(target=target, name=target.__name__, daemon=True).start()
        try:
            yield line
        finally:
            line.fall_silent()


def _connected(address: Address) -> Connection:
    """The launcher may have to get rid of strangers first."""
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return Client((address.host, address.port), authkey=address.key)
        except (EOFError, OSError):
            if attempt == _ATTEMPTS:
                raise
            time.sleep(attempt)
    raise AssertionError("the last attempt returns or raises")


def _hang_up(stranger: socket.socket) -> None:
    with suppress(OSError):
        stranger.shutdown(socket.SHUT_RDWR)
