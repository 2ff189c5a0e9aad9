"""Who reads which rows, and when: a pure function of (seed, epoch, files), never of the number of workers.

An epoch deals the files to a fixed number of lanes. Every global batch takes its share of each lane, so that
all lanes end together, each row is used exactly once, and no batch is a small tail. A worker of rank r among
W serves the whole lanes r, r + W, ...: however many workers there are, global batch k holds the same rows. A run may
begin with smaller global batches (`BatchRamp`).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np

from nightjar.features.contract.errors import DataError, UsageError
from nightjar.training.config import BatchRamp

_DEAL, _SHUFFLE = 0, 1


@dataclass(frozen=True)
class Segment:
    """Rows [start, stop) of a file, counted in the epoch's order of that file (`EpochPlan.permutation`)."""

    file: int
    start: int
    stop: int


@dataclass(frozen=True)
class Plan:
    """The order of all epochs. files: rows of each file; batch_size: rows of a global batch, the lanes'
    rounding aside; ramp: what the first epoch begins with.
    """

    files: tuple[int, ...]
    batch_size: int
    lanes: int
    seed: int
    ramp: BatchRamp | None = None

    def __post_init__(self) -> None:
        if self.rows == 0:
            raise DataError("the data set has no rows, so there is nothing to train on. Give one that has some.")

    @cached_property
    def rows(self) -> int:
        """Rows of an epoch."""
        return sum(self.files)

    def steps_before(self, epoch: int) -> int:
        """Global batches of the run before an epoch."""
        first, later = self._steps
        return first + (epoch - 1) * later if epoch else 0

    def epoch_of(self, step: int) -> int:
        """The epoch that the run's step-th global batch, counted from 1, is of."""
        first, later = self._steps
        return 0 if step <= first else 1 + (step - first - 1) // later

    @cached_property
    def _steps(self) -> tuple[int, int]:
        """Global batches of the first epoch, and of every later one."""
        return self.epoch(0).steps, self.epoch(1).steps

    @property
    def lane_count(self) -> int:
        """Lanes in use: no more than there are files."""
        return min(self.lanes, len(self.files), self.batch_size)

    def check_world(self, world: int, dataset: str) -> None:
        """Raise UsageError if `world` workers cannot share this plan's files and lanes."""
        if world > len(self.files):
            raise UsageError(
                f"dataset {dataset} holds {len(self.files)} Parquet files but {world} workers were "
                f"asked for; every worker needs at least one. "
                f"Build it with --min-files {world} or more, or lower training.workers."
            )
        if world > self.lanes:
            raise UsageError(
                f"training.lanes is {self.lanes} but {world} workers were asked for; "
                f"every worker serves at least one lane. "
                f"Raise training.lanes to {world} or more, or lower training.workers."
            )

    def epoch(self, epoch: int) -> EpochPlan:
        """The order of one epoch."""
        return EpochPlan(self, epoch)


@dataclass(frozen=True)
class EpochPlan:
    """The order of one epoch; see the module's docstring."""

    plan: Plan
    number: int

    @cached_property
    def steps(self) -> int:
        """Global batches of the epoch."""
        ramped_rows, ramped_steps = self._ramp
        return ramped_steps + -(-(self.plan.rows - ramped_rows) // self.plan.batch_size)

    def end(self, step: int, rows: int) -> int:
        """How many of a lane's `rows` rows the first `step` global batches take: their share of the epoch, rounded
        down.
        """
        ramped_rows, ramped_steps = self._ramp
        if ramped_steps and step <= ramped_steps:
            return rows * ramped_rows * step // (self.plan.rows * ramped_steps)
        others = self.steps - ramped_steps
        taken = ramped_rows * others + (self.plan.rows - ramped_rows) * (step - ramped_steps)
        return rows * taken // (self.plan.rows * others)

    @cached_property
    def _ramp(self) -> tuple[int, int]:
        """Rows and global batches of the epoch that are the ramp's."""
        ramp = self.plan.ramp
        if ramp is None or self.number > 0:
            return 0, 0
        rows = min(ramp.rows, self.plan.rows)
        return rows, -(-rows // ramp.batch_size)

    @cached_property
    def lanes(self) -> tuple[tuple[int, ...], ...]:
        """The files of each lane in reading order.

        Dealt longest first to the lane that has the fewest rows yet, files of the same length in the epoch's
        random order; read in the epoch's random order.
        """
        shuffled = self._generator(_DEAL, 0).permutation(len(self.plan.files))
        place = np.empty(len(shuffled), dtype=np.int64)
        place[shuffled] = np.arange(len(shuffled))
        lanes: list[list[int]] = [[] for _ in range(self.plan.lane_count)]
        load = [0] * len(lanes)
        for file in sorted(shuffled.tolist(), key=lambda file: -self.plan.files[file]):
            lane = min(range(len(lanes)), key=lambda lane: (load[lane], len(lanes[lane])))
            lanes[lane].append(file)
            load[lane] += self.plan.files[file]
        return tuple(tuple(sorted(files, key=place.__getitem__)) for files in lanes)

    def permutation(self, file: int) -> np.ndarray:
        """The rows of `file` in this epoch's order, int64[rows]."""
        return self._generator(_SHUFFLE, file).permutation(self.plan.files[file])

    def lanes_of(self, rank: int, world: int) -> tuple[tuple[int, ...], ...]:
        """The lanes that worker `rank` of `world` serves, each with its files in their order."""
        return self.lanes[rank::world]

    def batches(self, rank: int, world: int, start: int = 0) -> Iterator[list[Segment]]:
        """What worker `rank` of `world` contributes to the global batches start, start + 1, ...; it may be
        nothing.
        """
        walks = [_Walk(files, self.plan.files) for files in self.lanes_of(rank, world)]
        for walk in walks:
            walk.advance(self.end(start, walk.rows))
        for step in range(start, self.steps):
            batch: list[Segment] = []
            for walk in walks:
                batch += walk.advance(self.end(step + 1, walk.rows))
            yield batch

    def reading_order(self, rank: int, world: int, start: int = 0) -> list[int]:
        """The files that `batches` draws from, in order of first use."""
        uses, counts = [], range(self.steps + 1)
        for lane, files in enumerate(self.lanes_of(rank, world)):
            ends = np.cumsum([self.plan.files[file] for file in files]).tolist()
            position = self.end(start, ends[-1])
            for file, end in zip(files, ends, strict=True):
                if end > position:
                    first = bisect_right(counts, position, key=partial(self.end, rows=ends[-1]))
                    uses.append((first, lane, file))
                    position = end
        return [file for _, _, file in sorted(uses, key=lambda use: use[:2])]

    def _generator(self, purpose: int, item: int) -> np.random.Generator:
        return np.random.Generator(
            np.random.Philox(np.random.SeedSequence([self.plan.seed, self.number, purpose, item]))
        )


class _Walk:
    """A position that moves along the rows of a lane."""

    def __init__(self, files: Sequence[int], rows: Sequence[int]) -> None:
        self._files = files
        self._ends = np.cumsum([rows[file] for file in files])
        self.rows = int(self._ends[-1])
        self._position = 0
        self._index = 0

    def advance(self, target: int) -> list[Segment]:
        """Move on to `target`, a position in the lane; the segments passed on the way."""
        segments = []
        while self._position < target:
            end = int(self._ends[self._index])
            begin = int(self._ends[self._index - 1]) if self._index else 0
            stop = min(end, target)
            if stop > self._position:
                segments.append(Segment(self._files[self._index], self._position - begin, stop - begin))
                self._position = stop
            if stop == end:
                self._index += 1
        return segments
