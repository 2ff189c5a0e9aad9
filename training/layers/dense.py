"""The parts that heads are composed of, and the widths of what they are given.

Shapes: B rows, E all pooled embeddings of a row side by side, F fields, D embedding width, N dense columns,
I inputs, H units of a layer.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from nightjar.features.contract.errors import UsageError
from nightjar.features.contract.layout import TableLayout
from nightjar.training.config import Activation, DeepConfig
from nightjar.training.layers.batch_norm import BatchNorm
from nightjar.training.layers.dropout import Dropout
from nightjar.training.layers.global_batch import GlobalBatch

_ALIGNMENT = 16
ACTIVATIONS: dict[Activation, Callable[[], nn.Module]] = {
    "relu": partial(nn.ReLU, inplace=True),
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "leaky_relu": nn.LeakyReLU,
}


class Hidden(nn.Module):
    """One hidden layer: dropout(activation(W x + b)), or dropout(activation(batch_norm(W x))).

    Batch norm takes any b out again. Its gradient would be rounding noise, which Adam makes into whole steps.
    """

    def __init__(self, inputs: int, units: int, config: DeepConfig, rate: float, generator: torch.Generator) -> None:
        super().__init__()
        self.linear = make_linear(inputs, units, not config.batch_norm, generator)
        self.norm = BatchNorm(units) if config.batch_norm else None
        self.activation = ACTIVATIONS[config.activation]()
        self.dropout = Dropout(rate, generator) if rate else None

    def forward(self, x_BI: Tensor, batch: GlobalBatch | None) -> Tensor:
        """[B, H]."""
        x_BH = applied(self.linear, x_BI)
        if self.norm:
            x_BH = self.norm(x_BH, batch)
        x_BH = self.activation(x_BH)
        return self.dropout(x_BH, batch) if self.dropout else x_BH


class Mlp(nn.Module):
    """Hidden layers and one linear output: [B, I] -> [B].

    bias: whether the output has one. It has none beside a wide part, which has the model's only b (Cheng et
    al. 2016, eq. 3). Weights start as Glorot and Bengio (2010) ask, drawn from `generator`; biases at 0. Under
    autocast the hidden layers are computed in bfloat16, the output in float32.
    """

    def __init__(self, inputs: int, config: DeepConfig, generator: torch.Generator, *, bias: bool) -> None:
        super().__init__()
        widths = (inputs, *config.layers)
        sizes = zip(widths[:-1], config.layers, config.dropout_rates, strict=True)
        self.hidden = nn.ModuleList(Hidden(inputs, units, config, rate, generator) for inputs, units, rate in sizes)
        self.output = make_linear(widths[-1], 1, bias, generator)

    def forward(self, x_BI: Tensor, batch: GlobalBatch | None = None) -> Tensor:
        """[B] logits."""
        for layer in self.hidden:
            x_BI = layer(x_BI, batch)
        if not torch.is_autocast_enabled(x_BI.device.type):
            return self.output(x_BI).squeeze(1)
        with torch.autocast(x_BI.device.type, enabled=False):
            return self.output(x_BI.float()).squeeze(1)


class Deep(nn.Module):
    """A head of layers over embeddings and dense columns. bias: whether their output has one; see Mlp."""

    def __init__(self, layout: TableLayout, config: DeepConfig, generator: torch.Generator, *, bias: bool) -> None:
        super().__init__()
        self.layers = Mlp(embedding_inputs(layout) + dense_inputs(layout), config, generator, bias=bias)

    def forward(
        self, first_order_B: Tensor, embeddings_BE: Tensor, dense_BN: Tensor, batch: GlobalBatch | None = None
    ) -> Tensor:
        """[B] logits."""
        return self.layers(side_by_side(embeddings_BE, dense_BN), batch)


class Fm(nn.Module):
    """A head that is a factorization machine of second order (Rendle 2010), its linear part being the wide part."""

    def __init__(self, layout: TableLayout) -> None:
        super().__init__()
        self.fields, self.width = one_width(layout)
        self.pairs = FactorizationMachine()

    def forward(
        self, first_order_B: Tensor, embeddings_BE: Tensor, dense_BN: Tensor, batch: GlobalBatch | None = None
    ) -> Tensor:
        """[B] logits."""
        return first_order_B + self.pairs(embeddings_BE.unflatten(1, (self.fields, self.width)))


class FactorizationMachine(nn.Module):
    """Sum over i<j of <v_i, v_j>, by the square-of-sum identity, per dimension (Rendle 2010). Returns [B]
    logits.
    """

    def forward(self, v_BFD: Tensor) -> Tensor:
        """[B] logits."""
        logit_B: Tensor = _sum_of_pairs(v_BFD) if torch.compiler.is_exporting() else _SumOfPairs.apply(v_BFD)
        return logit_B


class _SumOfPairs(torch.autograd.Function):
    """Its gradient by v_i is the sum of all others, sum(v) - v_i: two passes over v, where autograd makes six."""

    @staticmethod
    def forward(ctx: Any, v_BFD: Tensor) -> Tensor:
        ctx.save_for_backward(v_BFD)
        return _sum_of_pairs(v_BFD)

    @staticmethod
    def backward(ctx: Any, gradient_B: Tensor) -> Tensor:
        (v_BFD,) = ctx.saved_tensors
        return (v_BFD.sum(dim=1, keepdim=True) - v_BFD).mul_(gradient_B[:, None, None])


def _sum_of_pairs(v_BFD: Tensor) -> Tensor:
    squares_B = v_BFD.square().sum(dim=(1, 2))
    return 0.5 * (v_BFD.sum(dim=1).square().sum(dim=1) - squares_B)


def side_by_side(embeddings_BE: Tensor, dense_BN: Tensor) -> Tensor:
    """[B, I]: what an Mlp is given, in the type that it computes with, and filled up with zeros to a multiple of 16
    columns: an odd number of them (26 fields of width 16 and 13 dense columns are 429) makes matrix products on CPUs a
    third to two thirds slower. One pass, where cat, pad and autocast make three.
    """
    if torch.compiler.is_exporting():
        return torch.cat([embeddings_BE, dense_BN], dim=1)
    device = embeddings_BE.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else embeddings_BE.dtype
    x_BI: Tensor = _SideBySide.apply(embeddings_BE, dense_BN, dtype)
    return x_BI


class _SideBySide(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, embeddings_BE: Tensor, dense_BN: Tensor, dtype: torch.dtype) -> Tensor:
        (rows, ctx.width), inputs = embeddings_BE.shape, embeddings_BE.shape[1] + dense_BN.shape[1]
        ctx.types = embeddings_BE.dtype, dense_BN.dtype
        x_BI = embeddings_BE.new_empty((rows, inputs + -inputs % _ALIGNMENT), dtype=dtype)
        x_BI[:, : ctx.width] = embeddings_BE
        x_BI[:, ctx.width : inputs] = dense_BN
        x_BI[:, inputs:] = 0.0
        ctx.inputs = inputs
        return x_BI

    @staticmethod
    def backward(ctx: Any, gradient_BI: Tensor) -> tuple[Tensor, Tensor | None, None]:
        of_embeddings, of_dense = ctx.types
        dense_BN = gradient_BI[:, ctx.width : ctx.inputs].to(of_dense) if ctx.needs_input_grad[1] else None
        return gradient_BI[:, : ctx.width].to(of_embeddings), dense_BN, None


def embedding_inputs(layout: TableLayout) -> int:
    """E: the width of all pooled embeddings of a row."""
    return sum(width * len(slots) for width, slots in layout.embeddings.items())


def dense_inputs(layout: TableLayout) -> int:
    """N: the dense columns."""
    return sum(slot.column.role == "dense" for slot in layout.wide)


def one_width(layout: TableLayout) -> tuple[int, int]:
    """(F, D) of a layout whose embeddings are all of one width. Raises UsageError if they are not."""
    if len(layout.embeddings) != 1:
        raise UsageError(
            f"a factorization needs embeddings of one width; the data set's fields have the widths "
            f"{sorted(layout.embeddings)}. Give fields[].embedding one value in the feature spec (or 0)."
        )
    [(width, slots)] = layout.embeddings.items()
    return len(slots), width


def applied(linear: nn.Linear, x_BI: Tensor, outputs: int | None = None) -> Tensor:
    """[B, H], or [B, outputs], whose columns behind the layer's own are zeros.

    Args:
        linear: the layer.
        x_BI: its inputs; there may be more columns than the layer has inputs: zeros (`side_by_side`).
        outputs: how many columns to give, no fewer than the layer's own; None: as many.
    """
    inputs, units = x_BI.shape[1] - linear.in_features, (outputs or linear.out_features) - linear.out_features
    if not inputs and not units:
        y_BH: Tensor = linear(x_BI)
        return y_BH
    bias = linear.bias if linear.bias is None else functional.pad(linear.bias, (0, units))
    return functional.linear(x_BI, functional.pad(linear.weight, (0, inputs, 0, units)), bias)


def make_linear(inputs: int, outputs: int, bias: bool, generator: torch.Generator) -> nn.Linear:
    """A linear layer whose weights start as Glorot and Bengio (2010) ask, and its bias, if it has one, at 0.

    Args:
        inputs: I.
        outputs: H.
        bias: whether it has one.
        generator: what the weights are drawn from.
    """
    linear = nn.utils.skip_init(nn.Linear, inputs, outputs, bias=bias)
    nn.init.xavier_uniform_(linear.weight, generator=generator)
    if bias:
        nn.init.zeros_(linear.bias)
    return linear
