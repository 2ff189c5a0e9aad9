"""Rows of a .npy file at any URL, read a piece at a time."""

from __future__ import annotations

from types import TracebackType

import numpy as np

from nightjar.features.contract import storage
from nightjar.features.contract.errors import DataError
from nightjar.features.encoder.files import array_header


class ArrayFile:
    """An array in a file: array[a:b] reads these rows and nothing else. A context manager."""

    def __init__(self, url: str) -> None:
        """Read the header. Raises FileNotFoundError, and DataError if this is no .npy file."""
        self._url = url
        self._stream = storage.open_binary(url)
        try:
            self.shape, self.dtype = array_header(self._stream, url)
        except DataError:
            self._stream.close()
            raise
        self._begin = self._stream.tell()
        self._row_bytes = self.dtype.itemsize * int(np.prod(self.shape[1:], dtype=np.int64))

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, rows: slice) -> np.ndarray:
        """Rows [start, stop), a read-only array. Raises DataError if the file ends too early."""
        start, stop, _ = rows.indices(len(self))
        self._stream.seek(self._begin + start * self._row_bytes)
        wanted = max(0, stop - start) * self._row_bytes
        content = self._stream.read(wanted)
        if len(content) != wanted:
            raise DataError(f"{self._url} ends within its rows {start} to {stop} of {len(self)}. Restore it.")
        return np.frombuffer(content, dtype=self.dtype).reshape(-1, *self.shape[1:])

    def __enter__(self) -> ArrayFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()
