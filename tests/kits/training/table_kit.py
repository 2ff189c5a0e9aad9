"""Tables of every rule, and rounds of gradients for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from nightjar.training.config import EmbeddingConfig, TableConfig, WideConfig
from nightjar.training.data.batch import Entries
from nightjar.training.run.collective import Collective, Solo
from nightjar.training.step import exchange, replication
from nightjar.training.step.exchange import Rows
from nightjar.training.step.lookup.pooling import gradient_of_rows, pool
from nightjar.training.tables.choice import embedding_table, place, wide_table
from nightjar.training.tables.shard import Shard
from nightjar.training.tables.table import Table

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
    requested = replication.request([table], [single_field(ids)], collective)
    [rows] = replication.look_up([table], requested, collective)
    looked_up = np.empty_like(gradients)
    pool(rows.rows_UD, rows.entries, looked_up, 0)
    teach([rows], [gradient_of_rows(gradients, rows.entries, table.width, 0)], weight, collective)
    return looked_up


def teach(rows: list[Rows], gradients: list[np.ndarray], weight: float, collective: Collective) -> None:
    """Update tables by the gradients of the rows that were looked up."""
    _, lookups, received = replication.send_gradients(rows, gradients, np.zeros(1), collective).wait()
    exchange.update(lookups, received, weight)


def single_field(ids: np.ndarray) -> Entries:
    """One id a row, each in a cell of its own."""
    unique, index = np.unique(ids, return_inverse=True)
    nothing = np.empty((len(ids), 0), dtype=np.float32)
    return Entries(unique, nothing, index.astype(np.int32)[None, :], np.zeros((1, 3), dtype=np.int64), (), 1)


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


def all_learn(collective: Collective, placement: str, steps: int) -> dict[str, np.ndarray]:
    """The state of every table after these many rounds. Worker r gives the entries r, r + n - 1, ... of each; the last
    of n > 1 workers gives none.
    """
    rank, size = collective.rank, collective.size
    part = slice(rank, None, max(size - 1, 1)) if rank < size - 1 or size == 1 else slice(0, 0)
    config = TableConfig(placement=placement)  # type: ignore[arg-type]
    states = {}
    for name, make in TABLES.items():
        table = make(place(config, ROWS, rank, size))
        for ids, gradients in rounds(table.width, steps):
            learn(table, ids[part], gradients[part], 4.0, collective)
        states |= {f"{name}/{array}": values for array, values in copy_of(table).items()}
    return states
