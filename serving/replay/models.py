"""The published models that answered requests, and which of them the pointer named when."""

from __future__ import annotations

import io
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property, lru_cache

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict

from nightjar.features.contract import storage
from nightjar.features.contract.artifact_files import GOLDEN_RAW
from nightjar.features.contract.outputs import HISTORY, night_of, numbered_file
from nightjar.features.contract.strict import FileName, Version
from nightjar.features.contract.verified import parsing
from nightjar.serving import registry
from nightjar.serving.model import ServingModel
from nightjar.serving.pointer import numbers
from nightjar.serving.replay.logged import Model

Opener = Callable[[str, str, str | None], ServingModel]
"""Root of a registry, version and counters to the model that serves with them."""

_OPEN, _ALTERNATIVES = 4, 20


class _Named(BaseModel):
    """What is read of a move of the pointer."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    version: Version
    counters: FileName | None = None


@dataclass(frozen=True)
class Move:
    """A move of the pointer. at: when it was written."""

    at: datetime
    version: str
    counters: str | None


class Models:
    """The models below a registry's root.

    Args:
        root: of the registry.
        opener: loads one of them.
        renewal: how long a server may go on with what the pointer named before.
    """

    def __init__(self, root: str, opener: Opener, renewal: timedelta = timedelta(minutes=10)) -> None:
        self.root, self._renewal = root, renewal
        self._open = lru_cache(maxsize=_OPEN)(lambda version, counters: opener(root, version, counters))

    def open(self, model: Model) -> ServingModel:
        """Load it, or take it from those that are open. Raises DataError if it is not there."""
        return self._open(model.version, model.counters)

    def golden(self, version: str) -> pa.Table:
        """Raw rows as the log had them that the version was packed with."""
        return pq.read_table(io.BytesIO(storage.read_bytes(storage.join(self.root, version, GOLDEN_RAW))))

    @cached_property
    def moves(self) -> list[Move]:
        """Every move of the pointer that is on record, the oldest first."""
        folder = storage.join(self.root, HISTORY)
        moves = []
        for url in (storage.join(folder, numbered_file(number)) for number in numbers(folder)):
            with parsing(url):
                named = _Named.model_validate_json(storage.read_bytes(url))
            moves.append(Move(datetime.fromtimestamp(storage.modified(url), UTC), named.version, named.counters))
        return moves

    def named(self, at: datetime) -> Move | None:
        """The move that was followed at a moment; None before the first."""
        place = bisect_right([move.at for move in self.moves], at - self._renewal)
        return self.moves[place - 1] if place else None

    def alternatives(self, model: Model) -> Iterator[Model]:
        """Others that may have answered: the same version with other counters first, the newest first."""
        pairs = [(move.version, move.counters) for move in reversed(self.moves)]
        pairs += [(version, None) for version in registry.versions(self.root)]
        others = [pair for pair in dict.fromkeys(pairs) if pair != (model.version, model.counters)]
        for version, counters in sorted(others, key=lambda pair: pair[0] != model.version)[:_ALTERNATIVES]:
            yield Model(version, counters, night_of(counters) if counters else None)
