"""Adam over the whole table, and its lazy variant. Shapes: R rows of the shard, U distinct rows of a step, D width."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from nightjar.features.contract.errors import UsageError
from nightjar.training.kernels.memory import zeros
from nightjar.training.tables.rule import UpdateRule, stored

if TYPE_CHECKING:
    from nightjar.training.config import TableConfig


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
        from nightjar.training.kernels.adam import adam_update
        from nightjar.training.kernels.threads import in_ranges

        self.t[...] += 1
        index_R = np.full(len(state["values"]), -1, dtype=np.int32)
        index_R[places_U] = np.arange(len(places_U), dtype=np.int32)
        arrays = (state["values"], state["means"], state["squares"])
        settings = (self.learning_rate, self.beta1, self.beta2, self.epsilon)
        arguments = (arrays, index_R, gradients_UD, int(self.t), settings, (self.l2, self.unshrunk))
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
        from nightjar.training.kernels.adam import lazy_adam_update
        from nightjar.training.kernels.threads import in_ranges

        settings = (self.learning_rate, self.beta1, self.beta2, self.epsilon)
        arrays = (state["values"], state["means"], state["squares"])
        arguments = (arrays, state["steps"], places_U, gradients_UD, settings)
        in_ranges(partial(lazy_adam_update, *arguments), len(places_U))


def _moments(rows: int, width: int) -> Mapping[str, np.ndarray]:
    return {name: zeros(rows, width, np.float32) for name in ("means", "squares")}


def _check_rows(section: str, config: TableConfig, rows: int) -> None:
    if rows > config.dense_rows_limit:
        raise UsageError(
            f"training.{section}.rule adam moves every row of a table in every step, and a table has {rows} rows, more "
            f"than training.{section}.dense_rows_limit = {config.dense_rows_limit}. Choose a sparse rule (adagrad, "
            f"lazy_adam), or raise the limit and wait."
        )


LAZY_ADAM = UpdateRule(
    "lazy_adam",
    stored(lambda config, rate, unshrunk: LazyAdam(rate, config.beta1, config.beta2, config.epsilon)),
    learning_rate=0.001,
)
ADAM = UpdateRule(
    "adam",
    stored(lambda config, rate, unshrunk: Adam(rate, config.beta1, config.beta2, config.epsilon, config.l2, unshrunk)),
    learning_rate=0.001,
    own={
        "l2": "= {value:g} shrinks the whole table in every step, which only the rule adam does, not {rule}. "
        "Remove l2, or choose the rule adam."
    },
    check=_check_rows,
)
