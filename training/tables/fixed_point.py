"""FTRL-Proximal with 16 bits for a weight. Shapes: R rows of the shard, U distinct rows of a step."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numba import njit

from nightjar.training.config import WideConfig
from nightjar.training.kernels import kernels
from nightjar.training.kernels.ftrl import ftrl_weight, square_of, z_under_alpha
from nightjar.training.kernels.memory import zeros
from nightjar.training.tables.ftrl import FIXED_POINT_LIMIT as LIMIT
from nightjar.training.tables.ftrl import ftrl_parameters
from nightjar.training.tables.shard import Shard

UNIT = 2.0**-13


class FixedPointFtrlTable:
    """FTRL-Proximal whose coordinates are (u, n): 2 bytes of fixed point and a float32, 6 bytes where FtrlTable
    takes 8.

    u is the weight before L1 shrinks it, in q2.13 (a sign bit, 2 integer bits, 13 bits of fraction) and by
    randomised rounding (McMahan et al. 2013, section 4.2):

        u = 2^-13 floor(2^13 (-z / D) + X), X uniform in [0, 1);  D = (beta + sqrt(n)) / alpha + lambda2

    so that z = -u D, and w follows from (z, n) as in FtrlTable. The paper codes w itself; but where L1 has made that
    0, z could not be told from it, and a coordinate would never leave 0 again. The rounding is unbiased: a step's z
    is on average that of the exact algorithm, as long as u is in [-4, 4), to which it is clipped.

    X is a pure function of (seed, row, step): N workers round as one does. But the sum of a gradient may differ in
    the last bit of a float32 with the number of workers, and where that decides a rounding, u differs by 2^-13.
    """

    width = 1
    mean = False
    approximation = ""

    def __init__(self, shard: Shard, config: WideConfig, seed: int) -> None:
        self.shard = shard
        self.example_squares = config.squares == "examples"
        self._parameters = ftrl_parameters(shard, config)
        self._seed = seed
        self._step = np.zeros((), dtype=np.int64)
        self._codes_R1 = zeros(shard.size, 1, np.int16)
        self._squares_R1 = zeros(shard.size, 1, np.float32)

    def weights(self, places_U: np.ndarray) -> np.ndarray:
        """See Table."""
        return fixed_point_weights(self._codes_R1, self._squares_R1, places_U, self._parameters)

    def update(self, places_U: np.ndarray, gradients_UD: np.ndarray) -> None:
        """See Table."""
        self._step[...] += 1
        uniform_U = kernels.uniform(self._seed, self.shard.ids(places_U), int(self._step))
        state = (self._codes_R1, self._squares_R1)
        fixed_point_update(state, places_U, gradients_UD, uniform_U, self._parameters)

    def scale_learning_rate(self, factor: float) -> None:
        """See Table. As FtrlTable does it; the moved u are rounded to the nearest code."""
        unshrunk, alpha, beta, lambda1, lambda2 = self._parameters
        new = alpha * factor
        fixed_point_change_alpha(self._codes_R1, self._squares_R1, self._parameters, new)
        self._parameters = (unshrunk, new, beta, lambda1, lambda2)

    def state(self) -> Mapping[str, np.ndarray]:
        """{"q2_13": 2^13 u, int16[R, 1]; "squares": n, float32[R, 1]}."""
        return {"q2_13": self._codes_R1, "squares": self._squares_R1}

    def scalars(self) -> Mapping[str, np.ndarray]:
        """{"step": updates so far}."""
        return {"step": self._step}

    def touched(self, places_U: np.ndarray) -> np.ndarray:
        """See Table."""
        return (self._codes_R1[places_U, 0] != 0) | (self._squares_R1[places_U, 0] != 0.0)


@njit(cache=True, nogil=True)
def decode(code, n, alpha, beta, lambda2):  # type: ignore[no-untyped-def]
    """z = -u D."""
    return -np.float64(code) * UNIT * ((beta + np.sqrt(n)) / alpha + lambda2)


@njit(cache=True, nogil=True)
def encode(z, n, x, alpha, beta, lambda2):  # type: ignore[no-untyped-def]
    """2^13 u = floor(2^13 (-z / D) + x), clipped to 16 bits."""
    code = np.floor(-z / ((beta + np.sqrt(n)) / alpha + lambda2) / UNIT + x)
    return np.int16(min(max(code, -LIMIT / UNIT), LIMIT / UNIT - 1.0))


@njit(cache=True, nogil=True)
def fixed_point_weights(codes_R1, squares_R1, rows_U, parameters):  # type: ignore[no-untyped-def]
    """Weights float32[U, 1] of these rows. parameters: as of ftrl_weights."""
    unshrunk, alpha, beta, lambda1, lambda2 = parameters
    weights = np.empty((len(rows_U), 1), dtype=np.float32)
    for i in range(len(rows_U)):
        row = rows_U[i]
        n = np.float64(squares_R1[row, 0])
        z = decode(codes_R1[row, 0], n, alpha, beta, lambda2)
        weights[i, 0] = ftrl_weight(z, np.sqrt(n), alpha, beta, 0.0 if row == unshrunk else lambda1, lambda2)
    return weights


@njit(cache=True, nogil=True)
def fixed_point_update(state, rows_U, gradients_UC, uniform_U, parameters):  # type: ignore[no-untyped-def]
    """FTRL's step of z and n in float64, and its z rounded by uniform_U; nothing where neither moves. The rows must
    differ. state: (codes_R1, squares_R1); gradients_UC, parameters: see ftrl_update.
    """
    codes_R1, squares_R1 = state
    unshrunk, alpha, beta, lambda1, lambda2 = parameters
    for i in range(len(rows_U)):
        row, g, square = rows_U[i], np.float64(gradients_UC[i, 0]), square_of(gradients_UC, i)
        if g != 0.0 or square != 0.0:
            n = np.float64(squares_R1[row, 0])
            z = decode(codes_R1[row, 0], n, alpha, beta, lambda2)
            w = ftrl_weight(z, np.sqrt(n), alpha, beta, 0.0 if row == unshrunk else lambda1, lambda2)
            z += g - (np.sqrt(n + square) - np.sqrt(n)) / alpha * w
            squares_R1[row, 0] = n + square
            codes_R1[row, 0] = encode(z, np.float64(squares_R1[row, 0]), uniform_U[i], alpha, beta, lambda2)


@njit(cache=True, nogil=True)
def fixed_point_change_alpha(codes_R1, squares_R1, parameters, new_alpha):  # type: ignore[no-untyped-def]
    """Move every u so that its weight is under new_alpha what it was under alpha, but for the rounding."""
    unshrunk, alpha, beta, lambda1, lambda2 = parameters
    for row in range(len(codes_R1)):
        if codes_R1[row, 0] != 0:
            n = np.float64(squares_R1[row, 0])
            z = decode(codes_R1[row, 0], n, alpha, beta, lambda2)
            z = z_under_alpha(z, n, alpha, new_alpha, beta, 0.0 if row == unshrunk else lambda1, lambda2)
            codes_R1[row, 0] = encode(z, n, 0.5, new_alpha, beta, lambda2)
