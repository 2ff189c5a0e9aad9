"""What a night costs: seconds by step, bytes, files, handles and memory of this process and its children."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from nightjar.features.contract.outputs import RUNS
from nightjar.features.contract.strict import Strict
from nightjar.jobs.nightly import chain

PLAN = "plan"
"""What comes before the first step."""


class Night(Strict):
    """A night's figures.

    seconds, processor_seconds: by step; the first is the plan, the last also draws the pages. bytes_read,
    bytes_written: by system calls of all processes, pipes included. opened: files that the driver has opened, by the
    folder of the output, or of the log. files, bytes_kept: what the output holds then; log_files, log_bytes: of these
    the runs' own logs, which retention removes by the date of the clock; in these nights that stands still. handles,
    memory_mib: open files and resident memory of the driver; jvm_handles, jvm_mib: of the JVM.
    """

    night: int
    seconds: dict[str, float]
    processor_seconds: dict[str, float]
    bytes_read: int
    bytes_written: int
    opened: dict[str, int]
    files: int
    bytes_kept: int
    log_files: int = 0
    log_bytes: int = 0
    handles: int
    memory_mib: float
    jvm_handles: int
    jvm_mib: float


def read_nights(path: Path) -> list[Night]:
    """The lines of a run, in order."""
    return [Night.model_validate_json(line) for line in path.read_text().splitlines()]


@dataclass(frozen=True)
class Usage:
    """Of all processes of the tree; those that have ended count with the parent that waited for them."""

    at: float
    processor: float
    read: int
    written: int

    @classmethod
    def now(cls) -> Usage:
        """Up to this moment."""
        processor, read, written = 0.0, 0, 0
        for process in _tree():
            try:
                times, io = process.cpu_times(), process.io_counters()
            except psutil.NoSuchProcess:
                continue
            processor += times.user + times.system + times.children_user + times.children_system
            read, written = read + io.read_chars, written + io.write_chars
        return cls(time.perf_counter(), processor, read, written)


class Meter(logging.Handler):
    """Measures one night after the other. It knows the steps by what the chain logs."""

    def __init__(self, work: Path) -> None:
        super().__init__(logging.INFO)
        self.work, self.output = work, work / "nights"
        self._steps: list[tuple[str, Usage]] = []
        self._opened: Counter[str] = Counter()
        chain.log.addHandler(self)
        chain.log.setLevel(logging.INFO)
        sys.addaudithook(self._audit)

    def begin(self) -> None:
        """A night begins now."""
        self._opened.clear()
        self._steps = [(PLAN, Usage.now())]

    def emit(self, record: logging.LogRecord) -> None:
        """See logging.Handler: a step begins."""
        if record.msg == "step %s":
            self._steps.append((str(record.args[0]) if isinstance(record.args, tuple) else "", Usage.now()))

    def end(self, number: int) -> Night:
        """The figures of the night that is over now. number: from 1."""
        ends = [usage for _, usage in self._steps[1:]] + [Usage.now()]
        spans = [(name, begin, end) for (name, begin), end in zip(self._steps, ends, strict=True)]
        first, last = spans[0][1], spans[-1][2]
        files = [entry.stat().st_size for entry in _files(self.output)]
        logs = [entry.stat().st_size for entry in _files(self.output / RUNS)]
        driver, jvm = psutil.Process(), _jvm()
        return Night(
            night=number,
            seconds={name: round(end.at - begin.at, 3) for name, begin, end in spans},
            processor_seconds={name: round(end.processor - begin.processor, 3) for name, begin, end in spans},
            bytes_read=last.read - first.read,
            bytes_written=last.written - first.written,
            opened=dict(self._opened),
            files=len(files),
            bytes_kept=sum(files),
            log_files=len(logs),
            log_bytes=sum(logs),
            handles=driver.num_fds(),
            memory_mib=round(driver.memory_info().rss / 2**20, 1),
            jvm_handles=jvm.num_fds(),
            jvm_mib=round(jvm.memory_info().rss / 2**20, 1),
        )

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(path := arguments[0], str) and path.startswith(f"{self.work}/"):
            parts = path.removeprefix(f"{self.work}/").split("/")
            self._opened["/".join(parts[1:2] if parts[0] == self.output.name else parts[:1])] += 1


def _tree() -> list[psutil.Process]:
    driver = psutil.Process()
    return [driver, *driver.children(recursive=True)]


def _jvm() -> psutil.Process:
    return next(process for process in psutil.Process().children() if process.name() == "java")


def _files(folder: Path) -> Iterator[os.DirEntry[str]]:
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            yield from _files(Path(entry.path))
        else:
            yield entry
