"""From the rows of a table to the cells of a batch and back: a sparse matrix times the rows, and its transpose.

Shapes: B rows, U distinct rows of a table, D width, C cells of a row, E all that is pooled for a row side by side.
"""

from __future__ import annotations

import numpy as np

from nightjar.training.data.batch import Entries
from nightjar.training.kernels import kernels
from nightjar.training.kernels.threads import in_ranges

_LOOKED_UP = 1 << 14  # rows that a thread pools, below which another does not pay


def pool(rows_UD: np.ndarray, entries: Entries, out_BE: np.ndarray, start: int) -> None:
    """Overwrite columns [start, start + C * D) of out_BE with the cells of every row.

    Args:
        rows_UD: the rows that the batch needs of a table.
        entries: which cells they go to.
        out_BE: C-contiguous.
        start: the first of the table's columns.
    """
    size, (rows, stride) = rows_UD.shape[1], out_BE.shape
    out = out_BE.reshape(-1)[start:]

    def of_rows(first: int, last: int) -> None:
        fields = (rows_UD, entries.index_CB, entries.fields_F3, out, stride, entries.cells * size)
        kernels.pool_fields(*fields, first, last)
        for e in entries.lists:
            lists = (e.index_M, e.shift, e.offsets, e.coefficients_B, e.cell)
            kernels.pool_list(rows_UD, lists, out, stride, first, last)
        if entries.x_BK.shape[1]:
            kernels.pool_dense(rows_UD, entries.x_BK, out, first, last)

    looked_up = rows * len(entries.fields_F3) + sum(len(e.index_M) for e in entries.lists)
    in_ranges(of_rows, rows, least=1 + _LOOKED_UP * rows // max(1, looked_up))


def gradient_of_rows(cells_BE: np.ndarray, entries: Entries, size: int, start: int) -> np.ndarray:
    """[U, D]: the transpose of `pool`, for the gradient of its output.

    Args:
        cells_BE: that gradient, rows of E values without gaps in them.
        entries: as for `pool`.
        size: D.
        start: the first of the table's columns.
    """
    gradient_UD = np.zeros((len(entries.ids_U), size), dtype=np.float32)
    if not len(cells_BE):
        return gradient_UD
    stride = cells_BE.strides[0] // cells_BE.itemsize
    flat = np.lib.stride_tricks.as_strided(cells_BE[0, start:], ((len(cells_BE) - 1) * stride + entries.cells * size,))

    def of_fields(first: int, last: int) -> None:
        kernels.sum_fields(gradient_UD, entries.index_CB, entries.fields_F3, flat, stride, first, last)

    def of_lists(first: int, last: int) -> None:
        for e in entries.lists[first:last]:
            lists = (e.index_M, e.shift, e.offsets, e.coefficients_B, e.cell)
            kernels.sum_list(gradient_UD, lists, flat, stride)

    # No two columns share a row of a table, so that threads never meet.
    in_ranges(of_fields, len(entries.fields_F3), least=1 + _LOOKED_UP // len(cells_BE))
    in_ranges(of_lists, len(entries.lists), least=1)
    if entries.x_BK.shape[1]:
        kernels.sum_dense(gradient_UD, entries.x_BK, flat)
    return gradient_UD
