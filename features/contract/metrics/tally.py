"""Tables of integers that parts of the rows are summed up in, and that merge to the same bits in any order.

Integers add up exactly. So what is read off a sum does not depend on how rows were dealt to tasks, nor on their order.

Shapes: n entries, K keys, C columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

Tally = Mapping[str, "Table"]
"""Tables by name. A name that a part of the rows lacks has no keys there."""


@dataclass(frozen=True)
class Table:
    """Integer columns by key. keys: int64[K], ascending, each once; values: int64[K, C].

    largest: values of a key merge to their largest, not to their sum.
    """

    keys: np.ndarray
    values: np.ndarray
    largest: bool = False

    @classmethod
    def of(cls, key: np.ndarray, value: np.ndarray, *, largest: bool = False) -> Table:
        """Merge entries.

        Args:
            key: int64[n].
            value: int64[n, C].
            largest: of each key and column, instead of the sum.
        """
        order = np.argsort(key, kind="stable")
        key, value = key[order].astype(np.int64), value[order].astype(np.int64)
        starts = np.flatnonzero(np.diff(key, prepend=key[:1] - 1))
        merge = np.maximum if largest else np.add
        return cls(key[starts], merge.reduceat(value, starts, axis=0) if len(key) else value, largest)

    @classmethod
    def one(cls, *values: int, largest: bool = False) -> Table:
        """A single key, 0. values: of its columns."""
        return cls(np.zeros(1, np.int64), np.array([values], np.int64), largest)

    @classmethod
    def dense(cls, columns: Sequence[np.ndarray]) -> Table:
        """The keys 0 to K - 1; keys whose columns are all 0 are left out. columns: C of [K], whole numbers."""
        used = columns[0] != 0
        for column in columns[1:]:
            used |= column != 0
        keys = np.flatnonzero(used)
        return cls(keys, np.stack([column[keys] for column in columns], axis=1).astype(np.int64))

    def spread_over(self, keys: int) -> np.ndarray:
        """The columns of the keys 0 to `keys` - 1, 0 where there is no such key: int64[keys, C]."""
        value = np.zeros((keys, self.values.shape[1]), np.int64)
        value[self.keys] = self.values
        return value


def merge(tallies: Iterable[Tally]) -> dict[str, Table]:
    """One tally of several, which are read one by one."""
    merged: dict[str, Table] = {}
    for tally in tallies:
        for name, table in tally.items():
            merged[name] = merge_tables([merged[name], table]) if name in merged else table
    return merged


def merge_tables(tables: list[Table]) -> Table:
    """One table of one or more that have the same columns."""
    key = np.concatenate([table.keys for table in tables])
    value = np.concatenate([table.values for table in tables])
    return Table.of(key, value, largest=tables[0].largest)
