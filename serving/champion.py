"""The champion as downstream holds it: its weights with the counters of the day that it serves."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Literal

import numpy as np

from nightjar.features.contract import storage
from nightjar.features.contract.errors import DataError, NightjarError
from nightjar.features.contract.publishing import manifest_digest
from nightjar.features.encoder.rows import Rows
from nightjar.serving import registry
from nightjar.serving.model import ServingModel, load, order_of, read_counters
from nightjar.serving.pointer import Pointer
from nightjar.serving.request_log import RequestLog

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CountersLimit:
    """How old the counters that serve may be. days: since the day that they are for, in UTC; None is no limit.

    A model whose counters are older is served with a warning in the log, or refused.
    """

    days: int | None = None
    action: Literal["warn", "refuse"] = "warn"

    def check(self, model: ServingModel, today: date) -> None:
        """Raises DataError if the counters are too old and such are refused."""
        age = (today - model.counters_as_of).days
        if self.days is None or age <= self.days:
            return
        said = (
            f"the counters are those for {model.counters_as_of}, {age} days ago; at most {self.days} are allowed. "
            f"Run the nights that are missing: each publishes counters, whatever its verdict."
        )
        if self.action == "refuse":
            raise DataError(said)
        log.warning("%s", said)


def load_champion(root: str, *, threads: int = 1, limit: CountersLimit = CountersLimit()) -> ServingModel:
    """The champion of a registry with the counters that its pointer names.

    Args:
        root: of the registry, `<output>/models`.
        threads: see serving.model.load.
        limit: how old its counters may be.

    Raises:
        DataError: there is no champion, it is damaged, or its counters are too old and such are refused.
    """
    model = registry.with_pointer(root, lambda pointer: _load(root, pointer, threads))
    limit.check(model, _today())
    return model


class Ranker:
    """The champion, held and renewed: scores rows with the model and the counters that the pointer names by now.

    Safe to share by threads. One of them looks at the pointer when the last look is `every_seconds` old, and loads what
    has moved: of newer counters that follow those it holds, the delta alone. Until that is done, and as long as the
    registry cannot be read, all go on with what they have. A call is answered by one model with its own counters.
    """

    def __init__(
        self,
        root: str,
        *,
        threads: int = 1,
        every_seconds: float = 60.0,
        limit: CountersLimit = CountersLimit(),
        today: Callable[[], date] | None = None,
        requests: RequestLog | None = None,
    ) -> None:
        """Hold the champion.

        Args:
            root: of the registry, `<output>/models`.
            threads: see serving.model.load.
            every_seconds: between two looks at the pointer.
            limit: how old the counters may be.
            today: the day that is served, in UTC, if not the clock's.
            requests: takes down what calls bring and how they are answered; its owner closes it.
        """
        self._root, self._threads, self._every, self._limit = root, threads, every_seconds, limit
        self._today = today or _today
        self._requests = requests
        self._renewing = threading.Lock()
        self._held: tuple[Pointer, ServingModel] = registry.with_pointer(root, self._open)
        self._looked = time.monotonic()

    @property
    def pointer(self) -> Pointer:
        """What is served: version and counters."""
        return self._held[0]

    @property
    def model(self) -> ServingModel:
        """What a call is answered with, after a look at the pointer if one is due. Raises as load_champion does."""
        return self._current()[1]

    def _current(self) -> tuple[Pointer, ServingModel]:
        if time.monotonic() - self._looked >= self._every and self._renewing.acquire(blocking=False):
            try:
                self.renew()
            finally:
                self._looked = time.monotonic()
                self._renewing.release()
        held = self._held
        self._limit.check(held[1], self._today())
        return held

    def score(self, rows: Rows) -> np.ndarray:
        """Probabilities float32[rows]; see ServingModel.score."""
        pointer, model = self._current()
        if self._requests is None:
            return model.score(rows)
        return self._requests.answered(model.score, rows, pointer.version, pointer.counters, model.counters_as_of)

    def rank(self, rows: Rows, k: int | None = None) -> np.ndarray:
        """Positions of the k most probable rows, the best first, int64[k]; see ServingModel.rank."""
        return order_of(self.score(rows))[:k]

    @property
    def held(self) -> tuple[Pointer, ServingModel]:
        """What is served, as of the last look at the pointer; whatever the counters' age is."""
        return self._held

    def follow(self) -> None:
        """Load what the pointer names, if it has moved. If that fails it raises, and what is held stays.

        For one thread at a time.
        """
        if registry.champion(self._root) != self._held[0]:
            self._held = registry.with_pointer(self._root, self._open)

    def renew(self) -> None:
        """`follow`, with a warning in the log where that fails."""
        try:
            self.follow()
        except (NightjarError, OSError) as error:
            log.warning("the champion stays as it is held, since %s cannot be read: %s", self._root, error)

    def _open(self, pointer: Pointer) -> tuple[Pointer, ServingModel]:
        held = getattr(self, "_held", None)
        same = held is not None and (held[0].version, held[0].digest) == (pointer.version, pointer.digest)
        if held is None or not same or pointer.counters is None:
            return pointer, _load(self._root, pointer, self._threads)
        return pointer, _renewed(self._root, pointer, held[1])


def _load(root: str, pointer: Pointer, threads: int) -> ServingModel:
    model = load(storage.join(root, pointer.version), threads=threads)
    return _renewed(root, pointer, model) if pointer.counters else model


def _renewed(root: str, pointer: Pointer, model: ServingModel) -> ServingModel:
    """The same weights with the counters that the pointer names."""
    if pointer.counters is None:
        return model
    directory = registry.counters_directory(root, pointer.counters)
    if manifest_digest(directory) != pointer.counters_digest:
        raise DataError(f"the counters {directory} have changed since they were published. Run the night again.")
    return model.with_counters(read_counters(directory, model.state.spec, model.counters))


def _today() -> date:
    return datetime.now(UTC).date()
