"""The champion as the server holds it, and the thread that follows the pointer."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from nightjar.features.contract import storage
from nightjar.features.contract.artifact_files import GOLDEN_RAW
from nightjar.features.contract.errors import DataError
from nightjar.features.encoder.files import read_table
from nightjar.serving.champion import Ranker
from nightjar.serving.model import ServingModel
from nightjar.serving.pointer import Pointer
from nightjar.serving.server.bodies import Columns
from nightjar.serving.server.openapi import document
from nightjar.serving.server.settings import Settings

log = logging.getLogger(__name__)

LONGEST = 60.0
"""Seconds between two tries to load what could not be loaded, at most."""


@dataclass(frozen=True)
class Served:
    """A version with its counters, whole: whoever holds it answers by nothing else.

    columns: its inputs; names: the same in their order; openapi: the document, as JSON; since: when it was loaded.
    """

    pointer: Pointer
    model: ServingModel
    columns: Columns
    names: tuple[str, ...]
    openapi: bytes
    since: datetime

    @classmethod
    def of(cls, pointer: Pointer, model: ServingModel, settings: Settings) -> Served:
        """Try the model on its golden rows, and describe it. Raises DataError if it cannot score them."""
        url = storage.join(model.directory, GOLDEN_RAW)
        golden = read_table(storage.read_bytes(url), url)
        if not np.isfinite(model.score(golden, as_logged=True)).all():
            raise DataError(f"{model.directory} scores its golden rows with NaN. Train and pack it again.")
        inputs = model.inputs
        columns = Columns(frozenset(c.name for c in inputs if c.required), frozenset(c.name for c in inputs))
        described = document(pointer.version, inputs, golden if settings.examples else None, settings)
        return cls(pointer, model, columns, tuple(c.name for c in inputs), described, datetime.now(UTC))


class Follower:
    """Holds the champion and follows the pointer in a thread of its own.

    What cannot be loaded is tried again, ever less often; until then the one before goes on.
    """

    def __init__(self, root: str, settings: Settings, moved: Callable[[str], None] = lambda outcome: None) -> None:
        """Load the champion and begin to follow.

        Args:
            root: of the registry.
            settings: of the server.
            moved: is told of every try to load: model, counters or failed.

        Raises DataError if there is no champion or it cannot be loaded.
        """
        self._settings, self._moved = settings, moved
        self._ranker = Ranker(root, threads=settings.threads, every_seconds=math.inf)
        self.served = Served.of(*self._ranker.held, settings)
        self.problem: str | None = None
        """Why what the pointer names is not served."""
        self._wake, self._ended = threading.Event(), False
        self._thread = threading.Thread(target=self._run, name="follower", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether it follows."""
        return self._thread.is_alive()

    def look(self) -> None:
        """Load what the pointer names if it has moved, and keep what is held if that fails."""
        try:
            self._ranker.follow()
            pointer, model = self._ranker.held
            if pointer == self.served.pointer:
                self.problem = None
                return
            same = pointer.digest == self.served.pointer.digest
            self.served = Served.of(pointer, model, self._settings)
        except Exception as error:  # whatever is the matter with the new one, the old one serves
            if str(error) != self.problem:
                log.warning(
                    "%s stays, since what the pointer names cannot be served: %s", self.served.pointer.version, error
                )
            self.problem = str(error)
            self._moved("failed")
            return
        self.problem = None
        self._moved("counters" if same else "model")
        log.info("%s is served, with counters as of %s", pointer.version, model.counters_as_of)

    def close(self, seconds: float = 30.0) -> None:
        """End."""
        self._ended = True
        self._wake.set()
        self._thread.join(seconds)

    def _run(self) -> None:
        every = pause = self._settings.every_seconds
        while not self._wake.wait(pause) and not self._ended:
            self.look()
            pause = every if self.problem is None else min(2 * pause, max(every, LONGEST))
