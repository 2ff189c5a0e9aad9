"""The tables' part of a warm start: weights and what their rules remember, row by row.

What a rule remembers means nothing to another one: under another rule the weights are carried, and its state begins
afresh. FTRL-Proximal in float32 and in q2.13 is one rule.

Shapes: N rows that arrive, D width of the new table, K columns of a state.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from itertools import pairwise

import numpy as np

from nightjar.features.contract import storage
from nightjar.features.contract.artifact_files import (
    WIDE,
    WIDE_IDS,
    WIDE_TOUCHED,
    WIDE_WEIGHTS,
    embedding,
    embedding_values,
    optimizer_state,
)
from nightjar.features.contract.manifests import CandidateManifest
from nightjar.features.contract.verified import entry_at, read_verified
from nightjar.features.encoder.files import array_of
from nightjar.training.config import EmbeddingConfig, WideConfig
from nightjar.training.export.arrays import ArrayFile
from nightjar.training.run.collective import Collective
from nightjar.training.tables.ftrl import FTRL
from nightjar.training.tables.rules import RULES
from nightjar.training.tables.table import Table
from nightjar.training.warm_start.ftrl import ARRAYS, carried_state, decoded, encoded, ftrl_state
from nightjar.training.warm_start.rows import RowMap, carry

VALUES = "values"
SUMS_OF_SQUARES = frozenset(name for rule in RULES.values() for name in rule.sums_of_squares)
"""States that only grow, to which decay applies; averages forget by themselves."""

Convert = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(rows [N, K] as the parent has them, their new ids int64[N]) -> rows as the new table has them."""


def decayed(squares: np.ndarray, decay: float, fresh: np.ndarray) -> np.ndarray:
    """max(decay n, n0): older evidence counts less, but a row never learns faster than a new one.

    Args:
        squares: n.
        decay: in (0, 1].
        fresh: n0.
    """
    return np.maximum(squares * np.float32(decay), fresh)


class TableTransfer:
    """From a parent's files to the tables of a learner; every worker calls its methods in the same order."""

    def __init__(self, directory: str, manifest: CandidateManifest, decay: float, collective: Collective) -> None:
        self._directory, self._manifest = directory, manifest
        self._decay = decay
        self._collective = collective

    def embeddings(
        self, table: Table, parent_width: int, parent: EmbeddingConfig, child: EmbeddingConfig, rows: RowMap
    ) -> None:
        """From the parent's table of a width: the columns that both have; the others stay as they began.

        Args:
            table: the child's.
            parent_width: of the parent's table.
            parent: its settings.
            child: the table's settings.
            rows: where rows go.
        """
        name = embedding(parent_width)
        self._carry(table, VALUES, rows, None, embedding_values(parent_width))
        if child.nonnegative:
            np.maximum(table.state()[VALUES], 0.0, out=table.state()[VALUES])
        if parent.rule == child.rule:
            for state in table.state():
                if state != VALUES:
                    self._carry(table, state, rows, None, optimizer_state(name, state))
            self._scalars(table, name)

    def wide(self, table: Table, parent: WideConfig, child: WideConfig, rows: RowMap) -> None:
        """Under FTRL the weights are in its state; under other rules they are stored, and the state beside them.

        Args:
            table: the child's.
            parent: settings of the parent's table.
            child: the table's settings.
            rows: where rows go.
        """
        if child.rule == FTRL.name:
            self._ftrl(table, parent, child, rows)
        elif parent.rule == child.rule:
            for name in table.state():
                self._carry(table, name, rows, WIDE_TOUCHED, optimizer_state(WIDE, name))
        else:
            self._carry(table, VALUES, rows, WIDE_IDS, WIDE_WEIGHTS)
        if (parent.rule, parent.precision) == (child.rule, child.precision):
            self._scalars(table, WIDE)

    def _ftrl(self, table: Table, parent: WideConfig, child: WideConfig, rows: RowMap) -> None:
        """From another rule, the weights as if without evidence: n = 0."""

        def of_evidence(rows_N2: np.ndarray, ids_N: np.ndarray) -> np.ndarray:
            return carried_state(decoded(rows_N2, parent), ids_N, parent, child, self._decay)

        def of_weights(weights_N1: np.ndarray, ids_N: np.ndarray) -> np.ndarray:
            return ftrl_state(weights_N1[:, 0], np.zeros((len(ids_N), 2)), ids_N, child, child.lambda1)

        states = [table.state()[name] for name in ARRAYS[child.precision]]
        columns = np.cumsum([0, *(state.shape[1] for state in states)])
        convert: Convert = of_evidence if parent.rule == FTRL.name else of_weights

        def write(places_N: np.ndarray, rows_NK: np.ndarray) -> None:
            arrived_N2 = encoded(convert(rows_NK, table.shard.ids(places_N)), child)
            for state, (begin, end) in zip(states, pairwise(columns), strict=True):
                state[places_N] = arrived_N2[:, begin:end]

        if parent.rule == FTRL.name:
            files = [optimizer_state(WIDE, name) for name in ARRAYS[parent.precision]]
            self._read(table, rows, WIDE_TOUCHED, files, write)
        else:
            self._read(table, rows, WIDE_IDS, [WIDE_WEIGHTS], write)

    def _carry(self, table: Table, name: str, rows: RowMap, ids: str | None, path: str) -> None:
        """One file into one array of a table's state, as far as both have columns."""
        target_RK = table.state()[name]

        def write(places_N: np.ndarray, rows_NK: np.ndarray) -> None:
            common = min(rows_NK.shape[1], target_RK.shape[1])
            if name in SUMS_OF_SQUARES:
                rows_NK = decayed(rows_NK[:, :common], self._decay, target_RK[places_N, :common])
            target_RK[places_N, :common] = rows_NK[:, :common]

        self._read(table, rows, ids, [path], write)

    def _scalars(self, table: Table, parent_table: str) -> None:
        """A table of rows from several takes the most steps: the others' rows are as if they had come later."""
        for name, scalar in table.scalars().items():
            entry = entry_at(self._directory, self._manifest, optimizer_state(parent_table, name))
            content = read_verified(self._directory, entry)
            np.maximum(scalar, array_of(content, storage.join(self._directory, entry.path)), out=scalar)

    def _read(
        self,
        table: Table,
        rows: RowMap,
        ids: str | None,
        paths: Sequence[str],
        write: Callable[[np.ndarray, np.ndarray], None],
    ) -> None:
        """Let `write` have the rows of these files, side by side. ids: the file of the rows' numbers, if not all."""
        with ExitStack() as stack:
            urls = [storage.join(self._directory, path) for path in (*paths, *([ids] if ids else []))]
            files = [stack.enter_context(ArrayFile(url)) for url in urls]
            ids_file = files.pop() if ids else None
            carry(rows, ids_file, files, table.shard, self._collective, write)
