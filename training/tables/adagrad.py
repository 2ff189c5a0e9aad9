"""AdaGrad: the embeddings' rule. Shapes: R rows of the shard, U distinct rows of a step, D width."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numba import njit

from training import kernels
from training.config import EmbeddingConfig
from training.tables.table import Shard


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
        return self._values_RD[places_U]

    def update(self, places_U: np.ndarray, gradients_UD: np.ndarray) -> None:
        """See Table."""
        adagrad_update(self._values_RD, self._accumulators_RD, places_U, gradients_UD, self._learning_rate)

    def scale_learning_rate(self, factor: float) -> None:
        """See Table."""
        self._learning_rate *= factor

    def state(self) -> Mapping[str, np.ndarray]:
        """{"values", "accumulators"}, each float32[R, D]."""
        return {"values": self._values_RD, "accumulators": self._accumulators_RD}


@njit(cache=True)
def adagrad_update(values_RD, accumulators_RD, rows_U, gradients_UD, learning_rate):  # type: ignore[no-untyped-def]
    """n += g^2;  w -= learning_rate g / sqrt(n), by element; nothing where g is 0. The rows must differ."""
    for i in range(len(rows_U)):
        row = rows_U[i]
        for d in range(values_RD.shape[1]):
            g = np.float64(gradients_UD[i, d])
            if g != 0.0:
                n = np.float64(accumulators_RD[row, d]) + g * g
                accumulators_RD[row, d] = n
                values_RD[row, d] -= learning_rate * g / np.sqrt(n)
