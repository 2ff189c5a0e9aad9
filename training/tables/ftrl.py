"""FTRL-Proximal: the wide part's rule. Shapes: R rows of the shard, U distinct rows of a step."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
from numba import njit

from nightjar.features.contract.layout import BIAS
from nightjar.training.config import WideConfig
from nightjar.training.kernels.hints import ROWS_AHEAD, prefetch
from nightjar.training.kernels.memory import zeros
from nightjar.training.kernels.threads import in_ranges
from nightjar.training.tables.shard import Shard
from nightjar.training.tables.table import differs


class FtrlTable:
    """Weights of the wide part, by FTRL-Proximal with L1 and L2 (McMahan et al. 2013, algorithm 1).

    The state of a coordinate is (z, n), float32, zero at the start; the weight is computed from it at
    look-up:

        w = 0 if |z| <= lambda1, else -(z - sign(z) lambda1) / ((beta + sqrt(n)) / alpha + lambda2)
        sigma = (sqrt(n + g^2) - sqrt(n)) / alpha;  z += g - sigma w;  n += g^2

    g is the SUM of the examples' gradients over the global batch: a coordinate's learning rate then depends
    on how much it was seen and not on how rarely it occurs in a batch. With WideConfig.squares `examples`, the sum of
    the squares of the examples' gradients takes the place of g^2. L1 leaves the bias alone (lambda1 = 0 for row 0): an
    intercept is not a feature.
    """

    width = 1
    mean = False
    approximation = ""

    def __init__(self, shard: Shard, config: WideConfig) -> None:
        self.shard = shard
        self.example_squares = config.squares == "examples"
        self.parameters = ftrl_parameters(shard, config)
        self._state_R2 = zeros(shard.size, 2, np.float32)

    def weights(self, places_U: np.ndarray) -> np.ndarray:
        """See Table."""
        return weights_of(self._state_R2, places_U, self.parameters)

    def update(self, places_U: np.ndarray, gradients_UD: np.ndarray) -> None:
        """See Table."""
        arguments = (self._state_R2, places_U, gradients_UD, *self.parameters)
        in_ranges(partial(ftrl_update, *arguments), len(places_U))

    def scale_learning_rate(self, factor: float) -> None:
        """See Table. The weights are functions of z, so that z moves by what sigma is of a round in which nothing but
        alpha changes: z -= (1/eta' - 1/eta) w, where 1/eta = (beta + sqrt(n)) / alpha.
        """
        unshrunk, alpha, beta, lambda1, lambda2 = self.parameters
        ftrl_change_alpha(self._state_R2, unshrunk, alpha, alpha * factor, beta, lambda1, lambda2)
        self.parameters = (unshrunk, alpha * factor, beta, lambda1, lambda2)

    def state(self) -> Mapping[str, np.ndarray]:
        """{"ftrl": (z, n) by row, float32[R, 2]}."""
        return {"ftrl": self._state_R2}

    def scalars(self) -> Mapping[str, np.ndarray]:
        """See Table: none."""
        return {}

    def touched(self, places_U: np.ndarray) -> np.ndarray:
        """See Table."""
        return differs(self._state_R2[places_U], np.zeros(2))


def ftrl_parameters(shard: Shard, config: WideConfig) -> tuple[int, float, float, float, float]:
    """(the place of the row that L1 leaves alone, alpha, beta, lambda1, lambda2)."""
    return shard.place(BIAS), config.alpha, config.beta, config.lambda1, config.lambda2


def weights_of(
    state_R2: np.ndarray, places_U: np.ndarray, parameters: tuple[int, float, float, float, float]
) -> np.ndarray:
    """Weights float32[U, 1] of these rows. parameters: as ftrl_parameters gives them."""
    weights_U1 = np.empty((len(places_U), 1), dtype=np.float32)
    in_ranges(partial(ftrl_weights, state_R2, places_U, weights_U1, *parameters), len(places_U))
    return weights_U1


@njit(cache=True, nogil=True, error_model="numpy")
def ftrl_weight(z, root, alpha, beta, lambda1, lambda2):  # type: ignore[no-untyped-def]
    """w = 0 if |z| <= lambda1, else -(z - sign(z) lambda1) / ((beta + root) / alpha + lambda2), root = sqrt(n)."""
    if abs(z) <= lambda1:
        return 0.0
    return -(z - np.sign(z) * lambda1) / ((beta + root) / alpha + lambda2)


@njit(cache=True, nogil=True, error_model="numpy")
def ftrl_weights(state_R2, rows_U, weights_U1, unshrunk, alpha, beta, lambda1, lambda2, start, stop):  # type: ignore[no-untyped-def]
    """Weights of rows_U[start:stop]; lambda1 is 0 for the row `unshrunk`."""
    for i in range(start, stop):
        row = rows_U[i]
        prefetch(state_R2, rows_U[min(i + ROWS_AHEAD, stop - 1)])
        l1 = 0.0 if row == unshrunk else lambda1
        z, n = np.float64(state_R2[row, 0]), np.float64(state_R2[row, 1])
        weights_U1[i, 0] = ftrl_weight(z, np.sqrt(n), alpha, beta, l1, lambda2)


@njit(cache=True, nogil=True, error_model="numpy")
def ftrl_update(state_R2, rows_U, gradients_UC, unshrunk, alpha, beta, lambda1, lambda2, start, stop):  # type: ignore[no-untyped-def]
    """sigma = (sqrt(n + s) - sqrt(n)) / alpha;  z += g - sigma w;  n += s. For rows_U[start:stop], which must differ.

    gradients_UC: g and, in a column of its own, s; without that column s = g^2.
    """
    for i in range(start, stop):
        row = rows_U[i]
        prefetch(state_R2, rows_U[min(i + ROWS_AHEAD, stop - 1)])
        g = np.float64(gradients_UC[i, 0])
        z, n = np.float64(state_R2[row, 0]), np.float64(state_R2[row, 1])
        root, total = np.sqrt(n), n + square_of(gradients_UC, i)
        w = ftrl_weight(z, root, alpha, beta, 0.0 if row == unshrunk else lambda1, lambda2)
        state_R2[row, 0] = z + g - (np.sqrt(total) - root) / alpha * w
        state_R2[row, 1] = total


@njit(cache=True, nogil=True)
def square_of(gradients_UC, i):  # type: ignore[no-untyped-def]
    """What n grows by, in float64; see `ftrl_update`."""
    if gradients_UC.shape[1] == 2:
        return np.float64(gradients_UC[i, 1])
    return np.float64(gradients_UC[i, 0]) ** 2


@njit(cache=True, nogil=True)
def z_under_alpha(z, n, alpha, new_alpha, beta, lambda1, lambda2):  # type: ignore[no-untyped-def]
    """The z whose weight is under new_alpha what that of z is under alpha."""
    root = np.sqrt(n)
    w = ftrl_weight(z, root, alpha, beta, lambda1, lambda2)
    return z - (beta + root) * (1.0 / new_alpha - 1.0 / alpha) * w


@njit(cache=True, nogil=True)
def ftrl_change_alpha(state_R2, unshrunk, alpha, new_alpha, beta, lambda1, lambda2):  # type: ignore[no-untyped-def]
    """`z_under_alpha` of every row; lambda1 is 0 for the row `unshrunk`."""
    for row in range(len(state_R2)):
        z, n = np.float64(state_R2[row, 0]), np.float64(state_R2[row, 1])
        if z != 0.0:
            l1 = 0.0 if row == unshrunk else lambda1
            state_R2[row, 0] = z_under_alpha(z, n, alpha, new_alpha, beta, l1, lambda2)
