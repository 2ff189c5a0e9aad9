"""Many nights with a fault in every few of them, beside a twin that nobody disturbs.

    python -m benchmarks.nights.soak --work FOLDER --faults SEED [--nights 400] [--every 10]

Both outputs read the same logs. What happens in a night is drawn from (SEED, number of the night). After a fault the
same night is run again; then everything that the two have published must be the same, manifest for manifest, and so
checksum for checksum. FOLDER/soak.jsonl grows by a line a night; a run that is started again goes on after the last
one. It ends with status 1 at the first night that breaks a promise.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import yaml

from benchmarks.nights.run import CONFIG, DAYS_BEFORE, FIRST, SUBMIT, folder_of, write_day
from nightjar.features.contract.publishing import MANIFEST
from nightjar.features.contract.strict import Strict
from nightjar.jobs import run_nightly
from nightjar.jobs.common.cli import entry_point
from nightjar.jobs.common.spark_session import spark_session

KILLED, TERMINATED, TOLD = -signal.SIGKILL, 128 + signal.SIGTERM, 2
PATIENCE = 330
"""Seconds that a night may take: the default of training.stall_seconds, and 30 more."""


class SoakNight(Strict):
    """A night with what befell it: its exit status and seconds; `again`: the status of the run after that."""

    night: int
    fault: str
    detail: str
    status: int
    seconds: float
    again: int | None


class Soak:
    """The two outputs, and the logs that both read."""

    def __init__(self, work: Path) -> None:
        self.logs, self.output, self.twin = work / "logs", work / "soaked", work / "twin"
        self.config = work / "config.yaml"
        self.config.write_text(yaml.safe_dump(CONFIG))

    def arguments(self, night: date, output: Path) -> list[str]:
        """Of `nightjar night`."""
        return ["--config", str(self.config), "--logs", str(self.logs), "--output", str(output), "--date", str(night)]

    def run(self, night: date) -> int:
        """The night, in this process; its exit status."""
        return run_nightly.main(self.arguments(night, self.output))

    def killed(self, night: date, rng: np.random.Generator) -> tuple[str, int]:
        """The night in a process of its own, ended by SIGKILL a moment after a step has begun."""
        return self._signalled(night, rng, signal.SIGKILL)

    def terminated(self, night: date, rng: np.random.Generator) -> tuple[str, int]:
        """Likewise, by SIGTERM."""
        return self._signalled(night, rng, signal.SIGTERM)

    def late_log(self, night: date, rng: np.random.Generator) -> tuple[str, int]:
        """The day's log comes after the night."""
        log, aside = folder_of(self.logs, night), self.logs.with_name("late")
        log.rename(aside)
        try:
            return "no log of the day", self.run(night)
        finally:
            aside.rename(log)

    def damaged_champion(self, night: date, rng: np.random.Generator) -> tuple[str, int]:
        """One bit of a file that the champion serves from is another, until the file is restored."""
        pointer = json.loads((self.output / "models/champion.json").read_text())
        return self._damaged(night, rng, self.output / "models" / pointer["version"])

    def damaged_file(self, night: date, rng: np.random.Generator) -> tuple[str, int]:
        """Likewise of any published file; a night that does not read it does not know."""
        return self._damaged(night, rng, self.output)

    def _damaged(self, night: date, rng: np.random.Generator, below: Path) -> tuple[str, int]:
        files = sorted(file for path in below.rglob(MANIFEST) for file in path.parent.rglob("*") if file.is_file())
        file = files[rng.integers(len(files))]
        with flipped(file, rng) as bit:
            return f"bit {bit} of {file.relative_to(self.output)}", self.run(night)

    def _signalled(self, night: date, rng: np.random.Generator, how: signal.Signals) -> tuple[str, int]:
        step, later = int(rng.integers(1, 14)), float(rng.random())
        command = [sys.executable, "-m", "nightjar.jobs.run_nightly", *self.arguments(night, self.output)]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )
        seen: list[str] = []
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if found := re.search(r"\bstep (\w+)", line):
                    seen.append(found[1])
                    if len(seen) == step:
                        time.sleep(later)
                        (os.killpg if how == signal.SIGKILL else os.kill)(process.pid, how)
            status = process.wait(PATIENCE)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        return f"{later:.2f} s into step {step}, {seen[min(step, len(seen)) - 1] if seen else 'none'}", status


@contextmanager
def flipped(file: Path, rng: np.random.Generator) -> Iterator[int]:
    """One bit of a file is flipped, for so long."""
    whole = file.read_bytes()
    bit = int(rng.integers(8 * max(len(whole), 1)))
    damaged = bytearray(whole or b"\0")
    damaged[bit // 8] ^= 1 << bit % 8
    file.write_bytes(bytes(damaged))
    try:
        yield bit
    finally:
        if file.exists():  # retention may have removed it with its directory
            file.write_bytes(whole)


Fault = Callable[[Soak, date, np.random.Generator], tuple[str, int]]
FAULTS: dict[str, tuple[Fault, set[int]]] = {
    # A signal may come after the night's end: then its status is 0.
    "killed": (Soak.killed, {KILLED, 0}),
    "terminated": (Soak.terminated, {TERMINATED, 0}),
    "late log": (Soak.late_log, {TOLD}),
    "damaged champion": (Soak.damaged_champion, {TOLD}),
    "damaged file": (Soak.damaged_file, {TOLD, 0}),
}
"""What may befall a night, and the statuses that the documentation gives it."""


@entry_point
def main(argv: Sequence[str] | None = None) -> int:
    """Run the nights that are missing."""
    parser = argparse.ArgumentParser(prog="soak", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--work", required=True, help="folder for the log, the two outputs and what happened")
    parser.add_argument("--faults", type=int, required=True, metavar="SEED")
    parser.add_argument("--nights", type=int, default=400)
    parser.add_argument("--every", type=int, default=10, help="a fault in every so many nights")
    parser.add_argument("--rows-per-day", type=int, default=400)
    args = parser.parse_args(argv)
    warnings.filterwarnings("ignore")
    os.environ.setdefault("PYSPARK_SUBMIT_ARGS", SUBMIT)
    work = Path(args.work).absolute()
    work.mkdir(parents=True, exist_ok=True)
    soak, lines = Soak(work), work / "soak.jsonl"
    done = len(lines.read_text().splitlines()) if lines.exists() else 0
    for day in range(-DAYS_BEFORE, 0):
        write_day(soak.logs, FIRST + timedelta(day), args.rows_per_day)
    with spark_session("soak"):
        for number in range(done + 1, args.nights + 1):
            night = FIRST + timedelta(number - 1)
            write_day(soak.logs, night, args.rows_per_day)
            rng = np.random.default_rng([args.faults, number])
            fault = str(rng.choice(sorted(FAULTS))) if number > 1 and number % args.every == 0 else "none"
            happened = one_night(soak, number, night, fault, rng)
            with lines.open("a") as file:
                file.write(happened.model_dump_json() + "\n")
            print(happened.model_dump_json(), flush=True)
    return 0


def one_night(soak: Soak, number: int, night: date, fault: str, rng: np.random.Generator) -> SoakNight:
    """A night of the twin, the same with this fault, and once more; leaves by SystemExit where they are not equal."""
    # A soak that was interrupted in a night finds the twin's there: nothing to do.
    if (status := run_nightly.main(soak.arguments(night, soak.twin))) not in {0, 4}:
        sys.exit(f"night {number} of the twin, {night}, ended with status {status}")
    began, detail, allowed = time.perf_counter(), "", {0, 4}
    if fault == "none":
        status = soak.run(night)
    else:
        strike, allowed = FAULTS[fault]
        detail, status = strike(soak, night, rng)
    happened = SoakNight(
        night=number,
        fault=fault,
        detail=detail,
        status=status,
        seconds=round(time.perf_counter() - began, 1),
        again=None,
    )
    problems = [] if status in allowed else [f"status {status} instead of one of {sorted(allowed)}"]
    problems += [f"it took {happened.seconds} s"] if happened.seconds > PATIENCE else []
    if fault != "none":
        again = soak.run(night)
        happened = happened.model_copy(update={"again": again})
        problems += [] if again in {0, 4} else [f"run again it ended with status {again}"]
    problems += differences(published(soak.twin), published(soak.output)) + half_written(soak.output)
    if problems:
        sys.exit(f"night {number}, {happened.model_dump_json()}: " + "; ".join(problems))
    return happened


def published(output: Path) -> dict[str, str]:
    """What readers go by: every manifest, with its files' checksums, and the pointer's moves without their tokens,
    which count the runs. A night's manifest lists its ledger.
    """
    moves = [*(output / "models/history").glob("[0-9]*.json"), output / "models/champion.json"]
    return {
        str(path.relative_to(output)): re.sub(r'"token": \d+', "", path.read_text())
        for path in (*output.rglob(MANIFEST), *moves)
    }


def differences(twin: dict[str, str], soaked: dict[str, str]) -> list[str]:
    """What one of them has and the other has not, or has otherwise."""
    return [f"{name} differs" for name in sorted(twin.keys() | soaked) if twin.get(name) != soaked.get(name)]


def half_written(output: Path) -> list[str]:
    """Directories beside published ones that have no manifest, though the night is over."""
    folders = {path.parent.parent for path in output.rglob(MANIFEST)}
    return [
        f"{directory.relative_to(output)} has no manifest"
        for folder in sorted(folders)
        for directory in sorted(folder.iterdir())
        if directory.is_dir() and "-" in directory.name and not (directory / MANIFEST).exists()
    ]


if __name__ == "__main__":
    sys.exit(main())
