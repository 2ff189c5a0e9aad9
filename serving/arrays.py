"""NumPy files on any file system; features.encoder.files reads them."""

from __future__ import annotations

import io
from collections.abc import Iterable

import numpy as np

from nightjar.features.contract import storage

_CHUNK_ROWS = 1 << 16


def write_array(url: str, array: np.ndarray) -> None:
    """Write a .npy file, whole or not at all."""
    content = io.BytesIO()
    np.save(content, array, allow_pickle=False)
    storage.write_bytes(url, content.getvalue())


def write_pieces(url: str, shape: tuple[int, ...], dtype: np.dtype, pieces: Iterable[np.ndarray]) -> None:
    """Write a .npy file of rows that come piece by piece, for a directory that is not published yet.

    Args:
        url: of the file.
        shape: of the whole array.
        dtype: of its values.
        pieces: consecutive rows.
    """
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    with storage.open_binary_writer(url) as stream:
        np.lib.format.write_array_header_1_0(stream, header)
        for piece in pieces:
            stream.write(np.ascontiguousarray(piece, dtype=dtype).data)


def is_finite(array: np.ndarray) -> bool:
    """True if no value is NaN or infinite; a memory-mapped array is read piece by piece."""
    return all(np.isfinite(array[n : n + _CHUNK_ROWS]).all() for n in range(0, len(array), _CHUNK_ROWS))
