"""Lack of memory: how to tell it from other failures, and what a process may have."""

from __future__ import annotations

import errno
import resource
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import torch

_CGROUPS = Path("/sys/fs/cgroup")
_MACHINE = Path("/proc/vmstat")
# What libraries say instead of raising MemoryError. A thread needs memory for its stack.
_SAID = ("can't allocate memory", "not enough memory", "bad_alloc", "can't start new thread", "out of memory")


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether lack of memory is among the causes of an error, whatever it was turned into on the way."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, (MemoryError, torch.OutOfMemoryError)):
            return True
        if isinstance(cause, OSError) and cause.errno == errno.ENOMEM:
            return True
        if isinstance(cause, RuntimeError) and any(said in str(cause).lower() for said in _SAID):
            return True
        cause = cause.__cause__
    return False


def resident_bytes() -> int:
    """What this process holds."""
    return int(psutil.Process().memory_info().rss)


def memory_limit() -> tuple[int, str]:
    """(bytes, where it is set): the least of what this process's limits, its control groups and the machine allow."""
    limits = [(int(psutil.virtual_memory().total), "the machine")]
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft != resource.RLIM_INFINITY:
        limits.append((soft, "ulimit -v"))
    for folder in _own_cgroups():
        for name in ("memory.max", "memory.limit_in_bytes"):
            with suppress(OSError, ValueError):  # "max"
                limits.append((int((folder / name).read_text()), f"the control group, {name}"))
    return min(limits)


def oom_kills() -> int:
    """How many processes the kernel has ended for lack of memory: on this machine, or in this process's control groups
    where only these are told.
    """
    with suppress(OSError, LookupError, ValueError):
        figures = dict(line.split() for line in _MACHINE.read_text().splitlines())
        return int(figures["oom_kill"])
    kills = 0
    for folder in _own_cgroups():
        for name in ("memory.events", "memory.oom_control"):
            with suppress(OSError, ValueError):
                figures = dict(line.split() for line in (folder / name).read_text().splitlines())
                kills += int(figures.get("oom_kill", 0))
    return kills


def _own_cgroups() -> Iterator[Path]:
    """Those that account for memory, of either version. Inside a container its own may be mounted as the root."""
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            root = _CGROUPS if not controllers else _CGROUPS / "memory"
            if controllers in ("", "memory"):
                own = root / path.lstrip("/")
                yield own if own.is_dir() else root
