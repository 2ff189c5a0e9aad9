"""Memory of a wide table of 2^28 coordinates over two workers: python -m benchmarks.table_memory [--log2-rows 28]

An `lr` model of one cross learns from random ids, and writes its table as a candidate does. Printed, in MiB a worker:
resident memory, and the private address space that is committed to it; they must not grow with the steps.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from nightjar.features.contract.layout import ColumnSpec, table_layout
from nightjar.training.config import TrainingConfig, WideConfig
from nightjar.training.data.batch import make_batch
from nightjar.training.export.table_files import write_wide
from nightjar.training.run.collective import Collective
from nightjar.training.run.launch import run
from nightjar.training.step.step import Learner

BATCH = 4096


@dataclass(frozen=True)
class Sample:
    """A worker's memory in MiB at one moment."""

    when: str
    resident: float
    committed: float
    seconds: float


def measure(log2_rows: int, steps: int, precision: Any, output: str, collective: Collective) -> list[Sample]:
    """Train and write; what this worker's memory was on the way."""
    samples, process, began = [], psutil.Process(), time.perf_counter()

    def sample(when: str) -> None:
        memory = process.memory_info()
        samples.append(Sample(when, memory.rss / 2**20, memory.data / 2**20, time.perf_counter() - began))

    sample("start")
    column = ColumnSpec(name="x_cross", feature="cross", role="cross", size=2**log2_rows, wide=True)
    config = TrainingConfig(model="lr", wide=WideConfig(precision=precision))
    layout = table_layout([column])
    learner = Learner(config, layout, collective)
    sample("table made")
    rng = np.random.default_rng(collective.rank)
    share = BATCH // collective.size
    for step in range(1, steps + 1):
        ids = rng.integers(0, column.size, share, dtype=np.int32)
        columns = {"label": rng.integers(0, 2, share).astype(np.float32), column.name: ids}
        learner.step(make_batch(columns, layout))
        if step % (steps // 8) == 0:
            sample(f"step {step}")
    write_wide(output, learner.wide, collective)
    sample("candidate written")
    return samples


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--log2-rows", type=int, default=28)
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--precision", choices=("float32", "q2.13"), default="float32")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as output:
        task = partial(measure, args.log2_rows, args.steps, args.precision, output)
        workers = run(task, args.workers, threads=1, timeout_seconds=1200)
        files = {str(path.relative_to(output)): path.stat().st_size for path in sorted(Path(output).rglob("*.npy"))}
    row_bytes = {"float32": 8, "q2.13": 6}[args.precision]
    shard = 2**args.log2_rows * row_bytes / args.workers / 2**20
    print(f"2^{args.log2_rows} coordinates in {args.precision} over {args.workers} workers: {shard:.0f} MiB a worker\n")
    print("| | " + " | ".join(f"resident {r} | committed {r}" for r in range(args.workers)) + " | seconds |")
    print("|---" * (2 * args.workers + 2) + "|")
    for moment in zip(*workers, strict=True):
        cells = [f"{value:,.0f}" for sample in moment for value in (sample.resident, sample.committed)]
        print(f"| {moment[0].when} | " + " | ".join(cells) + f" | {moment[0].seconds:.1f} |")
    print("\n" + "\n".join(f"{path}: {size / 2**20:.1f} MiB" for path, size in files.items()))
    return 0


if __name__ == "__main__":
    # The workers import what they run by the module's name, which is another one here.
    from benchmarks import table_memory

    raise SystemExit(table_memory.main())
