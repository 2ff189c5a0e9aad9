"""Look-up and update of tables wherever their rows are: of sharded ones by `exchange`; of replicated ones here.

Every worker holds the whole of a replicated table: it looks rows up without a word to the others. The gradients of
the touched rows are gathered by all of them and summed in the order of the ranks, so that every replica takes the
same step and stays the same, bit for bit.

Shapes: M entries of the batch, U distinct ids of this worker, S rows that came from all workers, D width.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from training import exchange, kernels
from training.collective import Collective
from training.exchange import Rows, gradient_of, learn
from training.tables import Table


def look_up(tables: Sequence[Table], ids: Sequence[np.ndarray], collective: Collective) -> list[Rows]:
    """The rows of each table for the ids (int64[M]) of this worker's share of a batch, each distinct one once."""
    pairs = list(zip(tables, ids, strict=True))
    sharded = [pair for pair in pairs if not _is_replicated(pair[0], collective)]
    theirs = iter(exchange.look_up([table for table, _ in sharded], [ids_M for _, ids_M in sharded], collective))
    return [_own_rows(*pair) if _is_replicated(pair[0], collective) else next(theirs) for pair in pairs]


def update(lookups: Sequence[Rows], batch_weight: float, collective: Collective) -> None:
    """Apply each table's rule to the gradients of the batch's summed loss; see exchange.update."""
    exchange.update([r for r in lookups if not _is_replicated(r.table, collective)], batch_weight, collective)
    replicated = [rows for rows in lookups if _is_replicated(rows.table, collective)]
    ids = [torch.from_numpy(rows.places_S) for rows in replicated]
    gathered = _all_gather([*ids, *map(gradient_of, replicated)], collective)
    for rows, ids_S, gradient_SD in zip(replicated, gathered[: len(ids)], gathered[len(ids) :], strict=True):
        learn(rows.table, *exchange.sum_duplicates(ids_S.numpy(), gradient_SD.numpy()), batch_weight)


def _is_replicated(table: Table, collective: Collective) -> bool:
    return table.shard.world < collective.size


def _own_rows(table: Table, ids_M: np.ndarray) -> Rows:
    ids_U, index_M = kernels.deduplicate(ids_M)
    return Rows(table, torch.from_numpy(table.weights(ids_U)).requires_grad_(), index_M, [], ids_U)


def _all_gather(tensors: Sequence[Tensor], collective: Collective) -> list[Tensor]:
    """The rows of every worker, in the order of the ranks."""
    copies = [torch.cat([tensor] * collective.size) for tensor in tensors]
    received = collective.all_to_all(copies, [[len(tensor)] * collective.size for tensor in tensors])
    return [rows for rows, _ in received]
