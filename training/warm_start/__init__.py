"""Warm start (Cheng et al. 2016, section 3.3): a model begins with what an earlier one has learned.

Nothing is carried over by id. A row travels by the value that it stands for, a cross's bucket by the definition of the
cross, a number by its feature and transform, a weight of the head by the features that it connects; optimizer state
travels with its weight. `columns` says what counts as the same feature; `rows` and `tables` bring the rows over, `head`
the layers.
"""

from nightjar.training.warm_start.transfer import Transfer
from nightjar.training.warm_start.warm_start import WarmStart

__all__ = ["Transfer", "WarmStart"]
