"""Tables of every rule, and rounds of gradients for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch

from training import replication
from training.batch import Entries
from training.collective import Collective, Solo
from training.config import EmbeddingConfig, WideConfig
from training.step import pool
from training.tables import Shard, Table, embedding_table, wide_table

ROWS, ENTRIES, WIDTH, SEED = 60, 40, 3, 5
FTRL = WideConfig(alpha=0.1, beta=1.0, lambda1=0.7, lambda2=0.3)
Q213 = FTRL.model_copy(update={"precision": "q2.13"})

WIDE: Mapping[str, WideConfig] = {
    "ftrl": FTRL,
    "q2.13": Q213,
    "adagrad": WideConfig(rule="adagrad", learning_rate=0.07, initial_accumulator=0.2),
    "lazy_adam": WideConfig(rule="lazy_adam", learning_rate=0.01),
    "adam": WideConfig(rule="adam", learning_rate=0.01, l2=0.03),
}
EMBEDDINGS: Mapping[str, EmbeddingConfig] = {
    "adagrad": EmbeddingConfig(rule="adagrad", learning_rate=0.07, initial_accumulator=0.2),
    "row_adagrad": EmbeddingConfig(rule="row_adagrad", learning_rate=0.07, initial_accumulator=0.2),
    "lazy_adam": EmbeddingConfig(rule="lazy_adam", learning_rate=0.01),
    "adam": EmbeddingConfig(rule="adam", learning_rate=0.01, l2=0.03),
    "nonnegative": EmbeddingConfig(rule="adagrad", learning_rate=0.07, nonnegative=True),
}


def _wide(config: WideConfig) -> Callable[[Shard], Table]:
    return lambda shard: wide_table(shard, config, SEED)


def _embeddings(config: EmbeddingConfig) -> Callable[[Shard], Table]:
    return lambda shard: embedding_table(WIDTH, shard, config, SEED)


TABLES: Mapping[str, Callable[[Shard], Table]] = {
    **{f"wide {name}": _wide(config) for name, config in WIDE.items()},
    **{f"embeddings {name}": _embeddings(config) for name, config in EMBEDDINGS.items()},
}
SPARSE = [name for name in TABLES if not name.endswith(" adam")]


def learn(
    table: Table, ids: np.ndarray, gradients: np.ndarray, weight: float, collective: Collective | None = None
) -> np.ndarray:
    """Look ids up, give entry i the gradient gradients[i], update. Returns what was looked up, by entry."""
    collective = collective or Solo()
    [rows] = replication.look_up([table], [ids], collective)
    entries = Entries(ids, np.arange(len(ids)), np.ones(len(ids), dtype=np.float32), len(ids), 1)
    looked_up = pool(rows, entries)
    (looked_up * torch.from_numpy(gradients)).sum().backward()
    replication.update([rows], weight, collective)
    return looked_up.detach().numpy()


def rounds(width: int, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Ids with many duplicates, and a gradient for each: multiples of 1/64, so that float32 sums are exact in any
    order. The last five rows of ROWS never come.
    """
    rng = np.random.default_rng(3)
    return [
        (rng.zipf(1.5, ENTRIES) % (ROWS - 5), (rng.normal(size=(ENTRIES, width)) * 64).round().astype(np.float32) / 64)
        for _ in range(count)
    ]


def dense_gradient(ids: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    """Their sum by row, float64[ROWS, D]."""
    g = np.zeros((ROWS, gradients.shape[1]))
    np.add.at(g, ids, gradients.astype(np.float64))
    return g


def copy_of(table: Table) -> dict[str, np.ndarray]:
    """The state and the scalars as they are now."""
    return {name: array.copy() for name, array in {**table.state(), **table.scalars()}.items()}
