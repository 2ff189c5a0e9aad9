"""One run at a time on one registry: a lease that its owner keeps alive, and that another takes over when it is dead.

    <models>/lock/000007.json     who holds the lease, since when, last heartbeat; or that it was released

The entry with the highest number counts. Taking the lease creates the next one, which of several takers only one can do
(features.contract.storage.create_bytes); an owner only ever writes its own. A taker who was slow, and created a
number below the highest because it had been cleared away meanwhile, finds that out before it begins.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from pydantic import ValidationError

from nightjar.features.contract import storage
from nightjar.features.contract.errors import DataError, LockedError
from nightjar.features.contract.outputs import LOCK, number_of, numbered_file
from nightjar.features.contract.strict import Strict, explain

HEARTBEAT_SECONDS = 30.0
STALE_SECONDS = 600.0

log = logging.getLogger(__name__)


class Lease(Strict):
    """An entry. host, processes, pid: of the owner; processes is the pid's name space, since containers share hosts.

    since, heartbeat: seconds since 1970 by the owner's clock.
    """

    run: str
    host: str
    processes: str
    pid: int
    since: float
    heartbeat: float
    released: bool = False

    @classmethod
    def mine(cls, run: str) -> Lease:
        """This process's, from now on."""
        now = time.time()
        return cls(
            run=run, host=socket.gethostname(), processes=_processes(), pid=os.getpid(), since=now, heartbeat=now
        )

    def is_dead(self, stale_seconds: float) -> bool:
        """True if the owner ended without releasing it: its process is gone, or it was silent for so long."""
        if (self.host, self.processes) == (socket.gethostname(), _processes()) and not _is_running(self.pid):
            return True
        return time.time() - self.heartbeat > stale_seconds


@dataclass
class Held:
    """A lease that this process holds."""

    folder: str
    number: int
    lease: Lease
    _stop: threading.Event = field(default_factory=threading.Event)

    def check(self) -> None:
        """Raises LockedError if another run has taken the lease over, as it does when this one slept too long."""
        newest = _numbers(self.folder)[-1:]
        if newest != [self.number]:
            raise LockedError(
                f"run {self.lease.run} was silent so long that another took over {self.folder}; it ends here. The next "
                f"run finds its work."
            )

    def beat(self, every: float) -> None:
        """Renew the entry until `end`."""
        while not self._stop.wait(every):
            try:
                self._write(heartbeat=time.time())
            except OSError as error:
                log.warning("the lease %s could not be renewed: %s", self.folder, error)

    def end(self, thread: threading.Thread) -> None:
        """Stop the heart and release."""
        self._stop.set()
        thread.join()
        self._write(released=True)

    def _write(self, **changes: object) -> None:
        storage.write_bytes(_entry(self.folder, self.number), _json(self.lease.model_copy(update=changes)))


def lock_of(models: str) -> str:
    """The folder of the lease on a registry."""
    return storage.join(models, LOCK)


@contextmanager
def lease(
    folder: str, run: str, *, stale_seconds: float = STALE_SECONDS, heartbeat_seconds: float = HEARTBEAT_SECONDS
) -> Iterator[Held]:
    """Hold the lease for the time of the block.

    Args:
        folder: of the lease (`lock_of`).
        run: id of the run that holds it.
        stale_seconds: a holder that was silent for so long counts as dead.
        heartbeat_seconds: between two heartbeats.

    Raises LockedError if another run that is alive has it.
    """
    held = acquire(folder, run, stale_seconds)
    thread = threading.Thread(target=held.beat, args=(heartbeat_seconds,), name="lease", daemon=True)
    thread.start()
    try:
        yield held
    finally:
        held.end(thread)


def acquire(folder: str, run: str, stale_seconds: float) -> Held:
    """Take the lease, from a dead owner if need be."""
    while True:
        numbers = _numbers(folder)
        number = numbers[-1] + 1 if numbers else 1
        holder = _read(_entry(folder, numbers[-1])) if numbers else None
        if numbers and holder is None:
            continue  # cleared away since it was listed
        if holder and not holder.released:
            if not holder.is_dead(stale_seconds):
                raise LockedError(_in_use(folder, holder, stale_seconds))
            log.warning("taking the lease over from run %s on %s, which is dead", holder.run, holder.host)
        held = Held(folder, number, Lease.mine(run))
        try:
            storage.create_bytes(_entry(folder, number), _json(held.lease))
        except FileExistsError:
            continue  # another taker was faster
        now = _numbers(folder)
        if now[-1] == number and _read(_entry(folder, number)) == held.lease:
            for older in now[:-1]:
                storage.remove(_entry(folder, older))
            return held
        if now[-1] != number:
            storage.remove(_entry(folder, number))


def _in_use(folder: str, holder: Lease, stale_seconds: float) -> str:
    since, heartbeat = (
        datetime.fromtimestamp(t, UTC).isoformat(" ", "seconds") for t in (holder.since, holder.heartbeat)
    )
    return (
        f"run {holder.run} (process {holder.pid} on {holder.host}) is at work there since {since}, last heartbeat "
        f"{heartbeat}: {folder}. Wait for its end; if it is dead, its lease ends {stale_seconds:g} s after its last "
        f"heartbeat."
    )


def _numbers(folder: str) -> list[int]:
    return [number_of(name) for name in storage.list_files(folder, ".json")]


def _entry(folder: str, number: int) -> str:
    return storage.join(folder, numbered_file(number))


def _read(url: str) -> Lease | None:
    try:
        return Lease.model_validate_json(storage.read_bytes(url))
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise DataError(explain(error, url)) from error


def _json(lease: Lease) -> bytes:
    return (lease.model_dump_json(indent=1) + "\n").encode()


def _processes() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
