"""A cluster in one process: workers are threads that meet at a barrier. For tests of everything but Horovod."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor

from nightjar.training.run.collective import AtOnce, Parts, Pending

T = TypeVar("T")


class _Meeting:
    def __init__(self, size: int) -> None:
        self.barrier = threading.Barrier(size, timeout=120)
        self.desk: list[tuple[str, list[list[Tensor]]]] = [("", []) for _ in range(size)]


class ThreadCollective(AtOnce):
    """training.run.collective.Collective among threads. Horovod would wait in silence for workers that do
    not call the same operations in the same order; here they fail.
    """

    def __init__(self, rank: int, size: int, meeting: _Meeting) -> None:
        self.rank, self.size, self._meeting = rank, size, meeting

    def begin_all_to_all(self, tensors: Sequence[Tensor], splits: Sequence[Sequence[int]]) -> Pending[list[Parts]]:
        """See Collective."""
        parts = [list(tensor.split(list(rows))) for tensor, rows in zip(tensors, splits, strict=True)]
        theirs = self._swap(f"all_to_all of {len(tensors)}", parts)
        mine = [[parts[t][self.rank].clone() for parts in theirs] for t in range(len(tensors))]
        assert all(len({part.dtype for part in parts}) == 1 for parts in mine), "Horovod refuses mixed types"
        return Pending(lambda: mine)

    def begin_all_reduce_sum_(self, tensor: Tensor) -> Pending[Tensor]:
        """See Collective."""
        operation = f"all_reduce {tensor.dtype} {tuple(tensor.shape)}"
        total = torch.stack([parts[0][0] for parts in self._swap(operation, [[tensor.clone()]])]).sum(dim=0)
        tensor.copy_(total)
        return Pending(lambda: tensor)

    def barrier(self) -> None:
        """See Collective."""
        self._swap("barrier", [])

    def _swap(self, operation: str, mine: list[list[Tensor]]) -> list[list[list[Tensor]]]:
        self._meeting.desk[self.rank] = operation, mine
        self._meeting.barrier.wait()
        operations, everything = zip(*self._meeting.desk, strict=True)
        self._meeting.barrier.wait()
        assert len(set(operations)) == 1, f"the workers do not call the same: {operations}"
        return list(everything)


def run_cluster(world: int, function: Callable[[ThreadCollective], T]) -> list[T]:
    """Call `function` in `world` workers at once; what each returned, by rank."""
    meeting = _Meeting(world)

    def work(rank: int) -> T:
        try:
            return function(ThreadCollective(rank, world, meeting))
        except BaseException:
            meeting.barrier.abort()
            raise

    with ThreadPoolExecutor(world) as pool:
        return list(pool.map(work, range(world)))
