"""The best state so far, each worker's part in a local file: memory may have no room for a second model."""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import TracebackType

import torch

from training.step import Learner


class Snapshot:
    """Keeps one state of a learner; a context manager, after which the state is gone."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="nightjar-best-")
        self._path = Path(self._folder.name) / "state.pt"

    def __enter__(self) -> Snapshot:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._folder.cleanup()

    def keep(self, learner: Learner) -> None:
        """Keep the state as it is now, instead of any kept before."""
        tables = [{name: torch.from_numpy(array) for name, array in t.state().items()} for t in learner.tables]
        state = {
            "tables": tables,
            "head": learner.head.state_dict(),
            "optimizer": learner.optimizer.state_dict() if learner.optimizer else None,
            "learning_rate_scale": learner.learning_rate_scale,
        }
        unfinished = self._path.with_suffix(".part")
        torch.save(state, unfinished)
        unfinished.replace(self._path)

    def restore(self, learner: Learner) -> None:
        """Put the learner back into the state kept, if there is one."""
        if not self._path.exists():
            return
        state = torch.load(self._path, mmap=True, weights_only=True)
        learner.scale_learning_rates(state["learning_rate_scale"] / learner.learning_rate_scale)
        for table, kept in zip(learner.tables, state["tables"], strict=True):
            for name, array in table.state().items():
                torch.from_numpy(array).copy_(kept[name])
        learner.head.load_state_dict(state["head"])
        if learner.optimizer:
            learner.optimizer.load_state_dict(state["optimizer"])
