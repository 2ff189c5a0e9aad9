"""Checkpoints: all that a run needs to go on with the same global batches, by any number of workers.

<output>.checkpoints/<key>-<step>/
  shard-<rank>.zip, head.pt   the learner's state (training.checkpoint.saved_state)
  manifest.json               the position in the data and the scores so far; written last

The key is that of the job's inputs: a checkpoint continues a job of just these, and others stay unseen. There is
no random state: whatever is random in a run is a function of (seed, epoch, position). A checkpoint that was not
finished has no manifest, one that is damaged fails its checksums; neither is used. The folder is removed once the
candidate is published.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from nightjar.features.contract import storage
from nightjar.features.contract.errors import DataError
from nightjar.features.contract.manifests import Manifest
from nightjar.features.contract.publishing import commit, is_published, key_of, read_manifest, unpublish, verify
from nightjar.training.checkpoint.saved_state import load_state, save_state
from nightjar.training.config import CheckpointConfig
from nightjar.training.data.plan import Plan
from nightjar.training.job import TrainingJob
from nightjar.training.run.collective import Collective
from nightjar.training.step.step import Learner, Score
from nightjar.training.tracking.progress import RankLog

_MOST_STEPS_UNLOOKED = 10_000


@dataclass
class Position:
    """Where a run stands: `step` global batches of `epoch` are learned.

    scores: progressive validation of every epoch begun; extra: what else came with the checkpoint, as JSON values; None
    at the beginning.
    """

    epoch: int = 0
    step: int = 0
    scores: list[Score] = field(default_factory=list)
    extra: Mapping[str, Any] | None = None

    def done(self, plan: Plan) -> int:
        """Global batches of the run so far."""
        return plan.steps_before(self.epoch) + self.step


class CheckpointManifest(Manifest):
    """See Position. workers: how many wrote it; scores: (loss, weight, rows) by epoch."""

    kind: Literal["checkpoint"] = "checkpoint"
    workers: int
    epoch: int
    step: int
    scores: tuple[tuple[float, float, int], ...]
    extra: Mapping[str, Any]


def folder_of(job: TrainingJob) -> str:
    """Where a job's checkpoints are."""
    return f"{job.output}.checkpoints"


def directories(job: TrainingJob, prefix: str = "") -> dict[int, str]:
    """The job's checkpoints by step, the unfinished ones too; prefix: of what else is kept beside them."""
    prefix = f"{prefix}{key_of(**job.inputs)}-"
    names = [name for name in storage.list_folders(folder_of(job)) if name.startswith(prefix)]
    return {int(name.removeprefix(prefix)): storage.join(folder_of(job), name) for name in names}


def directory_at(job: TrainingJob, step: int, prefix: str = "") -> str:
    """Where `directories` finds what is kept at this step."""
    return storage.join(folder_of(job), f"{prefix}{key_of(**job.inputs)}-{step:010d}")


def newest_step(job: TrainingJob) -> int:
    """Global batches, over all epochs, up to the newest finished checkpoint of a job; 0 if there is none."""
    return max((step for step, directory in directories(job).items() if is_published(directory)), default=0)


def discard(job: TrainingJob) -> None:
    """Remove a job's checkpoints."""
    storage.remove(folder_of(job))


class Checkpoints:
    """The checkpoints of a run. Every worker calls every public method, in the same order."""

    def __init__(
        self,
        job: TrainingJob,
        plan: Plan,
        learner: Learner,
        extra: Callable[[], Mapping[str, Any]],
        collective: Collective,
    ) -> None:
        """extra: what else must travel, as JSON values."""
        self._job, self._plan, self._learner, self._collective = job, plan, learner, collective
        self._extra = extra
        self._clock = _Clock(job.config.checkpoint, collective)
        self._log = RankLog(collective)

    def resume(self) -> Position:
        """Bring the learner to where the newest usable checkpoint was taken; the beginning if there is none."""
        done = _told_by_first(self._newest_usable() if self._collective.rank == 0 else 0, self._collective)
        position = self._restore(directory_at(self._job, done)) if done else Position()
        self._clock.restart(done)
        return position

    def save_if_due(self, at: Position) -> None:
        """Write a checkpoint if it is time to. One that cannot be written is a warning: training goes on."""
        done = at.done(self._plan)
        if self._clock.due(done):
            self._save(directory_at(self._job, done), at)
            self._clock.restart(done)

    def _save(self, directory: str, at: Position) -> None:
        began = time.perf_counter()
        files = save_state(directory, self._learner, self._collective)
        if files is None:
            return
        manifest = CheckpointManifest(
            workers=self._collective.size,
            epoch=at.epoch,
            step=at.step,
            scores=tuple((score.loss, score.weight, score.rows) for score in at.scores),
            extra=self._extra(),
            inputs=self._job.inputs,
            files=files,
        )
        try:
            commit(directory, manifest)
        except OSError as error:
            self._log.warning("cannot write %s: %s", directory, error)
            return
        self._prune()
        size = sum(entry.bytes for entry in manifest.files) / 1e6
        self._log.info("checkpoint %s: %.1f MB in %.1f s", directory, size, time.perf_counter() - began)

    def _prune(self) -> None:
        found = sorted(directories(self._job).items())
        for _, directory in found[: -self._job.config.checkpoint.keep]:
            unpublish(directory)

    def _newest_usable(self) -> int:
        """Removes what cannot be used: it would stand in the way of the checkpoint that is due there again."""
        for step, directory in sorted(directories(self._job).items(), reverse=True):
            try:
                verify(directory, read_manifest(directory, CheckpointManifest))
                return step
            except DataError as error:
                self._log.warning("unusable checkpoint removed: %s", error)
                unpublish(directory)
        return 0

    def _restore(self, directory: str) -> Position:
        manifest = read_manifest(directory, CheckpointManifest)
        load_state(directory, manifest, self._learner)
        self._log.info(
            "going on after step %d of epoch %d, from a checkpoint by %d workers: %s",
            *(manifest.step, manifest.epoch + 1, manifest.workers, directory),
        )
        scores = [Score(*score) for score in manifest.scores]
        return Position(manifest.epoch, manifest.step, scores, manifest.extra)


class _Clock:
    """Decides when a checkpoint is due, the same on every worker.

    Steps are counted by everyone; the time is the first worker's, told to the others now and then: half way, by
    the speed so far, to the time that the next checkpoint is due.
    """

    def __init__(self, config: CheckpointConfig, collective: Collective) -> None:
        self._config, self._collective = config, collective

    def restart(self, step: int) -> None:
        self._since, self._first, self._look = time.monotonic(), step, step + 1

    def due(self, step: int) -> bool:
        config = self._config
        if config.every_steps and step % config.every_steps == 0:
            return True
        if config.every_minutes is None or step < self._look:
            return False
        elapsed = time.monotonic() - self._since
        left = config.every_minutes * 60.0 - elapsed
        steps = max(1, int(min(_MOST_STEPS_UNLOOKED, left / 2 * (step - self._first) / max(elapsed, 1e-9))))
        wait = _told_by_first(steps if left > 0 else 0, self._collective)
        self._look = step + wait
        return wait == 0


def _told_by_first(number: int, collective: Collective) -> int:
    """The first worker's number, to all."""
    told = torch.tensor([number if collective.rank == 0 else 0], dtype=torch.int64)
    return int(collective.all_reduce_sum_(told).item())
