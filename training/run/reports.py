"""The line between a launcher and its workers, whoever started them: what became of each, and when it fell silent.

A worker says hello, then a beat every second, and last its outcome. The line breaks when either end's process
does: the launcher learns at once of a killed worker, a worker of a launcher that is gone.
"""

from __future__ import annotations

import logging
import os
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, Listener
from types import TracebackType
from typing import Any

_BEAT_SECONDS = 1.0

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
class Address:
    """Where the launcher listens, and the secret that lets a worker in."""

    host: str
    port: int
    key: bytes


@dataclass
class Heard:
    """What is known of a worker. pid: in its own machine; broken: the line ended without an outcome."""

    pid: int
    last: float
    outcome: Outcome | None = None
    broken: bool = False


class Reports:
    """The launcher's end. heard: by rank."""

    def __init__(self, host: str, bind: str) -> None:
        key = secrets.token_bytes(32)
        self._listener = Listener((bind, 0), authkey=key, backlog=64)
        self.address = Address(host, self._listener.address[1], key)
        self.heard: dict[int, Heard] = {}
        self._lines: list[Connection] = []
        threading.Thread(target=self._accept, name="reports", daemon=True).start()

    def __enter__(self) -> Reports:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._listener.close()
        for line in list(self._lines):
            line.close()

    def silent(self, seconds: float) -> list[int]:
        """Ranks of workers without an outcome that have said nothing for so long."""
        now = time.monotonic()
        return [r for r, worker in self.heard.items() if worker.outcome is None and now - worker.last > seconds]

    def _accept(self) -> None:
        while True:
            try:
                line = self._listener.accept()
            except (AuthenticationError, EOFError, ConnectionError):
                continue  # a stranger
            except OSError:
                return  # closed
            self._lines.append(line)
            threading.Thread(target=self._listen, args=(line,), name="report", daemon=True).start()

    def _listen(self, line: Connection) -> None:
        worker: Heard | None = None
        try:
            rank, pid = line.recv()
            worker = self.heard[rank] = Heard(pid, time.monotonic())
            while worker.outcome is None:
                worker.outcome = line.recv()
                worker.last = time.monotonic()
        except (EOFError, OSError):
            if worker:
                worker.broken = True


class Line:
    """A worker's end."""

    def __init__(self, line: Connection, rank: int) -> None:
        self._line = line
        self._lock = threading.Lock()
        self._ended = threading.Event()
        line.send((rank, os.getpid()))

    def report(self, outcome: Outcome) -> None:
        """The last word."""
        with self._lock:
            self._ended.set()
            self._line.send(outcome)

    def beat(self) -> None:
        """Beat until the last word is said. Nobody else would stop this process if the launcher's has ended, and a
        new attempt may write to the same place: then it ends here.
        """
        while not self._ended.wait(_BEAT_SECONDS):
            with self._lock:
                if self._ended.is_set():
                    return
                try:
                    self._line.send(None)
                except OSError:
                    os._exit(1)


@contextmanager
def line_to(address: Address, rank: int) -> Iterator[Line]:
    """A line to the launcher that beats in a thread."""
    with Client((address.host, address.port), authkey=address.key) as connection:
        line = Line(connection, rank)
        threading.Thread(target=line.beat, name="beat", daemon=True).start()
        yield line
