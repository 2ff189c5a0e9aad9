"""FTRL-Proximal's part of a warm start: from what one table remembers of its rows, (z, n), to what another does.

Shapes: N rows.
"""

from __future__ import annotations

import numpy as np

from nightjar.features.contract.layout import BIAS
from nightjar.training.config import WideConfig
from nightjar.training.tables.fixed_point import LIMIT, UNIT
from nightjar.training.tables.ftrl import weights_of

ARRAYS = {"float32": ("ftrl",), "q2.13": ("q2_13", "squares")}
"""By precision, the arrays of a table's state. Side by side they are (z, n) or (2^13 u, n), z = -u D."""


def ftrl_state(
    weights_N: np.ndarray, state_N2: np.ndarray, ids_N: np.ndarray, config: WideConfig, lambda1: float
) -> np.ndarray:
    """(z', n) float32[N, 2] under which FTRL-Proximal has just these weights.

    From w = -(z - sign(z) lambda1) / D, D = (beta + sqrt(n)) / alpha + lambda2, where the sign of w is that of -z:

        z' = -w D - sign(w) lambda1     where w is not 0
        z' = z                          where it is

    Args:
        weights_N: the weights.
        state_N2: z, and the n to have.
        ids_N: of the rows: lambda1 is 0 for the bias.
        config: the other constants.
        lambda1: of all rows but the bias.
    """
    w_N, (z_N, n_N) = weights_N.astype(np.float64), state_N2.astype(np.float64).T
    solved_N = -w_N * _divisor(n_N, config) - np.sign(w_N) * np.where(ids_N == BIAS, 0.0, lambda1)
    return np.stack([np.where(w_N != 0.0, solved_N, z_N), n_N], axis=1).astype(np.float32)


def carried_state(
    state_N2: np.ndarray, ids_N: np.ndarray, parent: WideConfig, child: WideConfig, decay: float
) -> np.ndarray:
    """(z', n'), n' = decay n, under which the child has the parent's weights.

    Another lambda1 is not made up for. It says how much evidence a weight needs, and applies to the parent's evidence:
    a larger one shrinks the weights by (lambda1' - lambda1) / D', to 0 at the most.

    Args:
        state_N2: the parent's (z, n).
        ids_N: of the rows, in the child.
        parent: under which the weights are what they are.
        child: under whose alpha, beta and lambda2 they are to be the same.
        decay: in (0, 1].
    """
    if (parent.alpha, parent.beta, parent.lambda2, 1.0) == (child.alpha, child.beta, child.lambda2, decay):
        return state_N2
    [at_bias] = np.nonzero(ids_N == BIAS)
    unshrunk = int(at_bias[0]) if len(at_bias) else -1
    parameters = (unshrunk, parent.alpha, parent.beta, parent.lambda1, parent.lambda2)
    weights_N1 = weights_of(state_N2, np.arange(len(state_N2)), parameters)
    return ftrl_state(weights_N1[:, 0], state_N2 * [1.0, decay], ids_N, child, parent.lambda1)


def decoded(rows_N2: np.ndarray, config: WideConfig) -> np.ndarray:
    """(z, n) float32[N, 2], from rows as a table of this precision has them."""
    if config.precision == "float32":
        return rows_N2
    code_N, n_N = rows_N2.astype(np.float64).T
    return np.stack([-code_N * UNIT * _divisor(n_N, config), n_N], axis=1).astype(np.float32)


def encoded(state_N2: np.ndarray, config: WideConfig) -> np.ndarray:
    """Rows as a table of this precision has them. In q2.13, u = -z / D is rounded to the nearest multiple of 2^-13 in
    [-4, 4): no weight within moves by more than 2^-14.
    """
    if config.precision == "float32":
        return state_N2
    z_N, n_N = state_N2.astype(np.float64).T
    divisor_N = _divisor(n_N, config)
    u_N = np.divide(-z_N, divisor_N, out=np.zeros_like(z_N), where=divisor_N > 0.0)
    return np.stack([np.clip(np.rint(u_N / UNIT), -LIMIT / UNIT, LIMIT / UNIT - 1.0), n_N], axis=1)


def _divisor(n_N: np.ndarray, config: WideConfig) -> np.ndarray:
    """D = (beta + sqrt(n)) / alpha + lambda2."""
    return (config.beta + np.sqrt(n_N)) / config.alpha + config.lambda2
