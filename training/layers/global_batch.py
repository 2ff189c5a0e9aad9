"""What layers may know of the global batch. Nothing that they compute may depend on how it is shared out."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from nightjar.training.run.collective import Collective


@dataclass(frozen=True)
class GlobalBatch:
    """The global batch that the rows of a forward pass belong to. A pass without one is an evaluation.

    collective: the workers that share the batch, all of which make this pass; step: its number in the run;
    keys_B: int64, this worker's rows, each named by a number that is its own in the whole data set.
    """

    collective: Collective
    step: int
    keys_B: Tensor
