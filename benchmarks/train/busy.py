"""Training beside busy neighbours, by how long idle threads of OpenMP spin before they sleep.

    python -m benchmarks.train.busy --work build/bench [--spins own default passive 0 1000] [--neighbours 0 1 2 4]

own: what Nightjar sets itself; default: what libgomp does when nothing is set; passive: OMP_WAIT_POLICY=passive; a
number: GOMP_SPINCOUNT. A neighbour keeps one thread busy. The fair share of two threads on C cores beside N
neighbours is min(1, C / (2 + N)) of the idle machine's speed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console

from benchmarks.train.__main__ import Data, contest, show
from benchmarks.train.contestant import Contestant

_VARIABLES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
_LIBGOMP_SPINS = 300_000


def settings_of(spin: str) -> Mapping[str, str]:
    """The environment of a contestant."""
    if spin == "own":
        return {}
    if spin == "passive":
        return {"OMP_WAIT_POLICY": "passive"}
    return {"GOMP_SPINCOUNT": str(_LIBGOMP_SPINS) if spin == "default" else spin}


@contextmanager
def neighbours(count: int) -> Iterator[None]:
    """Processes that each keep one thread busy."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def contestant(spin: str, train: str, test: str, args: argparse.Namespace) -> Contestant:
    """Nightjar's trainer with that setting."""
    unset = [part for name in _VARIABLES for part in ("-u", name)]
    variables = [f"{name}={value}" for name, value in settings_of(spin).items()]
    trainer = [sys.executable, "-m", "benchmarks.train.nightjar", args.model, train, test, str(args.threads)]
    return Contestant(spin, ["env", *unset, *variables, *trainer, json.dumps({"batch_size": args.batch}), "0", "files"])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", default="build/bench", help="where the generated data lies")
    parser.add_argument("--spins", nargs="+", default=["own", "default", "passive"])
    parser.add_argument("--neighbours", nargs="+", type=int, default=[0, 1, 2, 4])
    parser.add_argument("--model", default="wide_deep")
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rows", type=int, default=65_536)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    data, console = Data(args.work), Console(width=120)
    train, test = data.train(10**5, args.rows), data.test(10**5)
    for count in args.neighbours:
        contestants = {spin: contestant(spin, train, test, args) for spin in args.spins}
        with neighbours(count):
            results = contest(contestants, args.repeats)
        title = f"{args.model}, batches of {args.batch}, {args.threads} threads, {count} busy neighbours"
        show(console, title, results)


if __name__ == "__main__":
    main()
