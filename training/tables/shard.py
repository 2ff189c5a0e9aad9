"""Which rows of a table a worker holds, and where: the one place that knows how rows are dealt to workers.

Worker `rank` of `world` owns the rows whose id is rank modulo world, and keeps row id at place id // world.

Shapes: U ids, P places.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class ByOwner:
    """Ids, grouped by the workers that own them; among those of an owner, the order is as before.

    order_U: which id comes next, int64; places_U: where its owner keeps it, in the new order, int64; counts: ids of
    each owner, by rank.
    """

    order_U: np.ndarray
    places_U: np.ndarray
    counts: list[int]


@dataclass(frozen=True)
class Shard:
    """The part of a table that one worker holds. rows: of the whole table.

    A world of one is the whole table: of the only worker, or a replica that each worker has.
    """

    rows: int
    rank: int = 0
    world: int = 1

    @property
    def size(self) -> int:
        """Rows that this worker holds."""
        return len(range(self.rank, self.rows, self.world))

    @property
    def largest_size(self) -> int:
        """Rows that the worker with the most of them holds."""
        return replace(self, rank=0).size

    def place(self, row: int) -> int:
        """Where this worker holds a row, or -1 if it does not."""
        return row // self.world if row % self.world == self.rank else -1

    def ids(self, places_P: np.ndarray) -> np.ndarray:
        """The ids of the rows at these places, int64[P]."""
        return places_P * self.world + self.rank

    def held(self, ids_U: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which of these ids this worker holds, as indices into ids_U, and the places where it holds them."""
        [mine] = (ids_U % self.world == self.rank).nonzero()
        return mine, ids_U[mine] // self.world

    def by_owner(self, ids_U: np.ndarray) -> ByOwner:
        """Group ids of the whole table by their owners."""
        from nightjar.training.kernels import kernels

        places_U = ids_U // self.world
        order_U, grouped_U, counts = kernels.group_by_owner(ids_U - places_U * self.world, places_U, self.world)
        return ByOwner(order_U, grouped_U, counts.tolist())

    def overlaps(self, other: Shard) -> bool:
        """Whether a row may be in both shards, of the same table in two worlds."""
        return (self.rank - other.rank) % math.gcd(self.world, other.world) == 0
