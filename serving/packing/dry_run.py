"""What downstream will meet: a fresh process loads a published artifact, scores its golden rows and times requests.

    python -m nightjar.serving.packing.dry_run DIRECTORY

What the process must not have loaded at the end (Spark, Horovod, torch) is looked at too: downstream does not have it.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

import nightjar
from nightjar.features.contract import storage
from nightjar.features.contract.artifact_files import GOLDEN_RAW, GOLDEN_SCORES
from nightjar.features.contract.errors import NightjarError
from nightjar.features.contract.strict import Strict
from nightjar.features.encoder.files import read_array, read_table
from nightjar.serving.model import ServingModel, load

TOLERANCE = 1e-5
REQUEST_ROWS = 200
REQUESTS = 100
FORBIDDEN = ("torch", "pyspark", "horovod", "petastorm")
SECONDS = 600


class Measured(Strict):
    """rows: golden ones; largest_difference: from the trainer's scores; latencies: of a request of 200 candidates, in
    milliseconds; resident_mib: the most memory that was ever resident.
    """

    rows: int
    largest_difference: float
    median_latency: float
    p99_latency: float
    resident_mib: float


class DryRun(Strict):
    """problems: what makes the artifact unfit, in words. measured: None if it could not be loaded."""

    problems: tuple[str, ...]
    measured: Measured | None = None


def run(directory: str) -> DryRun:
    """Try the artifact in a fresh process; a process that dies, hangs or raises is a problem like any other."""
    root = str(Path(nightjar.__file__).parents[1])
    search = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    try:
        process = subprocess.run(
            [sys.executable, "-m", "nightjar.serving.packing.dry_run", directory],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": search},
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return DryRun(problems=(f"the process had not ended after {SECONDS} s.",))
    if process.returncode:
        last = process.stderr.strip().rpartition("\n")[2]
        return DryRun(problems=(f"the process ended with status {process.returncode}: {last}",))
    return DryRun.model_validate_json(process.stdout)


def check(directory: str) -> DryRun:
    """Load the artifact, compare its golden scores with the trainer's, and time requests, in this process."""
    try:
        model = load(directory)
        golden = storage.join(directory, GOLDEN_RAW)
        rows = read_table(storage.read_bytes(golden), golden)
        wanted = read_array(storage.join(directory, GOLDEN_SCORES))
        scores = model.score(rows, as_logged=True)
    except NightjarError as error:
        return DryRun(problems=(str(error),))
    problems = [*wrong_scores(scores, wanted), *_loaded()]
    latency = 1000.0 * _seconds(model, rows)
    difference = np.abs(scores - wanted, dtype=np.float64) if scores.shape == wanted.shape else np.zeros(0)
    measured = Measured(
        rows=len(scores),
        largest_difference=float(np.nan_to_num(difference).max(initial=0.0)),
        median_latency=float(np.median(latency)),
        p99_latency=float(np.quantile(latency, 0.99)),
        resident_mib=_resident_mib(),
    )
    return DryRun(problems=tuple(problems), measured=measured)


def wrong_scores(scores: np.ndarray, wanted: np.ndarray) -> Iterator[str]:
    """What is wrong with golden rows' scores, in words; nothing if they are the wanted ones, within TOLERANCE."""
    if scores.shape != wanted.shape:
        yield f"there are {len(scores)} golden rows but {len(wanted)} golden scores."
        return
    invalid = np.flatnonzero(~((scores >= 0) & (scores <= 1) & (wanted >= 0) & (wanted <= 1)))
    if len(invalid):
        row = invalid[0]
        yield (
            f"{len(invalid)} of {len(scores)} golden scores are not probabilities, first in row {row}: "
            f"served {scores[row]}, trained {wanted[row]}."
        )
        return
    difference = np.abs(scores - wanted, dtype=np.float64)
    row = int(np.argmax(difference)) if len(scores) else 0
    if len(scores) and difference[row] > TOLERANCE:
        yield (
            f"{np.sum(difference > TOLERANCE)} of {len(scores)} golden scores differ from the trainer's by "
            f"more than {TOLERANCE:g}, most in row {row}: served {scores[row]:.7f}, trained {wanted[row]:.7f}."
        )


def _loaded() -> Iterator[str]:
    loaded = [name for name in FORBIDDEN if name in sys.modules]
    if loaded:
        yield f"serving loaded {loaded}, which downstream does not have."


def _seconds(model: ServingModel, rows: pa.Table) -> np.ndarray:
    """Of each request, float64[REQUESTS]: candidates taken from the golden rows in turn, after one request to warm."""
    if not rows.num_rows:
        return np.zeros(1)
    requests = [rows.take((n + np.arange(REQUEST_ROWS)) % rows.num_rows) for n in range(REQUESTS + 1)]
    seconds = []
    for request in requests:
        began = time.perf_counter()
        model.rank(request)
        seconds.append(time.perf_counter() - began)
    return np.array(seconds[1:])


def _resident_mib() -> float:
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would count what the parent held when it started this process
        peak = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(peak.split()[1]) / 1024
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def main(argv: Sequence[str] | None = None) -> int:
    """Print what is found of the directory named by the one argument, as JSON."""
    (directory,) = sys.argv[1:] if argv is None else argv
    print(check(directory).model_dump_json())
    return 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # Not sys.exit: native threads that still run while the interpreter is taken down have been seen to abort the
    # process (std::terminate) after all its work was done.
    os._exit(status)
