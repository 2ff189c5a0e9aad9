"""Every model of the family, small, and what it learns among workers: for the oracle that is one worker's run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from nightjar.features.contract.layout import ColumnSpec, table_layout
from nightjar.training.config import DeepConfig, TrainingConfig
from nightjar.training.data.batch import make_batch
from nightjar.training.data.columns import ROW_KEY, row_keys
from nightjar.training.models import MODELS, model_columns
from nightjar.training.models.mf import MatrixFactorizationConfig
from nightjar.training.run.collective import Collective, Solo
from nightjar.training.step.step import Learner

FIELDS, WIDTH, DENSE = 4, 3, 2
REGULARISED = DeepConfig(layers=(5, 4), activation="gelu", batch_norm=True, dropout=(0.2, 0.5))
MF = MatrixFactorizationConfig(fields=("0", "2"))
PLACEMENTS = ("sharded", "replicated")
Learned = Mapping[str, np.ndarray]
"""The losses of the steps, and what tables (`<table>/<array>`) and the head (`head/<state>/<name>`) have become."""


def columns_of(widths: list[int]) -> list[ColumnSpec]:
    """Fields 0, 1, ... of which field 2 is not in the wide part, a cross and dense columns."""
    columns = [ColumnSpec(name="label", feature="clicked", role="label")]
    columns += [
        ColumnSpec(name=f"f_{i}", feature=f"{i}", role="field", size=9, embedding=width, wide=i != 2)
        for i, width in enumerate(widths)
    ]
    columns.append(ColumnSpec(name="x_c", feature="c", role="cross", size=16, wide=True))
    return columns + [ColumnSpec(name=f"d_{i}", feature=f"{i}", role="dense", wide=True) for i in range(DENSE)]


def batches(columns: Sequence[ColumnSpec], steps: int, rows: int) -> Iterator[dict[str, np.ndarray]]:
    """Random rows, whose labels depend on the first field."""
    rng = np.random.default_rng(5)
    for step in range(steps):
        batch: dict[str, np.ndarray] = {ROW_KEY: row_keys(step, rows)}
        for column in columns:
            if column.size:
                batch[column.name] = rng.integers(0, column.size, rows).astype(np.int32)
            else:
                batch[column.name] = rng.random(rows, dtype=np.float32)
        batch["label"] = (rng.random(rows) < 0.2 + 0.6 * (batch["f_0"] % 2)).astype(np.float32)
        yield batch


def tables_of(learner: Learner) -> dict[str, np.ndarray]:
    """The state of its tables, live."""
    arrays = {f"wide/{name}": array for name, array in (learner.wide.state() if learner.wide else {}).items()}
    for table in learner.embeddings.values():
        arrays |= {f"embeddings/{name}": array for name, array in table.state().items()}
    return arrays


def learned(model: str, placement: str, collective: Collective) -> Learned:
    """Twelve batches with batch norm and dropout. Of several workers the last one has no rows in every other batch."""
    config = TrainingConfig.model_validate(
        {
            "model": model,
            "mf": MF,
            "deep": REGULARISED.model_copy(update={"learning_rate": 0.01}),
            "embeddings": {
                "init_scale": 0.5,
                "initial_accumulator": 1e-2,
                "learning_rate": 0.05,
                "placement": placement,
            },
            "wide": {"lambda1": 0.05, "placement": placement},
        }
    )
    used = model_columns(config, columns_of([WIDTH] * FIELDS))
    layout = table_layout(used)
    learner, losses = Learner(config, layout, collective), []
    for step, columns in enumerate(batches(used, 12, 40)):
        sharing = max(collective.size - step % 2, 1)
        part = slice(collective.rank, None, sharing) if collective.rank < sharing else slice(0, 0)
        share = make_batch({key: array[part] for key, array in columns.items()}, layout, step)
        losses.append(learner.step(share).loss)
    head = {f"head/{key}": tensor.numpy(force=True) for key, tensor in learner.head_tensors().items()}
    return {"losses": np.array(losses)} | tables_of(learner) | head


def all_learned(collective: Collective) -> dict[tuple[str, str], Learned]:
    """By model and placement."""
    return {(model, place): learned(model, place, collective) for model in sorted(MODELS) for place in PLACEMENTS}


def assert_learned_what_one_learns(model: str, placement: str, workers: Sequence[Learned]) -> None:
    """The workers' losses and heads, and their tables, joined or each of them, are those of one worker."""
    alone = learned(model, placement, Solo())
    for key, expected in alone.items():
        rtol, atol = (1e-4, 0.0) if key == "losses" else (2e-3, 2e-5)
        found = [worker[key] for worker in workers]
        if "head/" not in key and key != "losses":
            if placement == "sharded":
                joined = np.empty_like(expected)
                for rank, shard in enumerate(found):
                    joined[rank :: len(workers)] = shard
                found = [joined]
            else:
                assert len({replica.tobytes() for replica in found}) == 1, f"the replicas of {key} differ"
        for one in found:
            np.testing.assert_allclose(one, expected, rtol, atol, err_msg=f"{model} {placement} {key}")
    assert alone["losses"][-3:].mean() < alone["losses"][0], "or nothing was learned"
