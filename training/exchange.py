"""Look-up and update of sharded tables: the ids go to the rows' owners, the rows come back, and the gradients
go the way of the ids. All tables of a model travel together, so that a step waits three times, not three
times for each table.

Shapes: M entries of the batch, U distinct ids of this worker, S rows that workers asked of this owner, D
width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from training import kernels
from training.collective import Collective
from training.tables import Table


@dataclass(frozen=True)
class Rows:
    """The rows that a batch needs of a table.

    rows_UD: a leaf tensor that collects their gradient; index_M: the place of each entry's row in it. The
    rest is the way back: sent: rows asked of each worker; places_S: where this owner keeps the rows it was
    asked for.
    """

    table: Table
    rows_UD: Tensor
    index_M: np.ndarray
    sent: list[int]
    places_S: np.ndarray


@dataclass(frozen=True)
class _Request:
    """Distinct rows of a table, grouped by owner. places_U: their places at the owner; sent: how many of
    each.
    """

    places_U: np.ndarray
    index_M: np.ndarray
    sent: list[int]


def look_up(tables: Sequence[Table], ids: Sequence[np.ndarray], collective: Collective) -> list[Rows]:
    """The rows of each table for the ids (int64[M]) of this worker's share of a batch, each distinct one
    once.
    """
    requests = [_request(ids_M, collective.size) for ids_M in ids]
    asked = collective.all_to_all([torch.from_numpy(r.places_U) for r in requests], [r.sent for r in requests])
    places = [places_S.numpy() for places_S, _ in asked]
    weights = [torch.from_numpy(table.weights(places_S)) for table, places_S in zip(tables, places, strict=True)]
    answers = collective.all_to_all(weights, [received for _, received in asked])
    return [
        Rows(table, rows_UD.requires_grad_(), request.index_M, request.sent, places_S)
        for table, (rows_UD, _), request, places_S in zip(tables, answers, requests, places, strict=True)
    ]


def update(lookups: Sequence[Rows], batch_weight: float, collective: Collective) -> None:
    """Send the gradients of the batch's summed loss to the owners, which apply their table's rule once a row.

    batch_weight: sum of the row weights of the global batch, by which a table of mean gradients divides.
    """
    received = collective.all_to_all([gradient_of(rows) for rows in lookups], [rows.sent for rows in lookups])
    for rows, (gradient_SD, _) in zip(lookups, received, strict=True):
        places, total = rows.places_S, gradient_SD.numpy()
        if collective.size > 1:
            places, total = sum_duplicates(places, total)
        learn(rows.table, places, total, batch_weight)


def gradient_of(rows: Rows) -> Tensor:
    """[U, D], of the batch's summed loss."""
    return torch.zeros_like(rows.rows_UD) if rows.rows_UD.grad is None else rows.rows_UD.grad


def learn(table: Table, places_U: np.ndarray, total_UD: np.ndarray, batch_weight: float) -> None:
    """A step of the table's rule: on the summed gradient or on its mean, as the rule asks for."""
    table.update(places_U, total_UD / np.float32(batch_weight) if table.mean else total_UD)


def _request(ids_M: np.ndarray, world: int) -> _Request:
    ids_U, index_M = kernels.deduplicate(ids_M)
    if world == 1:
        return _Request(ids_U, index_M, [len(ids_U)])
    owner_U = ids_U % world
    order_U = np.argsort(owner_U, kind="stable")
    rank_U = np.empty_like(order_U)
    rank_U[order_U] = np.arange(len(order_U))
    return _Request(ids_U[order_U] // world, rank_U[index_M], np.bincount(owner_U, minlength=world).tolist())


def sum_duplicates(places_S: np.ndarray, gradient_SD: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct places, and the sum of the gradients that the workers sent for each, in the order of their
    ranks.
    """
    places, index_S = kernels.deduplicate(places_S)
    ones = np.ones(len(index_S), dtype=np.float32)
    return places, kernels.scatter(gradient_SD, np.arange(len(index_S)), index_S, ones, len(places))
