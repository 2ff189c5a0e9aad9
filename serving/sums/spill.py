"""Scored rows in files of this machine: passes over them whose memory does not grow with the rows.

Rows are dealt to files by a hash of what they are drawn by (serving.sums.rows), so that those of a group are together,
and a pass reads one such part after the other.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

import numpy as np

from nightjar.features.contract.metrics.tally import Table, merge
from nightjar.features.encoder.hashing import MISSING, hash_long
from nightjar.serving.sums.rows import Observations, Pass, ScoredRows

ROWS_A_PART = 1 << 18
_KNOWN = ("label", "weight", "group", "truth")


class SpilledRows:
    """Rows of a folder.

    Args:
        folder: of this machine, empty.
        models: whose scores rows have.
        rows: about how many there will be.
    """

    def __init__(self, folder: str, models: tuple[str, ...], rows: int) -> None:
        self._folder, self._models, self._pieces = folder, models, 0
        self._parts = max(1, -(-rows // ROWS_A_PART))

    @property
    def models(self) -> tuple[str, ...]:
        """Whose scores they have."""
        return self._models

    def add(self, observed: Observations, row: np.ndarray, scores: Mapping[str, np.ndarray]) -> None:
        """Put rows into the folder.

        Args:
            observed: what is known of them.
            row: int64[rows], a hash of each.
            scores: by model.
        """
        unit = row if observed.group is None else np.where(observed.group == MISSING, row, observed.group)
        part = hash_long(unit).view(np.uint64) % np.uint64(self._parts)
        columns = {name: column for name in _KNOWN if (column := getattr(observed, name)) is not None}
        columns |= {"row": row} | {f"score {n}": scores[name] for n, name in enumerate(self._models)}
        for n in range(self._parts):
            chosen = part == n
            np.savez(self._path(n, self._pieces), **{name: column[chosen] for name, column in columns.items()})
        self._pieces += 1

    def tally(self, over: Pass) -> Mapping[str, Table]:
        """Take a pass over all rows."""
        return merge(over(rows) for rows in self._read())

    def _read(self) -> Iterator[ScoredRows]:
        for n in range(self._parts):
            pieces = [np.load(self._path(n, piece)) for piece in range(self._pieces)]
            columns = {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0].files}
            observed = Observations(columns["label"], columns["weight"], columns.get("group"), columns.get("truth"))
            scores = {name: columns[f"score {m}"] for m, name in enumerate(self._models)}
            yield ScoredRows(observed, columns["row"], scores)

    def _path(self, part: int, piece: int) -> str:
        return os.path.join(self._folder, f"{part}-{piece}.npz")
