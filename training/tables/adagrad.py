"""AdaGrad: the embeddings' rule. Shapes: R rows of the shard, U distinct rows of a step, D width."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
from numba import njit

from training import kernels
from training.config import EmbeddingConfig
from training.hints import ROWS_AHEAD, prefetch
from training.tables.table import Shard
from training.threads import in_ranges


class EmbeddingTable:
    """Embeddings of one width, by AdaGrad element for element (Duchi et al. 2011): n += g^2; w -=
    learning_rate g / sqrt(n).

    g is the MEAN of the examples' gradients over the global batch. Initial values are uniform with standard
    deviation init_scale / sqrt(D), and a pure function of (seed, width, row, column): however the table is
    sharded, it starts the same.
    """

    mean = True

    def __init__(self, width: int, shard: Shard, config: EmbeddingConfig, seed: int) -> None:
        self.width = width
        self.shard = shard
        self._learning_rate = config.learning_rate
        self._values_RD = np.empty((shard.size, width), dtype=np.float32)
        self._accumulators_RD = np.full((shard.size, width), config.initial_accumulator, dtype=np.float32)
        limit = config.init_scale * (3.0 / width) ** 0.5
        kernels.fill_uniform(self._values_RD, seed << 32 | width, shard.rank, shard.world, limit)

    def weights(self, places_U: np.ndarray) -> np.ndarray:
        """See Table."""
        rows_UD = np.empty((len(places_U), self.width), dtype=np.float32)

        def of_range(start: int, stop: int) -> None:
            np.take(self._values_RD, places_U[start:stop], axis=0, out=rows_UD[start:stop], mode="clip")

        in_ranges(of_range, len(places_U))
        return rows_UD

    def update(self, places_U: np.ndarray, gradients_UD: np.ndarray) -> None:
        """See Table."""
        arguments = (self._values_RD, self._accumulators_RD, places_U, gradients_UD, self._learning_rate)
        in_ranges(partial(adagrad_update, *arguments), len(places_U))

    def state(self) -> Mapping[str, np.ndarray]:
        """{"values", "accumulators"}, each float32[R, D]."""
        return {"values": self._values_RD, "accumulators": self._accumulators_RD}


@njit(cache=True, nogil=True, error_model="numpy")
def adagrad_update(values_RD, accumulators_RD, rows_U, gradients_UD, learning_rate, start, stop):  # type: ignore[no-untyped-def]
    """n += g^2;  w -= learning_rate g / sqrt(n), by element; nothing where g is 0. For rows_U[start:stop], which must
    differ.
    """
    zero, rate = np.float32(0.0), np.float32(learning_rate)
    for i in range(start, stop):
        row, soon = rows_U[i], rows_U[min(i + ROWS_AHEAD, stop - 1)]
        prefetch(values_RD, soon)
        prefetch(accumulators_RD, soon)
        for d in range(values_RD.shape[1]):
            g = gradients_UD[i, d]
            n = accumulators_RD[row, d] + g * g
            accumulators_RD[row, d] = n
            # Chosen, not branched on: n may be 0 where g is, and a loop without branches is vectorised.
            step = rate * g / np.sqrt(n)
            values_RD[row, d] -= step if g != zero else zero
