"""Whether this process gets on: a count that long phases raise by what they have done.

A heartbeat says that a process is alive, and a stuck one is. Only work that is done says that it is not stuck: a global
batch, a file, a block of a table, a piece of a file that is hashed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

_advances = 0
_waits = 0


def advance() -> None:
    """A piece of work is done. Safe in any thread: what counts is that the count has moved."""
    global _advances
    _advances += 1


def advances() -> int:
    """The count so far."""
    return _advances


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
