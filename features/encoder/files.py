"""Arrays and tables of published directories, read with a bound on memory, whoever wrote the files.

A file that is not what it should be is a DataError. What it claims of its own size is compared with the file before
anything is allocated: a header of 128 bytes may name a shape of petabytes.
"""

from __future__ import annotations

import io
import math
import os
import zipfile
from collections.abc import Sequence
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from nightjar.features.contract import storage
from nightjar.features.contract.errors import DataError

# A table may hold so many values whatever the size of its file, and more of them only if the file is large itself.
MOST_VALUES = 2**24
VALUES_A_BYTE = 64
MOST_BYTES_A_VALUE = 64
_KINDS = "biuf"
_REMEDY = "Restore it, or run the step that writes it again."


def array_header(stream: BinaryIO, url: str) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type of a .npy file of plain numbers, row by row; the stream is at its first value afterwards.

    Raises DataError if it is none.
    """
    try:
        version = np.lib.format.read_magic(stream)
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, fortran_order, dtype = read_header(stream)
        if fortran_order and len(shape) > 1:
            raise ValueError("its rows do not lie one behind the other")
        if dtype.kind not in _KINDS:
            raise ValueError(f"it holds values of type {dtype}")
        if not all(isinstance(side, int) and side >= 0 for side in shape):
            raise ValueError(f"it has the shape {shape}")
    except Exception as error:  # NumPy asks Python's own parser, which raises errors of many kinds
        raise DataError(f"{url} is no array that can be read: {error}. {_REMEDY}") from error
    return shape, dtype


def read_array(url: str) -> np.ndarray:
    """The array of a .npy file, memory-mapped and read-only where the file is local. Raises DataError if it is none."""
    fs, path = storage.file_system(url)
    if not isinstance(fs, LocalFileSystem):
        content = storage.read_bytes(url)
        return array_of(content, url)
    with open(path, "rb") as stream:
        shape, dtype = array_header(stream, url)
        begin = stream.tell()
        _require_size(shape, dtype, os.fstat(stream.fileno()).st_size - begin, url)
        if not math.prod(shape):  # an empty file cannot be mapped
            return np.zeros(shape, dtype)
        return np.asarray(np.memmap(stream, dtype=dtype, mode="r", offset=begin, shape=shape))


def read_arrays(content: bytes, url: str) -> dict[str, np.ndarray]:
    """The arrays of an uncompressed .npz file by name. Raises DataError if it is none."""
    arrays = {}
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for member in archive.infolist():
                if member.compress_type != zipfile.ZIP_STORED or member.file_size > len(content):
                    raise DataError(f"{url} holds {member.filename!r} in a compressed form. {_REMEDY}")
                with archive.open(member) as stream:
                    array = array_of(stream.read(), f"{url} ({member.filename})")
                arrays[member.filename.removesuffix(".npy")] = array
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, EOFError) as error:
        raise DataError(f"{url} is no archive of arrays: {error}. {_REMEDY}") from error
    return arrays


def read_table(source: BinaryIO | bytes, url: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Columns of a Parquet file, all if None. Raises DataError if it cannot be read, or would be too large in memory.

    Args:
        source: the file, or its content.
        url: what the error calls it.
        columns: their names.
    """
    try:
        stream = pa.BufferReader(source) if isinstance(source, bytes) else source
        with pq.ParquetFile(stream) as file:
            stream.seek(0, os.SEEK_END)
            _require_modest(file.metadata, stream.tell(), url)
            missing = [name for name in columns or () if name not in file.schema_arrow.names]
            if missing:
                raise DataError(f"{url} lacks the columns {missing}; it has {file.schema_arrow.names}. {_REMEDY}")
            return file.read(columns=None if columns is None else list(columns))
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        raise DataError(f"{url} cannot be read: {str(error)[:300]}. {_REMEDY}") from error


def array_of(content: bytes, url: str) -> np.ndarray:
    """The array that the content of a .npy file holds, read-only. Raises DataError if it holds none."""
    stream = io.BytesIO(content)
    shape, dtype = array_header(stream, url)
    _require_size(shape, dtype, len(content) - stream.tell(), url)
    return np.frombuffer(stream.read(), dtype=dtype).reshape(shape)


def _require_size(shape: tuple[int, ...], dtype: np.dtype, size: int, url: str) -> None:
    wanted = math.prod(shape) * dtype.itemsize
    if wanted != size:
        raise DataError(f"{url} says that it holds {wanted} bytes of shape {shape}; it holds {size}. {_REMEDY}")


def _require_modest(metadata: pq.FileMetaData, size: int, url: str) -> None:
    values = expanded = 0
    for group in range(metadata.num_row_groups):
        row_group = metadata.row_group(group)
        for place in range(row_group.num_columns):
            column = row_group.column(place)
            values += column.num_values
            expanded += column.total_uncompressed_size
    most = max(MOST_VALUES, VALUES_A_BYTE * size)
    if values > most or metadata.num_rows > most or expanded > MOST_BYTES_A_VALUE * most:
        raise DataError(
            f"{url} would hold {metadata.num_rows} rows, {values} values and {expanded} bytes, out of {size} bytes: "
            f"not what Nightjar writes. {_REMEDY}"
        )
