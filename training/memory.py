"""Memory of a step stays with the process from one step to the next."""

from __future__ import annotations

import ctypes
import sys

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
