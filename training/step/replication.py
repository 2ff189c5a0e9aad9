"""Look-up and update of tables wherever their rows are: sharded ones through `exchange`; replicated ones here.

Every worker holds the whole of a replicated table and looks rows up without a word to the others. The gradients of
the touched rows come from all workers to all workers, each of which sums them in the order of the ranks and takes the
same step: the replicas stay the same, bit for bit.

Shapes: U distinct ids of this worker, S rows that came from all workers, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from nightjar.training.data.batch import Entries
from nightjar.training.run.collective import Collective, Parts, Pending
from nightjar.training.step import exchange
from nightjar.training.step.exchange import Rows
from nightjar.training.step.messages import join
from nightjar.training.tables.table import Table


@dataclass(frozen=True)
class RowRequest:
    """What a batch needs of each table, and what of it is on its way to the owners of sharded rows."""

    entries: Sequence[Entries]
    sharded: exchange.ShardRequest


def request(tables: Sequence[Table], entries: Sequence[Entries], collective: Collective) -> RowRequest:
    """Begin to ask for the rows that a batch needs of each table.

    Args:
        tables: sharded or replicated.
        entries: what the batch needs of each.
        collective: the workers.
    """
    sharded = [(table, e) for table, e in zip(tables, entries, strict=True) if not is_replicated(table, collective)]
    asked = exchange.request([table for table, _ in sharded], [e for _, e in sharded], collective)
    return RowRequest(entries, asked)


def look_up(tables: Sequence[Table], requested: RowRequest, collective: Collective) -> list[Rows]:
    """The rows of each table that were requested, as the last update left them.

    Args:
        tables: sharded or replicated.
        requested: of these tables.
        collective: the workers.
    """
    sharded = [table for table in tables if not is_replicated(table, collective)]
    answers = iter(exchange.look_up(sharded, requested.sharded, collective))
    return [
        Rows(table, e, table.weights(e.ids_U), None, [], e.ids_U) if is_replicated(table, collective) else next(answers)
        for table, e in zip(tables, requested.entries, strict=True)
    ]


def send_gradients(
    lookups: Sequence[Rows], gradients: Sequence[np.ndarray], sums: np.ndarray, collective: Collective
) -> Pending[tuple[np.ndarray, list[Rows], list[Parts]]]:
    """Begin to send gradients to where they are learned from: what exchange.update asks for.

    Args:
        lookups: the rows, by table.
        gradients: of the batch's summed loss by the rows, float32[U, D] each.
        sums: one-dimensional: this worker's part of sums that all workers learn; they travel in the same
            message.
        collective: the workers.
    """
    copied = [is_replicated(rows.table, collective) for rows in lookups]
    messages = [_to_all(sums, collective)]
    for rows, gradient_UD, copy in zip(lookups, gradients, copied, strict=True):
        if copy:
            messages += [_to_all(rows.places_S, collective), _to_all(gradient_UD, collective)]
        else:
            messages.append((torch.from_numpy(exchange.grouped(rows, gradient_UD)), rows.sent))
    sent = collective.begin_all_to_all([tensor for tensor, _ in messages], [splits for _, splits in messages])

    def wait() -> tuple[np.ndarray, list[Rows], list[Parts]]:
        of_ranks, *arrived = sent.wait()
        of_tables, rows, received = iter(arrived), [], []
        for looked_up, copy in zip(lookups, copied, strict=True):
            if copy:
                ids_S, _ = join(next(of_tables))
                looked_up = replace(looked_up, places_S=ids_S.numpy())
            rows.append(looked_up)
            received.append(next(of_tables))
        return np.sum([part.numpy() for part in of_ranks], axis=0), rows, received

    return Pending(wait)


def _to_all(array: np.ndarray, collective: Collective) -> tuple[Tensor, list[int]]:
    """The same rows for every worker: what to send, and its splits."""
    return torch.from_numpy(np.concatenate([array] * collective.size)), [len(array)] * collective.size


def is_replicated(table: Table, collective: Collective) -> bool:
    """Whether each of several workers holds the whole of this table."""
    return table.shard.world < collective.size
