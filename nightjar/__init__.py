"""Nightly distributed training of click-through and ranking models; see README.md.

    import nightjar

    model = nightjar.load_champion("/data/nightjar/models")
    model.score(rows)

The folders below are links to those at the top of the repository (ARCHITECTURE.md, "One namespace").
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nightjar.serving.model import ServingModel

__all__ = ["__version__", "load", "load_champion"]
__version__ = "0.1.0"

# What scores is imported with the first model, so that `import nightjar` costs nothing.


def load(path: str, *, threads: int = 1, counters: str | None = None) -> ServingModel:
    """Load a published artifact, which scores raw rows. Every file's checksum is compared.

    Args:
        path: a local directory or an fsspec URL.
        threads: how many of them one call's dense layers use; calls may also come from several threads.
        counters: directory of published counters to serve with; None for those that the artifact was packed with, as of
            the day that it was judged on (`model.counters_as_of`).

    Raises DataError if the artifact is missing, damaged or inconsistent.
    """
    from nightjar.serving.model import load

    return load(path, threads=threads, counters=counters)


def load_champion(root: str, *, threads: int = 1) -> ServingModel:
    """Load the champion of a registry, with the counters of the day that it serves. `nightjar.serving.Ranker` holds one
    and follows every night.

    A promotion, a rollback or a prune at the same time does not matter: the model is loaded whole, of the one champion
    or of the other.

    Args:
        root: the folder `models` of a night's output: a local directory or an fsspec URL.
        threads: see `load`.

    Raises DataError if there is no champion, or if it is damaged.
    """
    from nightjar.serving.champion import load_champion

    return load_champion(root, threads=threads)
