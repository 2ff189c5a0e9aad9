"""Vowpal Wabbit's FTRL on its binary cache. Runs in the rivals' environment.

    python vowpal.py TRAIN_DIR TEST_DIR WORK_DIR ALPHA BETA L1

The first start writes the text and the cache; a round is one process `vw` that learns a pass from the cache, timed as a
whole but for its start, which is measured on an empty file.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from contestant import cpu_seconds, serve
from rows import in_memory, log_loss


def main() -> None:
    train, test, work, alpha, beta, l1 = sys.argv[1:]
    folder = Path(work)
    folder.mkdir(parents=True, exist_ok=True)
    label_B = write_text(test, folder / "test.vw")
    rows = len(write_text(train, folder / "train.vw"))
    (folder / "empty.vw").write_text("")
    options = ["--ftrl", "--ftrl_alpha", alpha, "--ftrl_beta", beta, "--l1", l1]
    options += ["--loss_function", "logistic", "-b", "22"]
    # From the second start on, Vowpal Wabbit reads the cache and not the text.
    cache = ["-d", str(folder / "train.vw"), "--cache_file", str(folder / "train.cache")]
    vw([*cache, *options])
    start, start_cpu = map(
        min, zip(*(timed(["-d", str(folder / "empty.vw"), *options]) for _ in range(3)), strict=True)
    )

    def measure() -> Mapping[str, float]:
        model = str(folder / "model")
        seconds, cpu = timed([*cache, *options])
        vw([*cache, *options, "-f", model])
        vw(["-t", "-d", str(folder / "test.vw"), "-i", model, "-r", str(folder / "scores")])
        figures = {"rows": rows, "seconds": seconds - start, "cpu": cpu - start_cpu}
        return {**figures, "log_loss": log_loss(label_B, np.loadtxt(folder / "scores"))}

    serve(measure)


def write_text(directory: str, path: Path) -> np.ndarray:
    """Rows as `label | field_id ...`, hashed by position alone; the labels."""
    ids_BF, _, label_B = in_memory(directory)
    if not path.exists():
        first_F = np.arange(ids_BF.shape[1]) * (int(ids_BF.max()) + 1)
        with path.open("w") as stream:
            for label, ids_F in zip(label_B, (ids_BF + first_F).tolist(), strict=True):
                stream.write(f"{1 if label else -1} | {' '.join(map(str, ids_F))}\n")
    return label_B


def vw(arguments: Sequence[str]) -> None:
    command = [sys.executable, "-m", "vowpalwabbit", "--quiet", *arguments]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def timed(arguments: Sequence[str]) -> tuple[float, float]:
    """Seconds, and seconds of processor time."""
    before, began = cpu_seconds(), time.perf_counter()
    vw(arguments)
    return time.perf_counter() - began, cpu_seconds() - before


if __name__ == "__main__":
    main()
