"""What the tests in this folder run inside workers: importable, so that every worker finds it."""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import psutil
import torch

from nightjar.features.contract.errors import DataError
from nightjar.training.data.batch import Batch
from nightjar.training.job import TrainingJob
from nightjar.training.run import horovodrun
from nightjar.training.run.collective import Collective, HorovodCollective, Solo
from nightjar.training.step.step import Learner, Score
from nightjar.training.trainer import train
from tests.kits.training.table_kit import all_learn


def exchange_tensors(collective: Collective) -> list[str]:
    """All-to-all with zero and uneven splits, of several types at once, and sums; in one round, and in many, of which
    other operations begin and end in between. Returns what went wrong.
    """
    wrong = swap_and_sum(collective)
    if isinstance(collective, HorovodCollective):
        whole, collective.round_bytes = collective.round_bytes, 24
        ahead = collective.begin_all_to_all(
            [torch.full((collective.rank * collective.size, 5), collective.rank)], [[collective.rank] * collective.size]
        )
        wrong += swap_and_sum(collective)
        [came] = ahead.wait()
        if [part.tolist() for part in came] != [[[rank] * 5] * rank for rank in range(collective.size)]:
            wrong.append(f"in rounds came {came}")
        collective.round_bytes = whole
    return wrong


def swap_and_sum(collective: Collective) -> list[str]:
    """One all-to-all, one sum, one barrier."""
    rank, size = collective.rank, collective.size
    wrong = []

    def sent(source: int, target: int) -> list[int]:
        return [100 * source + 10 * target + i for i in range((source * target) % 3)]

    rows = [row for target in range(size) for row in sent(rank, target)]
    splits = [len(sent(rank, target)) for target in range(size)]
    tall = torch.tensor(rows, dtype=torch.float32)[:, None].expand(-1, 3).contiguous()
    nothing = torch.empty((0, 2))
    received = collective.all_to_all(
        [torch.tensor(rows, dtype=torch.int64), tall, nothing], [splits, splits, [0] * size]
    )
    expected = [sent(source, rank) for source in range(size)]
    flat = [row for part in expected for row in part]
    (ids, counts), (floats, float_counts), (none, no_counts) = received
    if ids.tolist() != flat or floats.tolist() != [[float(row)] * 3 for row in flat]:
        wrong.append(f"received {ids.tolist()}, expected {flat}")
    if counts != [len(part) for part in expected] or float_counts != counts or no_counts != [0] * size:
        wrong.append(f"counts {counts}, {float_counts}, {no_counts}")
    if none.shape != (0, 2):
        wrong.append(f"no rows came as {tuple(none.shape)}")
    if collective.all_reduce_sum_(torch.tensor([1.0, rank])).tolist() != [size, size * (size - 1) / 2]:
        wrong.append("sum")
    collective.barrier()
    return wrong


def listening(collective: Collective) -> set[str]:
    """The addresses at which this worker and what started it, up to the launcher, wait for connections."""
    collective.barrier()
    found = set()
    for process in [psutil.Process(), *psutil.Process().parents()]:
        command = process.cmdline()
        if not any("python" in part for part in command[:1]):
            continue
        found |= {c.laddr.ip for c in process.net_connections("tcp") if c.status == psutil.CONN_LISTEN}
        if horovodrun.__name__ in command:
            break
    collective.barrier()
    return found


def overfill(how: str, collective: Collective) -> None:
    """Worker 1 runs out of memory while the others wait for it."""
    if collective.rank == 1:
        if how == "limit":
            resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + (64 << 20),) * 2)
            np.ones(1 << 30, dtype=np.int8)
        if how == "torch":
            torch.empty(1 << 60, dtype=torch.int8)
    collective.all_reduce_sum_(torch.ones(3))


def tables_learn(collective: Collective) -> list[str]:
    """Tables of every rule, sharded and replicated, learn. Returns where a worker's part is not that of one worker."""
    wrong = []
    for placement in ("sharded", "replicated"):
        alone, part = all_learn(Solo(), placement, 5), slice(None)
        if placement == "sharded":
            part = slice(collective.rank, None, collective.size)
        for name, array in all_learn(collective, placement, 5).items():
            expected = alone[name][part] if array.ndim else alone[name]
            if not np.allclose(array, expected, rtol=1e-6, atol=1e-7):
                wrong.append(f"{placement} {name}")
    return wrong


@dataclass(frozen=True)
class Run:
    """A worker's account of a training run. rows: the number of every row, by batch; head: before the first step."""

    statistics: Mapping[str, float]
    rows: list[list[int]]
    head: Mapping[str, np.ndarray]
    wrong: list[str]


def account(job: TrainingJob, later: Sequence[TrainingJob], collective: Collective) -> Run:
    """Check the collective, then train, noting which rows each step is given; then carry out later jobs."""
    wrong = exchange_tensors(collective) + tables_learn(collective)
    rows: list[list[int]] = []
    heads: list[dict[str, np.ndarray]] = []
    step = Learner.step

    def noting(learner: Learner, batch: Batch) -> Score:
        if not heads:
            heads.append({name: p.detach().numpy().copy() for name, p in learner.head.named_parameters()})
        rows.append([round((float(weight) - 1) * 2**20) for weight in batch.weight_B])
        return step(learner, batch)

    Learner.step = noting  # type: ignore[method-assign, assignment]
    try:
        statistics = train(job, collective)
    finally:
        Learner.step = step  # type: ignore[method-assign]
    for another in later:
        train(another, collective)
    return Run(statistics, rows, heads[0], wrong)


def fail(how: str, collective: Collective) -> Any:
    """Worker 1 fails while the others wait for it."""
    if collective.rank == 1:
        if how == "data":
            raise DataError("part-7 is broken. Build it again.")
        if how == "bug":
            raise ZeroDivisionError("a bug in worker 1")
        if how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "sleep":
            time.sleep(600)
    collective.all_reduce_sum_(torch.ones(3))
