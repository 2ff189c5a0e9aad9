"""Whether this process gets on: a count that long phases raise by what they have done.

A heartbeat says that a process is alive, and a stuck one is. Only work that is done says that it is not stuck: a global
batch, a file, a block of a table, a piece of a file that is hashed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_PROCESSOR_SECONDS = 0.1
_advances = 0
# Clocks of the threads that are inside of `opaque_work`, a key for each time that one has entered.
_clocks: dict[object, int] = {}
_waits = 0


def advance() -> None:
    """A piece of work is done. Safe in any thread: what counts is that the count has moved."""
    global _advances
    _advances += 1


def advances() -> int:
    """The count so far; while threads are inside of `opaque_work` it moves with their processor time."""
    count = _advances
    for clock in list(_clocks.values()):
        with suppress(OSError):  # the thread has ended in there
            count += int(time.clock_gettime(clock) / _PROCESSOR_SECONDS)
    return count


@contextmanager
def opaque_work() -> Iterator[None]:
    """Around the long call of a library that does not say how far it is: what its thread computes is work done.

    One that waits for what never comes computes nothing. One that spins for ever is not seen: hence not around steps.
    """
    entered = object()
    _clocks[entered] = time.pthread_getcpuclockid(threading.get_ident())
    try:
        yield
    finally:
        del _clocks[entered]
    advance()


@contextmanager
def waiting() -> Iterator[None]:
    """Around what only another process can end; it is work done when it has ended well."""
    global _waits
    _waits += 1
    try:
        yield
    finally:
        _waits -= 1
    advance()


def is_waiting() -> bool:
    """Whether this process waits for another."""
    return _waits > 0
