"""One run at a time on one registry: a lease that its owner keeps alive, and that another takes over when it is dead.

    <models>/lock/000007.json     who holds the lease, since when, last heartbeat; or that it was released

The entry with the highest number counts. Taking the lease creates the next one, which of several takers only one can do
(features.contract.storage.create_bytes); an owner only ever writes its own. A taker who was slow, and created a
number below the highest because it had been cleared away meanwhile, finds that out before it begins. The number goes
into every move of the champion pointer, which refuses a lower one than the last move's (serving.pointer).

What storage does meanwhile, or what becomes of an entry, ends no run that is at work: a heartbeat that fails is
followed by the next one, and an entry that cannot be read is as old as its file.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from nightjar.features.contract import storage
from nightjar.features.contract.errors import LockedError
from nightjar.features.contract.outputs import LOCK, numbered_file
from nightjar.features.contract.strict import Strict
from nightjar.serving.pointer import numbers

HEARTBEAT_SECONDS = 30.0
STALE_SECONDS = 600.0
_TORN_SECONDS = 0.1
_ATTEMPTS = 50

Moment = Annotated[float, Field(ge=0.0, lt=253_402_300_800.0, allow_inf_nan=False)]
"""Seconds since 1970, before the year 10000."""

log = logging.getLogger(__name__)


class Lease(Strict):
    """An entry. host, boot, processes, pid: of the owner. processes is the pid's name space, since containers share
    hosts; boot is the kernel's own name of its start, since machines share host names.

    since, heartbeat: seconds since 1970 by the owner's clock.
    """

    run: str
    host: str
    boot: str = ""
    processes: str
    pid: int = Field(ge=1, lt=2**31)
    since: Moment
    heartbeat: Moment
    released: bool = False

    @classmethod
    def mine(cls, run: str) -> Lease:
        """This process's, from now on."""
        now = time.time()
        return cls(
            run=run,
            host=socket.gethostname(),
            boot=_boot(),
            processes=_processes(),
            pid=os.getpid(),
            since=now,
            heartbeat=now,
        )

    def is_dead(self, stale_seconds: float, written: float) -> bool:
        """True if the owner ended without releasing it: its process is gone, or it was silent for so long.

        Args:
            stale_seconds: how long that is.
            written: when the entry was, by the storage's clock.

        The later of the two moments counts, since the owner's clock or the storage's may be behind; but none that this
        machine's clock has not come to, since it may be ahead.
        """
        if self._is_of_this_machine and not _is_running(self.pid):
            return True
        now = time.time()
        last = max((moment for moment in (self.heartbeat, written) if moment <= now), default=written)
        return now - last > stale_seconds

    @property
    def _is_of_this_machine(self) -> bool:
        here = (socket.gethostname(), _boot(), _processes())
        return all(here) and here == (self.host, self.boot, self.processes)


@dataclass
class Held:
    """A lease that this process holds."""

    folder: str
    number: int
    lease: Lease
    stale_seconds: float = STALE_SECONDS
    _stop: threading.Event = field(default_factory=threading.Event)
    _renewed: float = field(default_factory=time.monotonic)

    def check(self) -> None:
        """Raises LockedError if another run has taken the lease over, as it does when this one slept too long.

        As long as the lease was renewed lately, storage that cannot be asked is a warning.
        """
        try:
            newest = numbers(self.folder)[-1:]
        except Exception as error:  # storage has errors of many kinds: botocore's are no OSError
            if time.monotonic() - self._renewed > self.stale_seconds:
                raise LockedError(
                    f"the lease {self.folder} could not be renewed for {self.stale_seconds:g} s, and cannot be looked "
                    f"at: {error}. The run ends here; the next one finds its work."
                ) from error
            log.warning("the lease %s could not be looked at: %s", self.folder, error)
            return
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
                self._renewed = time.monotonic()
            except Exception as error:  # storage has errors of many kinds: botocore's are no OSError
                log.warning("the lease %s could not be renewed: %s", self.folder, error)

    def end(self, thread: threading.Thread) -> None:
        """Stop the heart and release. Where that fails the lease ends by itself: what the run has done stays done."""
        self._stop.set()
        try:
            thread.join(HEARTBEAT_SECONDS)
            self._write(released=True)
        except Exception as error:
            log.warning("the lease %s could not be released: %s", self.folder, error)

    def _write(self, **changes: object) -> None:
        storage.write_bytes(_entry(self.folder, self.number), _json(self.lease.model_copy(update=changes)))


def lock_of(models: str) -> str:
    """The folder of the lease on a registry."""
    return storage.join(models, LOCK)


@contextmanager
def lease(
    folder: str,
    run: str,
    *,
    stale_seconds: float = STALE_SECONDS,
    heartbeat_seconds: float = HEARTBEAT_SECONDS,
    after: int = 0,
) -> Iterator[Held]:
    """Hold the lease for the time of the block.

    Args:
        folder: of the lease (`lock_of`).
        run: id of the run that holds it.
        stale_seconds: a holder that was silent for so long counts as dead.
        heartbeat_seconds: between two heartbeats.
        after: the lease's number is greater, also if somebody has removed the entries before.

    Raises LockedError if another run that is alive has it.
    """
    held = acquire(folder, run, stale_seconds, after)
    thread = threading.Thread(target=held.beat, args=(heartbeat_seconds,), name="lease", daemon=True)
    thread.start()
    try:
        yield held
    finally:
        held.end(thread)


def acquire(folder: str, run: str, stale_seconds: float, after: int = 0) -> Held:
    """Take the lease, from a dead owner if need be; see `lease`."""
    for _ in range(_ATTEMPTS):
        there = numbers(folder)
        number = max([after, *there]) + 1
        if there:
            newest = _entry(folder, there[-1])
            try:
                _require_free(newest, stale_seconds)
            except FileNotFoundError:
                time.sleep(_TORN_SECONDS)
                continue  # cleared away since it was listed
        held = Held(folder, number, Lease.mine(run), stale_seconds)
        try:
            storage.create_bytes(_entry(folder, number), _json(held.lease))
        except FileExistsError:
            continue  # another taker was faster
        now = numbers(folder)
        mine = None
        with suppress(FileNotFoundError):
            mine = _read(_entry(folder, number))
        if now and now[-1] == number and mine == held.lease:
            for older in now[:-1]:
                storage.remove(_entry(folder, older))
            return held
        if not now or now[-1] != number:
            storage.remove(_entry(folder, number))
    raise LockedError(
        f"the entries of {folder} come and go, or are listed and cannot be found: {_ATTEMPTS} attempts to take "
        f"the lease have failed. Run the same command again; remove what is no file there."
    )


def _require_free(url: str, stale_seconds: float) -> None:
    """Raises LockedError if a run that is alive has this entry, FileNotFoundError if it is not there any more."""
    holder, written = _read(url), storage.modified(url)
    if holder is None:
        if time.time() - written <= stale_seconds:
            raise LockedError(
                f"{url} cannot be read; some run may be at work. It is free {stale_seconds:g} s after it was written "
                f"last: wait, or remove that file if no run is at work."
            )
        log.warning("taking the lease over from an entry that cannot be read: %s", url)
    elif not holder.released:
        if not holder.is_dead(stale_seconds, written):
            raise LockedError(_in_use(url, holder, stale_seconds))
        log.warning("taking the lease over from run %s on %s, which is dead", holder.run, holder.host)


def _in_use(url: str, holder: Lease, stale_seconds: float) -> str:
    since, heartbeat = (
        datetime.fromtimestamp(t, UTC).isoformat(" ", "seconds") for t in (holder.since, holder.heartbeat)
    )
    return (
        f"run {holder.run} (process {holder.pid} on {holder.host}) is at work there since {since}, last heartbeat "
        f"{heartbeat}: {url}. Wait for its end; if it is dead, its lease ends {stale_seconds:g} s after its last "
        f"heartbeat."
    )


def _entry(folder: str, number: int) -> str:
    return storage.join(folder, numbered_file(number))


def _read(url: str) -> Lease | None:
    """None if it cannot be understood, which a second look may change where writes are not atomic."""
    for again in (True, True, False):
        try:
            return Lease.model_validate_json(storage.read_bytes(url))
        except ValidationError as error:
            log.debug("%s", error)
            if again:
                time.sleep(_TORN_SECONDS)
    return None


def _json(lease: Lease) -> bytes:
    return (lease.model_dump_json(indent=1) + "\n").encode()


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


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
