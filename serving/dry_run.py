"""The last check before an artifact is published: a fresh process loads it and scores its golden rows.

    python -m serving.dry_run DIRECTORY < manifest.json

The manifest comes on standard input because the directory has none until the check has passed. What the
process must not have loaded at the end (Spark, Horovod, torch) is checked too: downstream does not have it.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from features import storage
from features.errors import DataError, NightjarError
from features.manifest import GOLDEN_RAW, ArtifactManifest, verify
from serving.arrays import read_array
from serving.model import GOLDEN_SCORES, open_model

TOLERANCE = 1e-5
REFUSED = 2
FORBIDDEN = ("torch", "pyspark", "horovod", "petastorm")


def run(directory: str, manifest: ArtifactManifest) -> str:
    """Check `directory` in a fresh process; returns what it reports. Raises DataError if the check fails."""
    root = str(Path(__file__).resolve().parents[1])
    search = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    process = subprocess.run(
        [sys.executable, "-m", "serving.dry_run", directory],
        input=manifest.model_dump_json(),
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": search},
        check=False,
    )
    if process.returncode:
        message = process.stderr.strip()
        reason = message if process.returncode == REFUSED else f"{message.rpartition(chr(10))[2]} (a crash)"
        raise DataError(f"the dry run of {directory} failed, and nothing was published: {reason}")
    return process.stdout.strip()


def check(directory: str, manifest: ArtifactManifest) -> str:
    """Score the golden rows and compare with the trainer's scores; returns one line for the log.

    Raises DataError if a score is not a probability or is more than 1e-5 away from the trainer's.
    """
    verify(directory, manifest)
    model = open_model(directory, manifest)
    rows = pq.read_table(io.BytesIO(storage.read_bytes(storage.join(directory, GOLDEN_RAW))))
    wanted = read_array(storage.join(directory, GOLDEN_SCORES))
    scores = model.score(rows)
    if scores.shape != wanted.shape:
        raise DataError(f"there are {len(scores)} golden rows but {len(wanted)} golden scores.")
    invalid = np.flatnonzero(~((scores >= 0) & (scores <= 1) & (wanted >= 0) & (wanted <= 1)))
    if len(invalid):
        row = invalid[0]
        raise DataError(
            f"{len(invalid)} of {len(scores)} golden scores are not probabilities, first in row {row}: "
            f"served {scores[row]}, trained {wanted[row]}."
        )
    difference = np.abs(scores - wanted, dtype=np.float64)
    row = int(np.argmax(difference)) if len(scores) else 0
    if len(scores) and difference[row] > TOLERANCE:
        raise DataError(
            f"{np.sum(difference > TOLERANCE)} of {len(scores)} golden scores differ from the trainer's by "
            f"more than {TOLERANCE:g}, most in row {row}: "
            f"served {scores[row]:.7f}, trained {wanted[row]:.7f}."
        )
    loaded = [name for name in FORBIDDEN if name in sys.modules]
    if loaded:
        raise DataError(f"serving loaded {loaded}, which downstream does not have.")
    return f"{len(scores)} golden rows, largest difference {difference.max(initial=0.0):.1e}"


def main(argv: Sequence[str] | None = None) -> int:
    """Check the directory named by the one argument. Exit status 2 and a message if it fails."""
    (directory,) = sys.argv[1:] if argv is None else argv
    try:
        print(check(directory, ArtifactManifest.model_validate_json(sys.stdin.read())))
    except NightjarError as error:
        print(error, file=sys.stderr)
        return REFUSED
    return 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # Not sys.exit: native threads that still run while the interpreter is taken down have been seen to abort the
    # process (std::terminate) after all its work was done.
    os._exit(status)
