"""Pooling by torch where the tables are on a device; autograd is its transpose.

The backward passes of `embedding` and of `embedding_bag` sort the entries of a row and add them up in the order of the
batch: on CUDA too the same batch gives the same bits, which index_add_ and its atomic additions would not.

Shapes: B rows, U distinct rows of a table, D width, C cells of a row, F single-valued columns in a table, K coordinates
that every row has, M ids of a multi-valued column.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from nightjar.training.data.batch import Entries, ListEntries
from nightjar.training.step.device import to_device


@dataclass(frozen=True)
class _Lists:
    """ListEntries on a device; index_M: rows of rows_UD."""

    index_M: Tensor
    offsets: Tensor
    coefficients_B1: Tensor


@dataclass(frozen=True)
class DeviceEntries:
    """Entries on a device. index_FB: rows of rows_UD, of each single-valued column. cells: of those columns, then of
    the lists.
    """

    index_FB: Tensor
    lists: tuple[_Lists, ...]
    x_BK: Tensor
    cells: Sequence[int]


def entries_on_device(entries: Sequence[Entries], device: torch.device) -> list[DeviceEntries]:
    """The entries of all tables of one batch, which share the index of the single-valued columns."""
    index_CB = to_device(entries[0].index_CB, device) if entries else None

    def lists(e: ListEntries) -> _Lists:
        index_M = to_device(e.index_M, device).long() + int(e.shift)
        return _Lists(index_M, to_device(e.offsets, device), to_device(e.coefficients_B[:, None], device))

    def moved(e: Entries) -> DeviceEntries:
        assert index_CB is not None
        fields_F3 = to_device(e.fields_F3, device)
        index_FB = index_CB[fields_F3[:, 0]] + fields_F3[:, 1:2]
        cells = [*e.fields_F3[:, 2].tolist(), *(a_list.cell for a_list in e.lists)]
        return DeviceEntries(index_FB, tuple(map(lists, e.lists)), to_device(e.x_BK, device), cells)

    return [moved(e) for e in entries]


def pool_on_device(rows_UD: Tensor, entries: DeviceEntries) -> Tensor:
    """[B, C * D]: the cells of every row side by side; see Entries."""
    addends: list[Tensor] = list(functional.embedding(entries.index_FB, rows_UD).unbind())
    for e in entries.lists:
        sums_BD = functional.embedding_bag(e.index_M, rows_UD, e.offsets, mode="sum", include_last_offset=True)
        addends.append(e.coefficients_B1 * sums_BD)
    cells: dict[int, list[Tensor]] = {}
    for cell, part_BD in zip(entries.cells, addends, strict=True):
        cells.setdefault(cell, []).append(part_BD)
    if always := entries.x_BK.shape[1]:
        cells.setdefault(0, []).append(entries.x_BK @ rows_UD[:always])
    sums = [parts[0] if len(parts) == 1 else torch.stack(parts).sum(dim=0) for _, parts in sorted(cells.items())]
    return torch.cat(sums, dim=1)
