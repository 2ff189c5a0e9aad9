"""Tables in the host's memory: rows are pooled, and their gradients summed, by numba there; the pooled rows go to the
head's device.

Shapes: B rows, E all pooled embeddings of a row side by side, U distinct rows of a table, D width.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from nightjar.training.data.batch import Batch
from nightjar.training.run.collective import Collective, Pending
from nightjar.training.step import exchange, replication
from nightjar.training.step.lookup.pooling import gradient_of_rows, pool
from nightjar.training.step.lookup.row_source import Sent, entries_of
from nightjar.training.tables.table import Table


class HostRows:
    """See RowSource. wide: one of the tables, or None."""

    def __init__(
        self, tables: Sequence[Table], wide: Table | None, collective: Collective, device: torch.device
    ) -> None:
        self._tables, self._wide, self._collective, self._device = tables, wide, collective, device

    def request(self, batch: Batch) -> Pending[HostLookup]:
        """See RowSource."""
        entries = entries_of(batch, self._tables, self._wide)
        requested = replication.request(self._tables, entries, self._collective)

        def wait() -> HostLookup:
            lookups = replication.look_up(self._tables, requested, self._collective)
            return HostLookup(batch.rows, lookups, self._wide, self._collective, self._device)

        return Pending(wait)


class HostLookup:
    """See Lookup."""

    def __init__(
        self,
        batch_rows: int,
        lookups: Sequence[exchange.Rows],
        wide: Table | None,
        collective: Collective,
        device: torch.device,
    ) -> None:
        self._lookups, self._wide, self._collective = lookups, wide, collective
        # Where each table's cells begin among those that are pooled into the same array.
        self._starts, inputs = [], 0
        for rows in lookups:
            self._starts.append(0 if rows.table is wide else inputs)
            inputs += 0 if rows.table is wide else rows.entries.cells * rows.table.width
        first_order_B1 = np.zeros((batch_rows, 1), dtype=np.float32)
        embeddings_BE = np.empty((batch_rows, inputs), dtype=np.float32)
        for rows, start in zip(lookups, self._starts, strict=True):
            pool(rows.rows_UD, rows.entries, first_order_B1 if rows.table is wide else embeddings_BE, start)
        self.first_order_B = torch.from_numpy(first_order_B1[:, 0]).to(device).requires_grad_()
        self.embeddings_BE = torch.from_numpy(embeddings_BE).to(device).requires_grad_()

    def send_gradients(self, sums: np.ndarray) -> Pending[Sent]:
        """See Lookup."""
        sent = replication.send_gradients(self._lookups, self._gradients(), sums, self._collective)

        def wait() -> Sent:
            totals, lookups, received = sent.wait()
            return totals, lambda batch_weight: exchange.update(lookups, received, batch_weight)

        return Pending(wait)

    def _gradients(self) -> list[np.ndarray]:
        """What each table's update asks for, from the gradients of the pooled rows."""
        wide_B, deep_BE = (_on_host(pooled.grad) for pooled in (self.first_order_B, self.embeddings_BE))
        gradients = []
        for rows, start in zip(self._lookups, self._starts, strict=True):
            cells = deep_BE if rows.table is not self._wide else wide_B if wide_B is None else wide_B[:, None]
            gradients.append(_gradient(rows, cells, start))
        return gradients


def _gradient(rows: exchange.Rows, cells_BE: np.ndarray | None, start: int) -> np.ndarray:
    """What the update of a table asks for: [U, D], or [U, 2 D] with the squares of the examples' gradients."""
    table, entries = rows.table, rows.entries
    if cells_BE is None:
        return np.zeros((len(entries.ids_U), table.width * (1 + table.example_squares)), dtype=np.float32)
    gradient_UD = gradient_of_rows(cells_BE, entries, table.width, start)
    if not table.example_squares:
        return gradient_UD
    return np.hstack([gradient_UD, gradient_of_rows(np.square(cells_BE), entries.squared(), table.width, start)])


def _on_host(gradient: Tensor | None) -> np.ndarray | None:
    """None: the head made no use of it."""
    return None if gradient is None else gradient.cpu().numpy()
