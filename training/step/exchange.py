"""Look-up and update of sharded tables: the ids go to the rows' owners, the rows come back, and the gradients
go the way of the ids. All tables of a model travel together, so that a step waits three times, not three
times for each table; the ids of the next batch travel while this one is computed.

Shapes: U distinct ids of this worker, S rows that workers asked of this owner, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from nightjar.training.data.batch import Entries
from nightjar.training.kernels import kernels
from nightjar.training.run.collective import Collective, Parts, Pending
from nightjar.training.step.device import HOST, to_device
from nightjar.training.step.messages import join
from nightjar.training.tables.table import Table


@dataclass(frozen=True)
class ShardRequest:
    """The distinct rows of each table that a batch needs, on their way to the rows' owners.

    order: of each table, its rows grouped by owner, int64[U]; None where this worker owns all. sent: how many of each
    owner.
    """

    entries: Sequence[Entries]
    order: Sequence[np.ndarray | None]
    sent: Sequence[list[int]]
    asked: Pending[list[Parts]]


@dataclass(frozen=True)
class Rows:
    """The rows that a batch needs of a table: rows_UD[u] is row entries.ids_U[u].

    The rest is the way back: places_S: where this owner keeps the rows it was asked for; see Request.
    """

    table: Table
    entries: Entries
    rows_UD: np.ndarray
    order: np.ndarray | None
    sent: list[int]
    places_S: np.ndarray


def request(
    tables: Sequence[Table], entries: Sequence[Entries], collective: Collective, device: torch.device = HOST
) -> ShardRequest:
    """Begin to ask the owners for the rows that a batch needs of each table.

    Args:
        tables: sharded over the workers.
        entries: what the batch needs of each.
        collective: the workers.
        device: where the ids travel from and to.
    """
    order: list[np.ndarray | None] = [None] * len(entries)
    places, sent = [e.ids_U for e in entries], [[len(e.ids_U)] for e in entries]
    if collective.size > 1:
        for t, (table, e) in enumerate(zip(tables, entries, strict=True)):
            dealt = table.shard.by_owner(e.ids_U)
            order[t], places[t], sent[t] = dealt.order_U, dealt.places_U, dealt.counts
    asked = collective.begin_all_to_all([to_device(places_U, device) for places_U in places], sent)
    return ShardRequest(entries, order, sent, asked)


def look_up(tables: Sequence[Table], requested: ShardRequest, collective: Collective) -> list[Rows]:
    """The rows of each table that were requested, as the last update left them.

    Args:
        tables: sharded over the workers.
        requested: of these tables.
        collective: the workers.
    """
    asked = list(map(join, requested.asked.wait()))
    places = [places_S.numpy() for places_S, _ in asked]
    weights = [torch.from_numpy(table.weights(places_S)) for table, places_S in zip(tables, places, strict=True)]
    answers = collective.begin_all_to_all(weights, [counts for _, counts in asked]).wait()
    return [
        Rows(table, entries, _ungroup(parts, order), order, sent, places_S)
        for table, entries, order, sent, parts, places_S in zip(
            tables, requested.entries, requested.order, requested.sent, answers, places, strict=True
        )
    ]


def grouped(rows: Rows, gradient_UD: np.ndarray) -> np.ndarray:
    """The gradient by the rows as their owners are sent it: rows.sent of it to each."""
    if rows.order is None:
        return gradient_UD
    grouped_UD = np.empty_like(gradient_UD)
    kernels.take_rows(gradient_UD, rows.order, grouped_UD, 0, len(rows.order))
    return grouped_UD


def update(lookups: Sequence[Rows], received: Sequence[Parts], batch_weight: float) -> None:
    """Apply each table's rule once a row.

    Args:
        lookups: the rows, by table.
        received: the gradients that were sent to this owner.
        batch_weight: sum of the row weights of the global batch, by which a table of mean gradients divides.
    """
    for rows, parts in zip(lookups, received, strict=True):
        places, total = rows.places_S, parts[0].numpy()
        if len(parts) > 1:
            places, total = _sum_duplicates(places, parts)
        if rows.table.mean:
            np.divide(total, np.float32(batch_weight), out=total)
        rows.table.update(places, total)


def _ungroup(parts: Parts, order: np.ndarray | None) -> np.ndarray:
    """The rows that came from each owner, in the order in which the batch names them."""
    if order is None:
        return parts[0].numpy()
    rows_UD = np.empty((len(order), *parts[0].shape[1:]), dtype=np.float32)
    first = 0
    for part in parts:
        kernels.put_rows(rows_UD, order[first : first + len(part)], part.numpy())
        first += len(part)
    return rows_UD


def _sum_duplicates(places_S: np.ndarray, parts: Parts) -> tuple[np.ndarray, np.ndarray]:
    """Distinct places, and the sum of the gradients that the workers sent for each, in the order of their ranks."""
    places, _, index_S = kernels.deduplicate(places_S, np.array([0, len(places_S)]))
    total = np.empty((len(places), *parts[0].shape[1:]), dtype=np.float32)
    first = known = 0
    for part in parts:
        known = kernels.add_rows(total, known, index_S[first : first + len(part)], part.numpy())
        first += len(part)
    return places, total
