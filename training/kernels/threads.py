"""Share a loop of a compiled kernel between threads: as many as torch uses."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import torch

_LEAST = 12288


def in_ranges(work: Callable[[int, int], object], count: int, least: int = _LEAST) -> None:
    """Call work(start, stop) on consecutive ranges that make up range(count), one a thread.

    The work must release Python's lock to gain by it, and its result must not depend on the ranges.

    Args:
        work: of a range.
        count: its length in all.
        least: a range below which another thread does not pay; as it is, of rows that take 10 to 20 ns each.
    """
    threads = max(1, min(torch.get_num_threads(), count // least))
    bounds = [count * t // threads for t in range(threads + 1)]
    others = [_executor(threads - 1).submit(work, *bounds[t : t + 2]) for t in range(1, threads)]
    work(0, bounds[1])
    for other in others:
        other.result()


@cache
def _executor(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="kernel")
