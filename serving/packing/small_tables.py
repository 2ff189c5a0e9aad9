"""The trainer's float32 tables in 16 or 8 bits, a piece at a time; serving.tables reads them.

Shapes: R rows of a piece, D width of an embedding table, n wide coordinates.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np

from nightjar.features.contract.errors import DataError
from nightjar.features.contract.layout import BIAS

LARGEST_INT8 = 127
_PIECE_ROWS = 1 << 16


def pieces(table: np.ndarray) -> Iterator[np.ndarray]:
    """Rows of a table that is mapped from its file, so many at a time."""
    for start in range(0, len(table), _PIECE_ROWS):
        yield table[start : start + _PIECE_ROWS]


def to_int8(rows_RD: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(int8[R, D], float32[R]) of float32[R, D]: rounded multiples of each row's scale, its largest value over 127."""
    scale_R = np.abs(rows_RD).max(axis=1, initial=0.0) / np.float32(LARGEST_INT8)
    divisor_R = np.where(scale_R > 0, scale_R, 1).astype(np.float64)
    multiples_RD = np.rint(rows_RD / divisor_R[:, None])
    # A scale that is subnormal has few bits, so that multiples of it may be larger.
    return np.clip(multiples_RD, -LARGEST_INT8, LARGEST_INT8).astype(np.int8), scale_R


def to_float16(values: np.ndarray, source: str) -> np.ndarray:
    """float16 of float32, to the nearest. Raises DataError if a value is beyond its range. source: what it calls it."""
    with np.errstate(over="ignore"):
        return _within(values.astype(np.float16), values, source, "float16")


def to_bfloat16(values: np.ndarray, source: str) -> np.ndarray:
    """The upper 16 bits of float32, to the nearest, ties to even: uint16. Raises DataError as `to_float16`."""
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    upper = ((bits + np.uint32(0x7FFF) + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    _within((upper.astype(np.uint32) << 16).view(np.float32), values, source, "bfloat16")
    return upper


def to_small_weights(
    ids_n: np.ndarray, weights_n: np.ndarray, kind: Literal["float16", "bfloat16"], source: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Wide weights in 16 bits: (int64[m], float16[m] or uint16[m], the bias float32[1]); zeros are left out.

    Args:
        ids_n: int64[n], ascending.
        weights_n: float32[n].
        kind: of 16 bits.
        source: what an error calls the weights.

    Raises DataError if a weight is beyond the range.
    """
    is_bias_n = ids_n == BIAS
    bias = weights_n[is_bias_n] if is_bias_n.any() else np.zeros(1, dtype=np.float32)
    rest = weights_n[~is_bias_n]
    small = to_float16(rest, source) if kind == "float16" else to_bfloat16(rest, source)
    kept = (small != 0) if kind == "float16" else (small & 0x7FFF) != 0
    return ids_n[~is_bias_n][kept], small[kept], bias


def _within(small: np.ndarray, values: np.ndarray, source: str, kind: str) -> np.ndarray:
    finite = np.isfinite(small)
    if not finite.all():
        worst = float(np.abs(values[~finite]).max())
        raise DataError(f"{source} holds a weight of {worst:g}, beyond the range of {kind}. Pack it as float32.")
    return small
