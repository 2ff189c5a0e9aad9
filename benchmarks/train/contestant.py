"""One contestant in a process of its own: it answers every line on standard input with one measured round.

Standard library only, since rivals run it in an environment of theirs.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence

_MARK = "RESULT "


def cpu_seconds() -> float:
    """Of all threads of this process and of its children that have ended: what a busy machine does not stretch."""
    own, ended = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + ended.ru_utime + ended.ru_stime


def serve(measure: Callable[[], Mapping[str, float]]) -> None:
    """Answer lines until the input ends. measure: a round's figures, `rows`, `seconds` and `cpu` among them."""
    print(_MARK + "{}", flush=True)
    for _ in sys.stdin:
        print(_MARK + json.dumps(measure()), flush=True)


class Contestant:
    """The other end of `serve`: a child that waits, without using the machine, until it is asked for a round."""

    def __init__(self, name: str, command: Sequence[str]) -> None:
        self.name = name
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._answer()

    def round(self) -> dict[str, float]:
        """One measured round."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """End the child."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)

    def _answer(self) -> dict[str, float]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(_MARK):
                figures: dict[str, float] = json.loads(line.removeprefix(_MARK))
                return figures
        raise RuntimeError(f"{self.name} ended before it answered; exit status {self._process.wait()}")
