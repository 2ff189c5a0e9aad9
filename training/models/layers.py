"""The parts that heads are composed of.

Shapes: B rows, E all pooled embeddings of a row side by side, F fields, D embedding width, N dense columns.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

_ALIGNMENT = 16
ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh}


class Mlp(nn.Module):
    """Hidden layers and one linear output: [B, inputs] -> [B].

    bias: whether the output has one. It has none beside a wide part, which has the model's only b (Cheng et
    al. 2016, eq. 3). Weights start as Glorot and Bengio (2010) ask, drawn from `generator`; biases at 0. Under
    autocast the hidden layers are computed in bfloat16, the output in float32.
    """

    def __init__(
        self, inputs: int, layers: Sequence[int], activation: str, *, bias: bool, generator: torch.Generator
    ) -> None:
        super().__init__()
        stack: list[nn.Module] = []
        for width in layers:
            stack += [_linear(inputs, width, True, generator), ACTIVATIONS[activation]()]
            inputs = width
        self.stack = nn.Sequential(*stack, _linear(inputs, 1, bias, generator))

    def forward(self, x_BI: Tensor) -> Tensor:
        """[B] logits."""
        first, *hidden, output = self.stack
        x_BI = _aligned(first, x_BI)
        for layer in hidden:
            x_BI = layer(x_BI)
        if not torch.is_autocast_enabled(x_BI.device.type):
            return output(x_BI).squeeze(1)
        with torch.autocast(x_BI.device.type, enabled=False):
            return output(x_BI.float()).squeeze(1)


class FactorizationMachine(nn.Module):
    """Sum over i<j of <v_i, v_j>, by the square-of-sum identity, per dimension (Rendle 2010). Returns [B]
    logits.
    """

    def forward(self, v_BFD: Tensor) -> Tensor:
        """[B] logits."""
        sum_BD = v_BFD.sum(dim=1)
        squares_BD = v_BFD.square().sum(dim=1)
        return 0.5 * (sum_BD.square() - squares_BD).sum(dim=1)


def _aligned(linear: nn.Module, x_BI: Tensor) -> Tensor:
    """linear(x_BI), the inputs filled up with zeros to a multiple of 16: an odd number of them (26 fields of width 16
    and 13 dense columns are 429) makes matrix products on CPUs a third to two thirds slower.
    """
    assert isinstance(linear, nn.Linear)
    missing = -linear.in_features % _ALIGNMENT
    if not missing or torch.compiler.is_exporting():
        out: Tensor = linear(x_BI)
        return out
    x_BI, weight = functional.pad(x_BI, (0, missing)), functional.pad(linear.weight, (0, missing))
    return functional.linear(x_BI, weight, linear.bias)


def _linear(inputs: int, outputs: int, bias: bool, generator: torch.Generator) -> nn.Linear:
    linear = nn.utils.skip_init(nn.Linear, inputs, outputs, bias=bias)
    nn.init.xavier_uniform_(linear.weight, generator=generator)
    if bias:
        nn.init.zeros_(linear.bias)
    return linear
