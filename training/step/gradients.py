"""The head's gradients, summed over the workers while the backward pass still goes on."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nightjar.training.run.collective import Collective, Pending

# A bucket that is sent sooner costs a round of its own, one that is sent later overlaps less: PyTorch's
# DistributedDataParallel takes 25 MB, for networks of some GB/s.
_BUCKET_BYTES = 8 << 20


class HeadGradients:
    """Collects parameters in buckets as backward makes their gradients. A full bucket is on its way while backward goes
    on, the last one while the gradients of the tables' rows are summed.

    Backward reaches the parameters in the same order on every worker, with rows or without.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], collective: Collective) -> None:
        self._parameters, self._collective = parameters, collective
        self._bucket: list[Tensor] = []
        self._sent: list[tuple[list[Tensor], Pending[Tensor]]] = []
        if collective.size > 1:
            for parameter in parameters:
                parameter.register_post_accumulate_grad_hook(self._collect)

    def clear(self) -> None:
        """Forget the last step's gradients."""
        for parameter in self._parameters:
            parameter.grad = None

    def flush(self) -> None:
        """Begin to sum the last bucket. To be called after backward."""
        if self._bucket:
            flat = torch.cat([parameter.grad.view(-1) for parameter in self._bucket if parameter.grad is not None])
            self._sent.append((self._bucket, self._collective.begin_all_reduce_sum_(flat)))
            self._bucket = []

    def finish(self) -> None:
        """Wait for the sums of all gradients."""
        for bucket, pending in self._sent:
            totals = pending.wait().split([parameter.numel() for parameter in bucket])
            for parameter, total in zip(bucket, totals, strict=True):
                parameter.grad = total.view_as(parameter)
        self._sent.clear()

    def divide(self, weight: float) -> None:
        """Make sums means."""
        if self._parameters:
            torch._foreach_div_([p.grad for p in self._parameters if p.grad is not None], weight)

    def _collect(self, parameter: Tensor) -> None:
        self._bucket.append(parameter)
        if sum(waiting.nbytes for waiting in self._bucket) >= _BUCKET_BYTES:
            self.flush()
