"""The tables' part of a warm start: weights and the optimizer's state, row by row.

Shapes: N rows that arrive, D width of the new table, K columns of a state.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

import numpy as np

from features import storage
from features.layout import BIAS
from features.manifest import CandidateManifest
from training.arrays import ArrayFile
from training.collective import Collective
from training.config import WideConfig
from training.tables import Table
from training.tables.ftrl import weights_of
from training.warm_start.rows import RowMap, carry

FTRL, VALUES = "ftrl", "values"
WIDE_IDS, WIDE_WEIGHTS = "scoring/wide_ids.npy", "scoring/wide_weights.npy"
TOUCHED = "optimizer/wide_ids.npy"
SUMS_OF_SQUARES = ("accumulators", "row_accumulators")
"""States that only grow, to which decay applies; averages forget by themselves."""

Convert = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(rows [N, K] as the parent has them, their new ids int64[N]) -> rows as the new table has them."""


def decayed(squares: np.ndarray, decay: float, fresh: np.ndarray) -> np.ndarray:
    """max(decay n, n0): older evidence counts less, but a row never learns faster than a new one."""
    return np.maximum(squares * np.float32(decay), fresh)


def ftrl_state(
    weights_N: np.ndarray, state_N2: np.ndarray, ids_N: np.ndarray, config: WideConfig, lambda1: float
) -> np.ndarray:
    """(z', n) float32[N, 2] under which FTRL-Proximal has just these weights; state_N2: z and the n to have.

    From w = -(z - sign(z) lambda1) / ((beta + sqrt(n)) / alpha + lambda2), where the sign of w is that of -z:

        z' = -w ((beta + sqrt(n)) / alpha + lambda2) - sign(w) lambda1     where w is not 0
        z' = z                                                             where it is

    lambda1 is 0 for the bias; the other constants are those of `config`.
    """
    w_N, (z_N, n_N) = weights_N.astype(np.float64), state_N2.astype(np.float64).T
    pull_N = (config.beta + np.sqrt(n_N)) / config.alpha + config.lambda2
    solved_N = -w_N * pull_N - np.sign(w_N) * np.where(ids_N == BIAS, 0.0, lambda1)
    return np.stack([np.where(w_N != 0.0, solved_N, z_N), n_N], axis=1).astype(np.float32)


def carried_ftrl_state(
    state_N2: np.ndarray, ids_N: np.ndarray, parent: WideConfig, child: WideConfig, decay: float
) -> np.ndarray:
    """The state after n' = decay n, under the child's alpha, beta and lambda2: the weights are those of the parent.

    Another lambda1 is not made up for. It says how much evidence a weight needs, and applies to the parent's evidence:
    a larger one shrinks the weights by (lambda1' - lambda1) / ((beta + sqrt(n')) / alpha + lambda2), to 0 at the most.
    """
    [at_bias] = np.nonzero(ids_N == BIAS)
    unshrunk = int(at_bias[0]) if len(at_bias) else -1
    parameters = (unshrunk, parent.alpha, parent.beta, parent.lambda1, parent.lambda2)
    weights_N1 = weights_of(state_N2, np.arange(len(state_N2)), parameters)
    return ftrl_state(weights_N1[:, 0], state_N2 * [1.0, decay], ids_N, child, parent.lambda1)


class TableTransfer:
    """From a parent's files to the tables of a learner; every worker calls its methods in the same order."""

    def __init__(self, directory: str, manifest: CandidateManifest, decay: float, collective: Collective) -> None:
        self._directory = directory
        self._files = {entry.path for entry in manifest.files}
        self._decay = decay
        self._collective = collective

    def embeddings(self, table: Table, parent_width: int, rows: RowMap) -> None:
        """From the parent's table of this width: the columns that both have; the others stay as they began."""
        self._carry(table, VALUES, rows, None, f"scoring/embedding_{parent_width}.npy")
        for name in table.state():
            self._carry(table, name, rows, None, f"optimizer/embedding_{parent_width}_{name}.npy")

    def wide(self, table: Table, parent: WideConfig, child: WideConfig, rows: RowMap) -> None:
        """Under FTRL the weights are in its state; under other rules they are stored, and the state beside them."""
        state_file = f"optimizer/wide_{FTRL}.npy"
        if FTRL not in table.state():
            self._carry(table, VALUES, rows, WIDE_IDS, WIDE_WEIGHTS)
            for name in table.state():
                self._carry(table, name, rows, TOUCHED, f"optimizer/wide_{name}.npy")
        elif state_file not in self._files:

            def from_weights(weights_N1: np.ndarray, ids_N: np.ndarray) -> np.ndarray:
                return ftrl_state(weights_N1[:, 0], np.zeros((len(ids_N), 2)), ids_N, child, child.lambda1)

            self._carry(table, FTRL, rows, WIDE_IDS, WIDE_WEIGHTS, from_weights)
        elif (parent, 1.0) == (child, self._decay):
            self._carry(table, FTRL, rows, TOUCHED, state_file)
        else:

            def carried(state_N2: np.ndarray, ids_N: np.ndarray) -> np.ndarray:
                return carried_ftrl_state(state_N2, ids_N, parent, child, self._decay)

            self._carry(table, FTRL, rows, TOUCHED, state_file, carried)

    def _carry(
        self, table: Table, name: str, rows: RowMap, ids: str | None, path: str, convert: Convert | None = None
    ) -> None:
        """One file into one array of a table's state; nothing if the parent has no such file."""
        if path not in self._files:
            return
        target_RK = table.state()[name]

        def write(places_N: np.ndarray, rows_NK: np.ndarray) -> None:
            rows_NK = rows_NK[:, None] if rows_NK.ndim == 1 else rows_NK
            if convert:
                rows_NK = convert(rows_NK, places_N * table.shard.world + table.shard.rank)
            common = min(rows_NK.shape[1], target_RK.shape[1])
            if name in SUMS_OF_SQUARES:
                rows_NK = decayed(rows_NK[:, :common], self._decay, target_RK[places_N, :common])
            target_RK[places_N, :common] = rows_NK[:, :common]

        with ExitStack() as open_files:
            array = open_files.enter_context(ArrayFile(storage.join(self._directory, path)))
            ids_file = open_files.enter_context(ArrayFile(storage.join(self._directory, ids))) if ids else None
            carry(rows, ids_file, array, table.shard, self._collective, write)
