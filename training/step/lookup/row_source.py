"""What a step needs of the tables, wherever they are: the batch's rows, pooled, and the way back for their gradients.

Shapes: B rows, E all pooled embeddings of a row side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from torch import Tensor

from nightjar.training.data.batch import Batch, Entries
from nightjar.training.run.collective import Pending
from nightjar.training.tables.table import Table

Learn = Callable[[float], None]
"""Apply each table's rule once a row, by the sum of the row weights of the global batch. Every worker calls it, or none
does.
"""
Sent = tuple[np.ndarray, Learn]
"""What waits for gradients on their way: the sums that travelled with them, of all workers, and how to learn from them.
"""


class Lookup(Protocol):
    """The rows that a batch needs, as the last update left them. Both tensors take part in autograd and are on the
    head's device. first_order_B: the wide part's sums; embeddings_BE: the embeddings in the order of the tables.
    """

    first_order_B: Tensor
    embeddings_BE: Tensor

    def send_gradients(self, sums: np.ndarray) -> Pending[Sent]:
        """After backward of the batch's summed loss: begin to send the gradients of the rows to where they are
        learned from. sums: this worker's part of sums over the workers, one-dimensional.
        """


class RowSource(Protocol):
    """Gives the rows of a model's tables. Every worker calls its methods in the same order."""

    def request(self, batch: Batch) -> Pending[Lookup]:
        """Begin to ask the owners for the rows that a batch needs; who waits sees all updates until then."""


def entries_of(batch: Batch, tables: Sequence[Table], wide: Table | None) -> list[Entries]:
    """What the batch needs of each table."""
    return [batch.wide if table is wide else batch.embeddings[table.width] for table in tables]
