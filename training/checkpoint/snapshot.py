"""The best state of a run so far, kept beside its checkpoints: memory may have no room for a second model."""

from __future__ import annotations

from typing import Literal

from nightjar.features.contract.errors import DataError
from nightjar.features.contract.manifests import Manifest
from nightjar.features.contract.publishing import commit, read_manifest, unpublish, verify
from nightjar.training.checkpoint.checkpoint import directories, directory_at
from nightjar.training.checkpoint.saved_state import load_state, save_state
from nightjar.training.job import TrainingJob
from nightjar.training.run.collective import Collective
from nightjar.training.step.step import Learner

_PREFIX = "best-"


class SnapshotManifest(Manifest):
    """A state of a run."""

    kind: Literal["snapshot"] = "snapshot"


class Snapshot:
    """Keeps states of a learner by step, <output>.checkpoints/best-<key>-<step>. Every worker calls its methods, in the
    same order.

    A run that goes on from a checkpoint may need the state that was the best then: it stays as long as the checkpoint.
    """

    def __init__(self, job: TrainingJob, collective: Collective) -> None:
        self._job, self._collective = job, collective

    def go_on(self, step: int) -> None:
        """Forget the states of later steps: they are of a run that was interrupted, and come again."""
        if self._collective.rank == 0:
            for later, directory in directories(self._job, _PREFIX).items():
                if later > step:
                    unpublish(directory)

    def keep(self, learner: Learner, step: int) -> None:
        """Keep the state as it is now. Raises DataError if it cannot be written."""
        directory = directory_at(self._job, step, _PREFIX)
        files = save_state(directory, learner, self._collective)
        if self._collective.rank == 0:
            if files is None:
                raise DataError(f"the best state cannot be kept in {directory}. Is there room?")
            commit(directory, SnapshotManifest(inputs=self._job.inputs, files=files))
            self._prune(step)

    def restore(self, learner: Learner, step: int) -> None:
        """Put the learner back into the state kept at this step. Raises DataError if it is damaged or gone."""
        directory = directory_at(self._job, step, _PREFIX)
        if self._collective.rank == 0:
            verify(directory, read_manifest(directory, SnapshotManifest))
        self._collective.barrier()
        load_state(directory, read_manifest(directory, SnapshotManifest), learner)

    def _prune(self, step: int) -> None:
        kept = directories(self._job, _PREFIX)
        needed = {max((best for best in kept if best <= at), default=0) for at in (step, *directories(self._job))}
        for best, directory in kept.items():
            if best not in needed:
                unpublish(directory)
