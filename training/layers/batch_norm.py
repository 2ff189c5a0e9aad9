"""Batch normalisation over the global batch, however it is shared out. Shapes: B rows of this worker, H units."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from nightjar.training.layers.global_batch import GlobalBatch
from nightjar.training.run.collective import Collective


class BatchNorm(nn.Module):
    """y = weight (x - mean) / sqrt(variance + eps) + bias, by unit (Ioffe and Szegedy 2015).

    In training, mean and variance are those of the rows of the global batch, their gradients included; running
    averages of them serve evaluation. What torch.nn.BatchNorm1d computes in one process: the running variance
    is the unbiased one. A row counts once, whatever its weight.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, units: int, *, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__()
        self.momentum, self.eps = momentum, eps
        self.weight, self.bias = nn.Parameter(torch.ones(units)), nn.Parameter(torch.zeros(units))
        self.register_buffer("running_mean", torch.zeros(units))
        self.register_buffer("running_var", torch.ones(units))

    def forward(self, x_BH: Tensor, batch: GlobalBatch | None) -> Tensor:
        """[B, H]. Every worker calls this in training, with rows or without."""
        x_BH = x_BH.to(self.weight.dtype)
        if batch is None:
            return functional.batch_norm(
                x_BH, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        normal_BH, mean_H, unbiased_H = _Normalise.apply(x_BH, self.eps, batch.collective)
        with torch.no_grad():
            self.running_mean.lerp_(mean_H, self.momentum)
            self.running_var.lerp_(unbiased_H, self.momentum)
        return normal_BH * self.weight + self.bias


class _Normalise(torch.autograd.Function):
    """(x - mean) / sqrt(variance + eps) with one sum over the workers each way; also the mean and the unbiased
    variance.

    Workers add up float64 moments about 0 of their own float32 deviations from their own means: neither
    squares of large values nor the order of the workers costs digits.
    """

    @staticmethod
    def forward(ctx: Any, x_BH: Tensor, eps: float, collective: Collective) -> tuple[Tensor, Tensor, Tensor]:
        rows, units = x_BH.shape
        own_H = x_BH.sum(dim=0) / max(rows, 1)
        spread_H, centre_H = (x_BH - own_H).square().sum(dim=0).double(), own_H.double()
        sums = torch.cat([spread_H + rows * centre_H.square(), rows * centre_H, spread_H.new_tensor([rows])])
        collective.all_reduce_sum_(sums)
        squares_H, total_H, count = sums[:units], sums[units:-1], sums[-1].clamp(min=1.0)
        mean_H = total_H / count
        deviation_H = (squares_H - count * mean_H.square()).clamp(min=0.0)
        scale_H = (deviation_H / count + eps).rsqrt().to(x_BH.dtype)
        mean_H, unbiased_H = mean_H.to(x_BH.dtype), (deviation_H / (count - 1.0).clamp(min=1.0)).to(x_BH.dtype)
        normal_BH = (x_BH - mean_H) * scale_H
        ctx.save_for_backward(normal_BH, scale_H, count)
        ctx.collective = collective
        ctx.mark_non_differentiable(mean_H, unbiased_H)
        return normal_BH, mean_H, unbiased_H

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        gradient_BH = gradients[0]
        normal_BH, scale_H, count = ctx.saved_tensors
        sums_2H = torch.stack([gradient_BH.sum(dim=0), (gradient_BH * normal_BH).sum(dim=0)]).double()
        ctx.collective.all_reduce_sum_(sums_2H)
        shift_H, slope_H = (sums_2H / count).to(gradient_BH.dtype)
        return scale_H * (gradient_BH - shift_H - normal_BH * slope_H), None, None
