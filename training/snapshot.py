"""The best state of a run so far, kept beside its checkpoints: memory may have no room for a second model."""

from __future__ import annotations

from features import storage
from features.errors import DataError
from features.manifest import MANIFEST, Manifest, commit, key_of, read_manifest
from training.collective import Collective
from training.job import TrainingJob
from training.saved_state import load_state, save_state
from training.step import Learner

# A run that goes on from a checkpoint may need a state that was the best at that time, and is not any more.
_KEPT = 3


class SnapshotManifest(Manifest):
    """A state of a run."""

    kind: str = "snapshot"


class Snapshot:
    """Keeps states of a learner by step, <output>.checkpoints/best-<key>-<step>. Every worker calls its methods, in the
    same order.
    """

    def __init__(self, job: TrainingJob, collective: Collective) -> None:
        self._collective, self._inputs = collective, job.inputs
        self._folder, self._prefix = f"{job.output}.checkpoints", f"best-{key_of(**job.inputs)}-"

    def keep(self, learner: Learner, step: int) -> None:
        """Keep the state as it is now. Raises DataError if it cannot be written."""
        directory = self._directory(step)
        files = save_state(directory, learner, self._collective)
        if self._collective.rank == 0:
            if files is None:
                raise DataError(f"the best state cannot be kept in {directory}. Is there room?")
            commit(directory, SnapshotManifest(inputs=self._inputs, files=files))
            names = [name for name in storage.list_folders(self._folder) if name.startswith(self._prefix)]
            for name in sorted(names)[:-_KEPT]:
                storage.remove(storage.join(self._folder, name, MANIFEST))
                storage.remove(storage.join(self._folder, name))

    def restore(self, learner: Learner, step: int) -> None:
        """Put the learner back into the state kept at this step. Raises DataError if it is damaged or gone."""
        self._collective.barrier()
        directory = self._directory(step)
        load_state(read_manifest(directory, SnapshotManifest).file_urls(directory), learner)

    def _directory(self, step: int) -> str:
        return storage.join(self._folder, f"{self._prefix}{step:010d}")
