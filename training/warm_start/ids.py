"""Which id of a child has the value that an id of its parent's has, for vocabularies that no worker holds whole.

A value is known by its hash. Each worker reads a share of the files of both vocabularies, one at a time, and sends what
it reads of a value to the worker that the value's hash names, where parent and child meet. The child's id goes on to
the worker that keeps the parent's id: as rows of tables, ids are dealt modulo the number of workers. So a worker's
memory is that of a file, of its share of one vocabulary and of its share of the ids.

Shapes: N values that meet at this worker, P ids that are asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise

import numpy as np
import torch

from nightjar.features.encoder.encoder import MISSING_ID
from nightjar.features.encoder.hashing import find
from nightjar.features.encoder.state import VocabularyFiles
from nightjar.training.run.collective import Collective
from nightjar.training.tables.shard import Shard

DROPPED = -1
BLOCK_VALUES = 1 << 17
Column = tuple[VocabularyFiles, VocabularyFiles]
"""The parent's vocabulary and the child's."""


class IdsByValue:
    """The child's ids by the parent's, of several columns; every worker calls the same of its methods.

    An id of the parent's has a number among those of all columns: `first` of its column, and the id. carried: by
    column, how many of the parent's ids have one of the child's.
    """

    def __init__(self, columns: Mapping[str, Column], collective: Collective) -> None:
        """Read the vocabularies. Raises DataError if a file is damaged."""
        self._collective = collective
        self.first: dict[str, int] = {}
        numbers = 0
        for name, (parent, _) in columns.items():
            self.first[name] = numbers
            # Every column begins at the first worker: a number's owner is that of the id.
            numbers += -(-parent.size // collective.size) * collective.size
        self._shard = Shard(numbers, collective.rank, collective.size)
        self._ids = np.full(self._shard.size, DROPPED, dtype=np.int32)
        for name, column in columns.items():
            self._keep_reserved(self.first[name], *column)
            for parent_ids, ids in self._met(*column):
                self._keep(self.first[name] + parent_ids, ids)
        self.carried = self._counts()

    def look_up(self, numbers_P: np.ndarray) -> np.ndarray:
        """The child's id by the number of each of the parent's, int32[P]; DROPPED where it has none."""
        dealt = self._shard.by_owner(numbers_P)
        [(places, counts)] = self._collective.all_to_all([torch.from_numpy(dealt.places_U)], [dealt.counts])
        answers = torch.from_numpy(self._ids[places.numpy()])
        [(came, _)] = self._collective.all_to_all([answers], [counts])
        ids_P = np.empty(len(numbers_P), dtype=np.int32)
        ids_P[dealt.order_U] = came.numpy()
        return ids_P

    def _keep_reserved(self, first: int, parent: VocabularyFiles, child: VocabularyFiles) -> None:
        """Missing stays missing. Ids that are given by hash stay what they are if there are as many in both."""
        kept = parent.first_id if parent.hash_ids == child.hash_ids else MISSING_ID + 1
        ids = np.arange(self._shard.rank, kept, self._shard.world, dtype=np.int32)
        self._ids[first // self._shard.world + np.arange(len(ids))] = ids

    def _met(self, parent: VocabularyFiles, child: VocabularyFiles) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(ids of the parent's, ids of the child's) of values that both have, int64[N] and int32[N].

        What rests in either, because its value is retired, is in no file: a value that comes back begins anew.
        """
        parts_of_hashes, parts_of_ids = map(list, zip(*self._dealt_by_hash(child), strict=True))
        hashes = np.concatenate(parts_of_hashes)
        parts_of_hashes.clear()
        ids = np.concatenate(parts_of_ids)
        parts_of_ids.clear()
        if np.any(hashes[1:] < hashes[:-1]):  # files that Spark has written are in order
            order = np.argsort(hashes)
            hashes, ids = hashes[order], ids[order]
        for parent_hashes, parent_ids in self._dealt_by_hash(parent):
            position, found = find(hashes, parent_hashes)
            yield parent_ids[found].astype(np.int64), ids[position[found]]

    def _dealt_by_hash(self, vocabulary: VocabularyFiles) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(hashes int64[N], ids int32[N]) that came to this worker, a block of every worker's file at a time."""
        rank, size = self._collective.rank, self._collective.size
        yield np.zeros(0, np.int64), np.zeros(0, np.int32)
        for first in range(0, len(vocabulary), size):
            hashes, ids = np.zeros(0, np.int64), np.zeros(0, np.int32)
            if first + rank < len(vocabulary):
                hashes, ids = vocabulary.read(first + rank)
            lengths = torch.zeros(size, dtype=torch.int64)
            lengths[rank] = len(hashes)
            longest = int(self._collective.all_reduce_sum_(lengths).max())
            for start in range(0, longest, BLOCK_VALUES):
                some = slice(start, start + BLOCK_VALUES)
                dealt = self._shard.by_owner(hashes[some])
                sent = [torch.from_numpy(array[some][dealt.order_U]) for array in (hashes, ids)]
                [(came, _), (of_came, _)] = self._collective.all_to_all(sent, [dealt.counts] * 2)
                yield came.numpy(), of_came.numpy()

    def _keep(self, numbers: np.ndarray, ids: np.ndarray) -> None:
        dealt = self._shard.by_owner(numbers)
        sent = [torch.from_numpy(dealt.places_U), torch.from_numpy(ids[dealt.order_U])]
        (places, _), (came, _) = self._collective.all_to_all(sent, [dealt.counts] * 2)
        self._ids[places.numpy()] = came.numpy()

    def _counts(self) -> dict[str, int]:
        places = [*(first // self._shard.world for first in self.first.values()), len(self._ids)]
        kept = [np.count_nonzero(self._ids[a:b] != DROPPED) for a, b in pairwise(places)]
        totals = self._collective.all_reduce_sum_(torch.tensor(kept, dtype=torch.float64))
        return dict(zip(self.first, map(int, totals.tolist()), strict=True))
