"""Adam over the whole table, and its lazy variant. Shapes: R rows of the shard, U distinct rows of a step, D width."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numba import njit

from nightjar.training.kernels.memory import zeros
from nightjar.training.kernels.threads import in_ranges


@dataclass
class Adam:
    """Adam (Kingma & Ba 2015, algorithm 1) over every row in every step, whether it has a gradient or not:

        g += l2 w;  m = beta1 m + (1 - beta1) g;  v = beta2 v + (1 - beta2) g^2
        w -= learning_rate m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + epsilon)

    t counts the table's steps. l2 w is the gradient of l2 / 2 ||W||^2, the term that published click models add to
    the mean loss: FuxiCTR's embedding_regularizer, which BARS's tables were made with. A step costs O(table): a
    mode to reproduce such tables on small vocabularies. unshrunk: the place of a row that l2 leaves alone, or -1.
    """

    learning_rate: float
    beta1: float
    beta2: float
    epsilon: float
    l2: float = 0.0
    unshrunk: int = -1
    t: np.ndarray = field(default_factory=lambda: np.zeros((), dtype=np.int64))
    approximation = ""
    whole = True

    def fresh(self, rows: int, width: int) -> Mapping[str, np.ndarray]:
        """{"means", "squares"}: m and v, each float32[rows, width]."""
        return _moments(rows, width)

    def scalars(self) -> Mapping[str, np.ndarray]:
        """{"step": t}."""
        return {"step": self.t}

    def step(self, state: Mapping[str, np.ndarray], places_U: np.ndarray, gradients_UD: np.ndarray) -> None:
        """See Rule."""
        self.t[...] += 1
        index_R = np.full(len(state["values"]), -1, dtype=np.int32)
        index_R[places_U] = np.arange(len(places_U), dtype=np.int32)
        arrays = (state["values"], state["means"], state["squares"])
        settings = (self.learning_rate, self.beta1, self.beta2, self.epsilon)
        arguments = (*arrays, index_R, gradients_UD, int(self.t), settings, self.l2, self.unshrunk)
        in_ranges(partial(adam_update, *arguments), len(index_R))


@dataclass
class LazyAdam:
    """Adam of the touched rows only: APPROXIMATE.

    A row without a gradient neither moves nor forgets, where Adam would go on along its moments. t counts the steps
    of the row, as if those without its gradient had not been: its first step is learning_rate long whenever it
    comes. (torch.optim.SparseAdam and TensorFlow's LazyAdam take the run's t, by which the first step of a late row
    is (1 - beta1) / sqrt(1 - beta2) = 3 times as long.) No l2: it would have to reach every row.
    """

    learning_rate: float
    beta1: float
    beta2: float
    epsilon: float
    approximation = "lazy_adam is an approximation of Adam: rows without a gradient neither move nor forget"
    whole = False

    def fresh(self, rows: int, width: int) -> Mapping[str, np.ndarray]:
        """{"means", "squares"}: float32[rows, width]; {"steps"}: t, int32[rows, 1]."""
        return {**_moments(rows, width), "steps": zeros(rows, 1, np.int32)}

    def scalars(self) -> Mapping[str, np.ndarray]:
        """See Rule: none."""
        return {}

    def step(self, state: Mapping[str, np.ndarray], places_U: np.ndarray, gradients_UD: np.ndarray) -> None:
        """See Rule."""
        settings = (self.learning_rate, self.beta1, self.beta2, self.epsilon)
        arrays = (state["values"], state["means"], state["squares"], state["steps"])
        in_ranges(partial(lazy_adam_update, *arrays, places_U, gradients_UD, settings), len(places_U))


def _moments(rows: int, width: int) -> Mapping[str, np.ndarray]:
    return {name: zeros(rows, width, np.float32) for name in ("means", "squares")}


@njit(cache=True, nogil=True)
def adam_row(w_D, m_D, v_D, g_D, decay, t, settings):  # type: ignore[no-untyped-def]
    """Step t of a row, in place, by g_D + decay w_D. settings: learning_rate, beta1, beta2, epsilon."""
    learning_rate, beta1, beta2, epsilon = settings
    bias1, bias2 = 1.0 - beta1**t, 1.0 - beta2**t
    for d in range(len(w_D)):
        g = np.float64(g_D[d]) + decay * np.float64(w_D[d])
        m = beta1 * np.float64(m_D[d]) + (1.0 - beta1) * g
        v = beta2 * np.float64(v_D[d]) + (1.0 - beta2) * g * g
        m_D[d], v_D[d] = m, v
        w_D[d] -= learning_rate * (m / bias1) / (np.sqrt(v / bias2) + epsilon)


@njit(cache=True, nogil=True)
def adam_update(values_RD, means_RD, squares_RD, index_R, gradients_UD, t, settings, l2, unshrunk, start, stop):  # type: ignore[no-untyped-def]
    """Step t of rows [start, stop); the gradient of row r is gradients_UD[index_R[r]], or 0 where that is -1."""
    nothing_D = np.zeros(values_RD.shape[1], dtype=gradients_UD.dtype)
    for row in range(start, stop):
        g_D = gradients_UD[index_R[row]] if index_R[row] >= 0 else nothing_D
        decay = 0.0 if row == unshrunk else l2
        adam_row(values_RD[row], means_RD[row], squares_RD[row], g_D, decay, t, settings)


@njit(cache=True, nogil=True)
def lazy_adam_update(values_RD, means_RD, squares_RD, steps_R1, rows_U, gradients_UD, settings, start, stop):  # type: ignore[no-untyped-def]
    """The next step of each of these rows; nothing where all of its gradient is 0. For rows_U[start:stop], which
    must differ.
    """
    for i in range(start, stop):
        row = rows_U[i]
        if np.any(gradients_UD[i] != 0.0):
            steps_R1[row, 0] += 1
            t = steps_R1[row, 0]
            adam_row(values_RD[row], means_RD[row], squares_RD[row], gradients_UD[i], 0.0, t, settings)
