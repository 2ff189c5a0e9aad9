"""Where the rows of an earlier model's tables lie in a new model's, and the way there.

Shapes: P rows of the parent, N rows that arrive.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import torch

from nightjar.features.contract import liveness
from nightjar.training.export.arrays import ArrayFile
from nightjar.training.run.collective import Collective, Solo
from nightjar.training.tables.shard import Shard
from nightjar.training.warm_start.ids import DROPPED, IdsByValue

BLOCK_ROWS = 1 << 16


@dataclass(frozen=True)
class Passage:
    """The parent's rows [start, start + size) go to the child's rows from `target` on.

    first: the number of the first one's id in IdsByValue, which knows the place of each behind `target`; None: they
    keep their order.
    """

    start: int
    size: int
    target: int
    first: int | None = None


class RowMap:
    """From rows of a parent's table to rows of a child's; every worker calls it as often as the others."""

    def __init__(self, passages: Sequence[Passage], ids: IdsByValue) -> None:
        self._passages = sorted(passages, key=lambda passage: passage.start)
        self._starts = np.array([passage.start for passage in self._passages], dtype=np.int64)
        self._ids = ids

    def __call__(self, rows_P: np.ndarray) -> np.ndarray:
        """The child's row of each of the parent's, int64[P]; DROPPED where there is none."""
        targets_P, numbers_P = (np.full(len(rows_P), DROPPED, dtype=np.int64) for _ in range(2))
        passage_P = np.searchsorted(self._starts, rows_P, side="right") - 1
        for n in np.unique(passage_P[passage_P >= 0]):
            passage = self._passages[n]
            [inside] = np.nonzero((passage_P == n) & (rows_P < passage.start + passage.size))
            places = rows_P[inside] - passage.start
            targets_P[inside] = passage.target
            if passage.first is None:
                targets_P[inside] += places
            else:
                numbers_P[inside] = passage.first + places
        if any(passage.first is not None for passage in self._passages):
            [asked] = np.nonzero(numbers_P != DROPPED)
            ids = self._ids.look_up(numbers_P[asked])
            targets_P[asked] = np.where(ids == DROPPED, DROPPED, targets_P[asked] + ids)
        return targets_P


def carry(
    rows: RowMap,
    ids: ArrayFile | None,
    arrays: Sequence[ArrayFile],
    shard: Shard,
    collective: Collective,
    write: Callable[[np.ndarray, np.ndarray], None],
) -> None:
    """Bring a parent's rows to their new owners; every worker calls this.

    Each row is read by one worker, a block at a time, and sent to its new owner. A table that every worker holds as a
    whole is read by every worker.

    Args:
        rows: where they go.
        ids: the parent's row that each entry of the arrays belongs to; None: entry and row are the same.
        arrays: K columns in all, side by side.
        shard: of the new table.
        collective: the workers.
        write: called by the new owner with places int64[N] and rows [N, K].
    """
    if shard.world == 1:
        collective = Solo()
    for first in range(0, len(arrays[0]), BLOCK_ROWS * collective.size):
        begin = min(first + BLOCK_ROWS * collective.rank, len(arrays[0]))
        block = slice(begin, min(begin + BLOCK_ROWS, len(arrays[0])))
        targets = rows(np.arange(block.start, block.stop) if ids is None else ids[block])
        [kept] = np.nonzero(targets != DROPPED)
        dealt = shard.by_owner(targets[kept])
        kept = kept[dealt.order_U]
        found = np.hstack([array[block][kept].reshape(len(kept), prod(array.shape[1:])) for array in arrays])
        parts = [torch.from_numpy(dealt.places_U), torch.from_numpy(found)]
        (places, _), (values, _) = collective.all_to_all(parts, [dealt.counts] * 2)
        write(places.numpy(), values.numpy())
        liveness.advance()
