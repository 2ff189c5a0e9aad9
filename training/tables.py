"""A table is a set of rows with an exactly sparse update rule: a step costs what the batch touches, never the
vocabulary.

Tables are sharded: worker `rank` of `world` holds the rows whose id is rank modulo world, row id at place id
// world. Shapes: R rows of the shard, U distinct rows of a step, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from features.layout import BIAS
from training import kernels
from training.config import EmbeddingConfig, WideConfig


@dataclass(frozen=True)
class Shard:
    """The part of a table that one worker holds. rows: of the whole table."""

    rows: int
    rank: int = 0
    world: int = 1

    @property
    def size(self) -> int:
        """Rows that this worker holds."""
        return len(range(self.rank, self.rows, self.world))


class Table(Protocol):
    """What look-up and update ask of a table. `mean`: whether its gradient is the mean over the batch, or the
    sum.
    """

    width: int
    mean: bool
    shard: Shard

    def weights(self, places_U: np.ndarray) -> np.ndarray:
        """Current weights of the shard's rows at these places, float32[U, D]."""

    def update(self, places_U: np.ndarray, gradients_UD: np.ndarray) -> None:
        """Apply the rule to rows at distinct places."""

    def state(self) -> Mapping[str, np.ndarray]:
        """Everything that the rule remembers, by name: float32 arrays of R rows, live."""


class WideTable:
    """Weights of the wide part, by FTRL-Proximal with L1 and L2 (McMahan et al. 2013, algorithm 1).

    The state of a coordinate is (z, n), float32, zero at the start; the weight is computed from it at
    look-up:

        w = 0 if |z| <= lambda1, else -(z - sign(z) lambda1) / ((beta + sqrt(n)) / alpha + lambda2)
        sigma = (sqrt(n + g^2) - sqrt(n)) / alpha;  z += g - sigma w;  n += g^2

    g is the SUM of the examples' gradients over the global batch: a coordinate's learning rate then depends
    on how much it was seen and not on how rarely it occurs in a batch. L1 leaves the bias alone (lambda1 = 0
    for row 0): an intercept is not a feature.
    """

    width = 1
    mean = False

    def __init__(self, shard: Shard, config: WideConfig) -> None:
        self.shard = shard
        unshrunk = BIAS // shard.world if shard.rank == BIAS % shard.world else -1
        self._parameters = (unshrunk, config.alpha, config.beta, config.lambda1, config.lambda2)
        self._state_R2 = np.zeros((shard.size, 2), dtype=np.float32)

    def weights(self, places_U: np.ndarray) -> np.ndarray:
        """See Table."""
        return kernels.ftrl_weights(self._state_R2, places_U, *self._parameters)

    def update(self, places_U: np.ndarray, gradients_UD: np.ndarray) -> None:
        """See Table."""
        kernels.ftrl_update(self._state_R2, places_U, gradients_UD, *self._parameters)

    def state(self) -> Mapping[str, np.ndarray]:
        """{"ftrl": (z, n) by row, float32[R, 2]}."""
        return {"ftrl": self._state_R2}


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
        kernels.adagrad_update(self._values_RD, self._accumulators_RD, places_U, gradients_UD, self._learning_rate)

    def state(self) -> Mapping[str, np.ndarray]:
        """{"values", "accumulators"}, each float32[R, D]."""
        return {"values": self._values_RD, "accumulators": self._accumulators_RD}
