"""Where the memory of steps and of tables comes from."""

from __future__ import annotations

import ctypes
import mmap
import sys
from contextlib import suppress

import numpy as np
import numpy.typing as npt

_LARGE = 4 << 20
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # glibc's M_TRIM_THRESHOLD and M_MMAP_THRESHOLD


def keep_freed_memory() -> None:
    """Have malloc keep up to 1 GiB that is freed, in pieces below 32 MiB, instead of handing it back.

    A step allocates and frees the same tens of megabytes. Handed back each time, they come as thousands of new pages,
    and a tenth to a third of the step goes into having them cleared. Tables are larger pieces, and go back as ever.
    Does nothing where malloc is not glibc's.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt:
        mallopt(_MMAP_THRESHOLD, 32 << 20)
        mallopt(_TRIM_THRESHOLD, 1 << 30)


def zeros(rows: int, width: int, dtype: npt.DTypeLike) -> np.ndarray:
    """[rows, width] of zeros, which take memory when they are first written: pages of 2 MiB where the system has them.

    A table's rows are touched at random. Among pages of 4 KiB, every touch waits for the processor to find the page,
    and the first one for the kernel to give it.
    """
    size = rows * width * np.dtype(dtype).itemsize
    if size < _LARGE or not hasattr(mmap, "MADV_HUGEPAGE"):
        return np.zeros((rows, width), dtype=dtype)
    pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(OSError):  # of a kernel that has no such pages
        pages.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(pages, dtype=dtype).reshape(rows, width)
