"""A generated data set in memory, for rivals that have no loader of their own. Runs in the rivals' environment."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from nightjar.features.contract.artifact_files import DATA


def in_memory(directory: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ids int64 [rows, fields], dense columns float32 [rows, N], labels float32 [rows]."""
    table = pa.concat_tables(pq.read_table(path) for path in sorted(Path(directory, DATA).glob("*.parquet")))
    ids = [name for name in table.column_names if name.startswith("f_")]
    dense = [name for name in table.column_names if name.startswith("d_")]
    return (
        np.stack([table.column(name).to_numpy() for name in ids], axis=1).astype(np.int64),
        np.array([table.column(name).to_numpy() for name in dense], dtype=np.float32).reshape(len(dense), len(table)).T,
        table.column("label").to_numpy(),
    )


def log_loss(label_B: np.ndarray, logit_B: np.ndarray) -> float:
    """Mean log loss, in nats."""
    return float(np.mean(np.logaddexp(0.0, logit_B) - label_B * logit_B))
