"""Tables on a device: ids, rows and gradients go from device to device, and a step leaves nothing of them in the host's
memory but the ids that the loader found.

The messages are those of training.step.exchange and training.step.replication. With a Horovod that was built for NCCL
they stay on the GPUs; any other Horovod for GPUs takes them through the host's memory by itself.

Shapes: U distinct ids of this worker, S rows that workers asked of this owner, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nightjar.training.data.batch import Batch
from nightjar.training.run.collective import Collective, Pending
from nightjar.training.step import exchange
from nightjar.training.step.device import to_device
from nightjar.training.step.lookup.device_pooling import (
    DeviceEntries,
    entries_on_device,
    pool_on_device,
)
from nightjar.training.step.lookup.row_source import Sent, entries_of
from nightjar.training.step.messages import join
from nightjar.training.step.replication import is_replicated
from nightjar.training.tables.device_table import DeviceTable


@dataclass(frozen=True)
class _Rows:
    """The rows of a table that a batch needs. order_U, sent: see exchange.ShardRequest; None, of a replicated table.
    places_S: see exchange.Rows.
    """

    table: DeviceTable
    entries: DeviceEntries
    rows_UD: Tensor
    order_U: Tensor | None
    sent: list[int] | None
    places_S: Tensor


class DeviceRows:
    """See RowSource. wide: one of the tables, or None."""

    def __init__(
        self, tables: Sequence[DeviceTable], wide: DeviceTable | None, collective: Collective, device: torch.device
    ) -> None:
        self._tables, self._wide, self._collective, self._device = tables, wide, collective, device

    def request(self, batch: Batch) -> Pending[DeviceLookup]:
        """See RowSource."""
        entries = entries_of(batch, self._tables, self._wide)
        copied = [is_replicated(table, self._collective) for table in self._tables]
        tables = [table for table, copy in zip(self._tables, copied, strict=True) if not copy]
        owned = [e for e, copy in zip(entries, copied, strict=True) if not copy]
        requested = exchange.request(tables, owned, self._collective, self._device)
        orders = [None if order is None else to_device(order, self._device) for order in requested.order]
        ids = [to_device(e.ids_U, self._device) if copy else None for e, copy in zip(entries, copied, strict=True)]
        moved = entries_on_device(entries, self._device)

        def wait() -> DeviceLookup:
            asked = list(map(join, requested.asked.wait()))
            answers = self._collective.all_to_all(
                [table.look_up(places_S) for table, (places_S, _) in zip(tables, asked, strict=True)],
                [counts for _, counts in asked],
            )
            of_owned = iter(zip(orders, requested.sent, asked, answers, strict=True))
            rows = []
            for table, e, ids_U in zip(self._tables, moved, ids, strict=True):
                if ids_U is not None:
                    rows.append(_Rows(table, e, table.look_up(ids_U).requires_grad_(), None, None, ids_U))
                else:
                    order_U, sent, (places_S, _), (grouped_UD, _) = next(of_owned)
                    rows_UD = _ungroup(grouped_UD, order_U).requires_grad_()
                    rows.append(_Rows(table, e, rows_UD, order_U, sent, places_S))
            return DeviceLookup(batch.rows, rows, self._wide, self._collective, self._device)

        return Pending(wait)


class DeviceLookup:
    """See Lookup. Autograd goes through the pooling, to the rows."""

    def __init__(
        self,
        batch_rows: int,
        rows: Sequence[_Rows],
        wide: DeviceTable | None,
        collective: Collective,
        device: torch.device,
    ) -> None:
        self._rows, self._collective, self._device = rows, collective, device
        pooled = [(r.table, pool_on_device(r.rows_UD, r.entries)) for r in rows]
        nothing_B1 = torch.zeros((batch_rows, 1), device=device)
        self.first_order_B = next((cells_B1 for table, cells_B1 in pooled if table is wide), nothing_B1)[:, 0]
        deep = [cells_BE for table, cells_BE in pooled if table is not wide]
        self.embeddings_BE = torch.cat(deep, dim=1) if deep else nothing_B1[:, :0]

    def send_gradients(self, sums: np.ndarray) -> Pending[Sent]:
        """See Lookup."""
        size = self._collective.size
        tensors = [to_device(np.tile(sums, size), self._device)]
        splits = [[len(sums)] * size]
        for rows in self._rows:
            # None: the head made no use of it.
            gradient_UD = torch.zeros_like(rows.rows_UD) if rows.rows_UD.grad is None else rows.rows_UD.grad
            if rows.sent is None:
                tensors += [rows.places_S.repeat(size), gradient_UD.repeat(size, 1)]
                splits += [[len(gradient_UD)] * size] * 2
            else:
                tensors.append(gradient_UD if rows.order_U is None else gradient_UD[rows.order_U])
                splits.append(rows.sent)
        sent = self._collective.begin_all_to_all(tensors, splits)

        def wait() -> Sent:
            (of_ranks, _), *arrived = map(join, sent.wait())
            received, gradients = iter(arrived), []
            for rows in self._rows:
                places_S = next(received)[0] if rows.sent is None else rows.places_S
                gradients.append((rows.table, places_S, *next(received)))

            def learn(batch_weight: float) -> None:
                for table, places_S, gradient_SD, counts in gradients:
                    places_U, total_UD = _sum_duplicates(places_S, gradient_SD, counts)
                    table.learn(places_U, total_UD / batch_weight if table.mean else total_UD)

            return of_ranks.view(size, -1).sum(dim=0).cpu().numpy(), learn

        return Pending(wait)


def _ungroup(grouped_UD: Tensor, order_U: Tensor | None) -> Tensor:
    if order_U is None:
        return grouped_UD
    rows_UD = torch.empty_like(grouped_UD)
    rows_UD[order_U] = grouped_UD
    return rows_UD


def _sum_duplicates(places_S: Tensor, gradient_SD: Tensor, counts: list[int]) -> tuple[Tensor, Tensor]:
    """Distinct places, and the sum of the gradients that the workers sent for each, in the order of their ranks."""
    if len(counts) == 1:
        return places_S, gradient_SD
    places_U, index_S = torch.unique(places_S, return_inverse=True)
    total_UD = gradient_SD.new_zeros((len(places_U), gradient_SD.shape[1]))
    # A worker names a row once, so that no two additions of a call meet, and the calls come one after the other.
    for index, gradient in zip(index_S.split(counts), gradient_SD.split(counts), strict=True):
        total_UD.index_add_(0, index, gradient)
    return places_U, total_UD
