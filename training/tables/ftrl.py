"""FTRL-Proximal: the wide part's rule. Shapes: R rows of the shard, U distinct rows of a step."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from nightjar.features.contract.errors import UsageError
from nightjar.features.contract.layout import BIAS
from nightjar.training.kernels.memory import zeros
from nightjar.training.tables.rule import NewTable, UpdateRule
from nightjar.training.tables.shard import Shard
from nightjar.training.tables.table import Table, differs

if TYPE_CHECKING:
    from torch import Tensor

    from nightjar.training.config import WideConfig

Parameters = tuple[int, float, float, float, float]
"""The place of the row that L1 leaves alone, alpha, beta, lambda1, lambda2."""
FIXED_POINT_LIMIT = 4.0
"""What a weight of 16 bits is below (training.tables.fixed_point)."""


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
        from nightjar.training.kernels.ftrl import ftrl_update
        from nightjar.training.kernels.threads import in_ranges

        arguments = (self._state_R2, places_U, gradients_UD, self.parameters)
        in_ranges(partial(ftrl_update, *arguments), len(places_U))

    def scale_learning_rate(self, factor: float) -> None:
        """See Table. The weights are functions of z, so that z moves by what sigma is of a round in which nothing but
        alpha changes: z -= (1/eta' - 1/eta) w, where 1/eta = (beta + sqrt(n)) / alpha.
        """
        from nightjar.training.kernels.ftrl import ftrl_change_alpha

        unshrunk, alpha, beta, lambda1, lambda2 = self.parameters
        ftrl_change_alpha(self._state_R2, self.parameters, alpha * factor)
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

    def weights_on_device(self, state: Mapping[str, Tensor], places_U: Tensor) -> Tensor:
        """See HostTable."""
        z_U, n_U = state["ftrl"][places_U].double().unbind(dim=1)
        return self._weights_on_device(z_U, n_U.sqrt(), places_U).float()[:, None]

    def step_on_device(self, state: Mapping[str, Tensor], places_U: Tensor, gradients_UD: Tensor) -> None:
        """See HostTable. Without `squares` of the examples."""
        import torch

        alpha, g_U = self.parameters[1], gradients_UD[:, 0].double()
        z_U, n_U = state["ftrl"][places_U].double().unbind(dim=1)
        root_U, total_U = n_U.sqrt(), n_U + g_U.square()
        z_U = z_U + g_U - (total_U.sqrt() - root_U) / alpha * self._weights_on_device(z_U, root_U, places_U)
        state["ftrl"][places_U] = torch.stack([z_U, total_U], dim=1).float()

    def _weights_on_device(self, z_U: Tensor, root_U: Tensor, places_U: Tensor) -> Tensor:
        unshrunk, alpha, beta, lambda1, lambda2 = self.parameters
        l1_U = z_U.new_full(z_U.shape, lambda1).masked_fill_(places_U == unshrunk, 0.0)
        w_U = -(z_U - z_U.sign() * l1_U) / ((beta + root_U) / alpha + lambda2)
        return w_U.masked_fill_(z_U.abs() <= l1_U, 0.0)


def ftrl_parameters(shard: Shard, config: WideConfig) -> Parameters:
    """Of a table that holds this shard."""
    return shard.place(BIAS), config.alpha, config.beta, config.lambda1, config.lambda2


def weights_of(state_R2: np.ndarray, places_U: np.ndarray, parameters: Parameters) -> np.ndarray:
    """Weights float32[U, 1].

    Args:
        state_R2: (z, n) by row.
        places_U: the rows whose weights are wanted.
        parameters: as ftrl_parameters gives them.
    """
    from nightjar.training.kernels.ftrl import ftrl_weights
    from nightjar.training.kernels.threads import in_ranges

    weights_U1 = np.empty((len(places_U), 1), dtype=np.float32)
    in_ranges(partial(ftrl_weights, state_R2, places_U, weights_U1, parameters), len(places_U))
    return weights_U1


def _table(new: NewTable) -> Table:
    if new.config.precision == "float32":
        return FtrlTable(new.shard, new.config)
    from nightjar.training.tables.fixed_point import FixedPointFtrlTable

    return FixedPointFtrlTable(new.shard, new.config, new.initial.seed)


def _check_range(section: str, config: WideConfig, rows: int) -> None:
    """Of q2.13: half of the range is for weights, the other for what L1 takes off them."""
    room = FIXED_POINT_LIMIT / 2 * (config.beta / config.alpha + config.lambda2)
    if config.precision == "q2.13" and config.lambda1 > room:
        raise UsageError(
            f"training.{section}.precision q2.13 holds values below {FIXED_POINT_LIMIT:g}, too few for lambda1 = "
            f"{config.lambda1:g}: it may be at most 2 (beta / alpha + lambda2) = {room:g}. Lower lambda1 or alpha, or "
            f"choose float32."
        )


FTRL = UpdateRule(
    "ftrl",
    _table,
    of_embeddings=False,
    own={
        "squares": "{value} is a way of the rule ftrl to count, not of {rule}. Remove it, or choose the rule ftrl.",
        "precision": "{value} is made for the rule ftrl, not for {rule}. Choose float32, or the rule ftrl.",
    },
    on_device=True,
    on_device_with={"precision": "float32", "squares": "round"},
    check=_check_range,
)
