"""The head's gradients, summed over the workers while the backward pass still goes on."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from training.collective import Collective, Pending


class HeadGradients:
    """Begins to sum each parameter's gradient as soon as backward has made it; the collective fuses what is waiting.

    Backward reaches the parameters in the same order on every worker, with rows or without.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], collective: Collective) -> None:
        self._parameters, self._collective = parameters, collective
        self._pending: list[Pending[Tensor]] = []
        if collective.size > 1:
            for parameter in parameters:
                parameter.register_post_accumulate_grad_hook(self._begin)

    def clear(self) -> None:
        """Forget the last step's gradients."""
        for parameter in self._parameters:
            parameter.grad = None

    def finish(self, sums: Tensor) -> list[float]:
        """Wait for the sums of all gradients, and for `sums`, which travel with them; their values."""
        self._pending.append(self._collective.begin_all_reduce_sum_(sums))
        for pending in self._pending:
            pending.wait()
        self._pending.clear()
        return sums.tolist()

    def divide(self, weight: float) -> None:
        """Make sums means."""
        if self._parameters:
            torch._foreach_div_([p.grad for p in self._parameters if p.grad is not None], weight)

    def _begin(self, parameter: Tensor) -> None:
        assert parameter.grad is not None
        self._pending.append(self._collective.begin_all_reduce_sum_(parameter.grad))
