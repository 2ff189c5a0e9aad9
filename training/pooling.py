"""From the rows of a table to the cells of a batch and back: a sparse matrix times the rows, and its transpose.

Shapes: B rows, U distinct rows of a table, D width, C cells of a row, E all that is pooled for a row side by side.
"""

from __future__ import annotations

import numpy as np

from training import kernels
from training.batch import Entries


def pool(rows_UD: np.ndarray, entries: Entries, out_BE: np.ndarray, start: int) -> None:
    """Overwrite columns [start, start + C * D) of out_BE (C-contiguous) with the cells of every row."""
    size, (rows, stride) = rows_UD.shape[1], out_BE.shape
    out = out_BE.reshape(-1)[start:]
    kernels.pool_fields(rows_UD, entries.index_FB, entries.cells_F, out, stride, entries.cells * size, 0, rows)
    for column in entries.lists:
        kernels.pool_lists(rows_UD, column.index_M, column.offsets, column.coefficients_B, column.cell, out, stride)
    if entries.x_BK.shape[1]:
        kernels.pool_dense(rows_UD, entries.x_BK, out)


def gradient_of_rows(cells_BE: np.ndarray, entries: Entries, size: int, start: int) -> np.ndarray:
    """[U, D]: the transpose of `pool`, for the gradient of its output (rows of E values without gaps in them)."""
    gradient_UD = np.zeros((len(entries.ids_U), size), dtype=np.float32)
    if not len(cells_BE):
        return gradient_UD
    stride = cells_BE.strides[0] // cells_BE.itemsize
    flat = np.lib.stride_tricks.as_strided(cells_BE[0, start:], ((len(cells_BE) - 1) * stride + entries.cells * size,))
    kernels.sum_fields(gradient_UD, entries.index_FB, entries.cells_F, flat, stride, 0, len(entries.index_FB))
    for column in entries.lists:
        kernels.sum_lists(gradient_UD, column.index_M, column.offsets, column.coefficients_B, column.cell, flat, stride)
    if entries.x_BK.shape[1]:
        kernels.sum_dense(gradient_UD, entries.x_BK, flat)
    return gradient_UD
