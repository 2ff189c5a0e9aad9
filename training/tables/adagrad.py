"""AdaGrad, by element and by row. Shapes: R rows of the shard, U distinct rows of a step, D width."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from nightjar.training.tables.rule import UpdateRule, stored

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class Adagrad:
    """AdaGrad element for element (Duchi et al. 2011): n += g^2; w -= learning_rate g / sqrt(n)."""

    learning_rate: float
    initial_accumulator: float
    approximation = ""
    whole = False

    def fresh(self, rows: int, width: int) -> Mapping[str, np.ndarray]:
        """{"accumulators": float32[rows, width]}."""
        return {"accumulators": np.full((rows, width), self.initial_accumulator, dtype=np.float32)}

    def scalars(self) -> Mapping[str, np.ndarray]:
        """See Rule: none."""
        return {}

    def step(self, state: Mapping[str, np.ndarray], places_U: np.ndarray, gradients_UD: np.ndarray) -> None:
        """See Rule."""
        from nightjar.training.kernels.adagrad import adagrad_update
        from nightjar.training.kernels.threads import in_ranges

        arguments = (state["values"], state["accumulators"], places_U, gradients_UD, self.learning_rate)
        in_ranges(partial(adagrad_update, *arguments), len(places_U))

    def change_on_device(self, state: Mapping[str, Tensor], places_U: Tensor, gradients_UD: Tensor) -> Tensor:
        """See DeviceRule."""
        n_UD = state["accumulators"][places_U] + gradients_UD.square()
        state["accumulators"][places_U] = n_UD
        # n may be 0 where the gradient is.
        return (self.learning_rate * gradients_UD / n_UD.sqrt()).masked_fill_(gradients_UD == 0.0, 0.0)


@dataclass
class RowAdagrad:
    """AdaGrad with one accumulator a row: n += mean over the row of g^2; w -= learning_rate g / sqrt(n).

    A rule of its own, exact and exactly sparse, that remembers 1/D of what AdaGrad does. It is EXACT_ROWWISE_ADAGRAD
    of FBGEMM (Khudia et al. 2021), with which torchrec trains its embeddings.
    """

    learning_rate: float
    initial_accumulator: float
    approximation = ""
    whole = False

    def fresh(self, rows: int, width: int) -> Mapping[str, np.ndarray]:
        """{"row_accumulators": float32[rows, 1]}."""
        return {"row_accumulators": np.full((rows, 1), self.initial_accumulator, dtype=np.float32)}

    def scalars(self) -> Mapping[str, np.ndarray]:
        """See Rule: none."""
        return {}

    def step(self, state: Mapping[str, np.ndarray], places_U: np.ndarray, gradients_UD: np.ndarray) -> None:
        """See Rule."""
        from nightjar.training.kernels.adagrad import row_adagrad_update
        from nightjar.training.kernels.threads import in_ranges

        arguments = (state["values"], state["row_accumulators"], places_U, gradients_UD, self.learning_rate)
        in_ranges(partial(row_adagrad_update, *arguments), len(places_U))

    def change_on_device(self, state: Mapping[str, Tensor], places_U: Tensor, gradients_UD: Tensor) -> Tensor:
        """See DeviceRule."""
        g_UD = gradients_UD.double()
        n_U1 = state["row_accumulators"][places_U].double() + g_UD.square().mean(dim=1, keepdim=True)
        state["row_accumulators"][places_U] = n_U1.float()
        return (self.learning_rate / n_U1.sqrt() * g_UD).masked_fill_(gradients_UD == 0.0, 0.0).float()


ADAGRAD = UpdateRule(
    "adagrad",
    stored(lambda config, rate, unshrunk: Adagrad(rate, config.initial_accumulator)),
    learning_rate=0.05,
    on_device=True,
    sums_of_squares=("accumulators",),
)
ROW_ADAGRAD = UpdateRule(
    "row_adagrad",
    stored(lambda config, rate, unshrunk: RowAdagrad(rate, config.initial_accumulator)),
    learning_rate=0.05,
    of_wide=False,
    on_device=True,
    sums_of_squares=("row_accumulators",),
)
