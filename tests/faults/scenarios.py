"""What the tests in this folder run inside workers: training in which workers are lost at given moments, each once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from unittest.mock import patch

import psutil

from nightjar.training.checkpoint import checkpoint, saved_state
from nightjar.training.checkpoint.checkpoint import Checkpoints, Position
from nightjar.training.export import candidate
from nightjar.training.job import TrainingJob
from nightjar.training.run.collective import Collective
from nightjar.training.trainer import train

Moment = Literal["learn", "shard", "commit", "publish"]


@dataclass(frozen=True)
class Fault:
    """Worker `rank` is lost at the first moment of this kind at global batch `step` or later.

    learn: after learning, before saving; shard: with a checkpoint's shard half written; commit: before a
    checkpoint's manifest (rank 0's); publish: before the candidate's (rank 0's). how: SIGKILL, SIGSTOP,
    SIGKILL of the Spark task that holds the worker, or a wait without an end while its heart beats. later: so many
    seconds after the moment, wherever it is then.
    """

    rank: int
    step: int
    moment: Moment = "learn"
    how: Literal["kill", "stop", "kill_task", "hang"] = "kill"
    later: float = 0.0


def train_with_faults(faults: Sequence[Fault], folder: str, job: TrainingJob, collective: Collective) -> Any:
    """training.trainer.train, struck by one of these faults. folder: a file for each that has
    happened, with the process id.
    """
    step, plan, struck = 0, job.plan(job.open()), len(list(Path(folder).iterdir()))

    def strike(moment: Moment) -> None:
        for number, fault in enumerate(faults):
            mark = Path(folder) / str(number)
            if (fault.rank, fault.moment) == (collective.rank, moment) and step >= fault.step and not mark.exists():
                if len(list(Path(folder).iterdir())) > struck:
                    return
                mark.write_text(str(os.getpid()))
                if fault.later:
                    threading.Timer(fault.later, lose, [fault.how]).start()
                    return
                lose(fault.how)

    save, write, commit, publish = (
        Checkpoints.save_if_due,
        saved_state.write_shards,
        checkpoint.commit,
        candidate.commit,
    )

    def saving(self: Checkpoints, at: Position) -> None:
        nonlocal step
        step = at.done(plan)
        strike("learn")
        save(self, at)

    def writing(directory: str, path: str, tables: Any) -> Any:
        entry = write(directory, path, tables)
        whole = Path(directory, path).read_bytes()
        Path(directory, path).write_bytes(whole[: len(whole) // 2])
        strike("shard")
        Path(directory, path).write_bytes(whole)
        return entry

    def committing(directory: str, manifest: Any) -> None:
        strike("commit")
        commit(directory, manifest)

    def publishing(directory: str, manifest: Any) -> None:
        strike("publish")
        publish(directory, manifest)

    with (
        patch.object(Checkpoints, "save_if_due", saving),
        patch.object(saved_state, "write_shards", writing),
        patch.object(checkpoint, "commit", committing),
        patch.object(candidate, "commit", publishing),
    ):
        return train(job, collective)


def lose(how: str) -> None:
    """End or stop this worker, and not return."""
    if how == "kill_task":
        task = next(p for p in psutil.Process().parents() if "pyspark.daemon" in p.cmdline())
        task.kill()
        signal.pause()
    if how == "hang":
        threading.Event().wait()
    os.kill(os.getpid(), signal.SIGSTOP if how == "stop" else signal.SIGKILL)
