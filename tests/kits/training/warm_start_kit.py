"""A warm start against an oracle that goes by value, one value at a time, in plain Python.

The oracle knows a model as {what a parameter stands for: parameter}; two such dictionaries, before and after, say
everything about what was carried over, whatever the ids, widths and places.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from nightjar.features.contract.layout import TableLayout, dataset_columns, table_layout
from nightjar.features.contract.manifests import DatasetManifest, StateManifest
from nightjar.features.contract.publishing import commit, describe_files, manifest_digest, read_manifest
from nightjar.features.contract.spec import FeatureSpec
from nightjar.training.config import TrainingConfig
from nightjar.training.job import TrainingJob
from nightjar.training.run.collective import Collective
from nightjar.training.step.step import Learner
from nightjar.training.trainer import run_job
from nightjar.training.warm_start import WarmStart
from tests.kits.training.datasets import make_dataset

SPEC: dict[str, Any] = {
    "name": "spec",
    "label": "clicked",
    "timestamp": "time",
    "fields": [
        {"name": "user", "column": "user_id", "embedding": 4},
        {"name": "item", "embedding": 3},
        {"name": "tags", "multi_valued": True, "embedding": 4},
        {"name": "place", "embedding": 0},
    ],
    "dense": [{"name": "age"}, {"name": "price", "transform": "log"}],
    "crosses": [
        {"name": "user_item", "fields": ["user", "item"], "buckets": 16},
        {"name": "user_tags", "fields": ["user", "tags"], "buckets": 8},
    ],
    "frequencies": [{"name": "ctr", "keys": ["item"], "windows": ["1d", "7d"], "prior": 0.2}],
}
CHANGED: dict[str, Any] = {
    **SPEC,
    "fields": [
        {"name": "hour", "embedding": 4},  # new, and first
        {"name": "item", "embedding": 4},  # wider
        {"name": "visitor", "column": "user_id", "embedding": 4},  # renamed
        {"name": "place", "embedding": 2},  # joins the deep part
    ],  # tags are gone
    "dense": [{"name": "cost", "column": "price", "transform": "log"}, {"name": "age", "transform": "log"}],
    "crosses": [
        {"name": "pair", "fields": ["visitor", "item"], "buckets": 16},  # renamed
        {"name": "user_item", "fields": ["item", "visitor"], "buckets": 16},  # another order: another cross
    ],
    "frequencies": [{"name": "ctr", "keys": ["item"], "windows": ["7d"], "prior": 0.2}],
}
VALUES = {"user": range(100, 130), "item": range(20), "tags": range(7), "place": range(5)}
LATER = {"hour": range(24), "item": range(8, 40), "visitor": range(110, 160), "place": range(1, 6)}
OUTPUT = "deep.layers.output.weight"
TRAINING: dict[str, Any] = {
    "batch_size": 64,
    "lanes": 2,
    "wide": {"alpha": 0.1, "lambda1": 0.4, "lambda2": 0.1},
    "embeddings": {"init_scale": 0.5, "initial_accumulator": 1e-6},
    "deep": {"layers": [6, 4], "initial_accumulator": 1e-6},
}


@dataclass(frozen=True)
class Place:
    """A published state and a data set that was encoded under it. values: of each field, by id from 2 on."""

    state: str
    dataset: str
    values: Mapping[str, list[int]]
    spec: FeatureSpec

    @property
    def layout(self) -> TableLayout:
        return table_layout(dataset_columns(self.spec, {name: 2 + len(v) for name, v in self.values.items()}))


def make_place(root: Path, spec: Mapping[str, Any], values: Mapping[str, Any], seed: int) -> Place:
    """Ids are dealt to the values at random."""
    rng = np.random.default_rng(seed)
    dealt = {name: rng.permutation(list(v)).tolist() for name, v in values.items()}
    features = FeatureSpec.model_validate(spec)
    for field, of_field in dealt.items():
        (root / "state" / "vocabulary" / field).mkdir(parents=True)
        for part in range(2):
            table = pa.table(
                {
                    "hash": pa.array([hashed(v) for v in of_field[part::2]], pa.int64()),
                    "id": pa.array([2 + of_field.index(v) for v in of_field[part::2]], pa.int32()),
                }
            )
            pq.write_table(table, root / "state" / "vocabulary" / field / f"part-{part}.parquet")
    sizes = {name: 2 + len(v) for name, v in dealt.items()}
    state = StateManifest(
        files=describe_files(str(root / "state")),
        spec=features,
        spec_fingerprint=features.fingerprint,
        first_date="2025-01-01",
        through_date=f"2025-01-0{seed}",
        vocabulary_sizes=sizes,
        boundaries={},
    )
    commit(str(root / "state"), state)
    digest = manifest_digest(str(root / "state"))
    make_dataset(str(root / "dataset"), [150, 100], spec=features, sizes=sizes, seed=seed, state=digest, golden=30)
    return Place(str(root / "state"), str(root / "dataset"), dealt, features)


def hashed(value: int) -> int:
    return (value + 1) * 7_919_777_777_777 % 2**62 - 2**61


def train(place: Place, output: Path, warm_start: WarmStart | None = None, **changes: Any) -> str:
    config = TrainingConfig.model_validate(TRAINING | changes)
    run_job(TrainingJob(config, place.dataset, str(output), place.dataset, warm_start=warm_start))
    return str(output)


@dataclass(frozen=True)
class Old:
    """A parent, trained, and the place that it was trained at."""

    place: Place
    candidate: str


def warm(old: Old, place: Place, decay: float = 1.0) -> WarmStart:
    return WarmStart(old.candidate, old.place.state, place.state, decay)


def begin(place: Place, warm_start: WarmStart | None, collective: Collective, **changes: Any) -> Learner:
    """A learner that has not taken a step."""
    config = TrainingConfig.model_validate(TRAINING | changes)
    job = TrainingJob(config, place.dataset, "", warm_start=warm_start)
    learner = Learner(config, job.open().layout, collective)
    transfer = job.transfer(read_manifest(place.dataset, DatasetManifest))
    if transfer:
        transfer.fill(learner.wide, learner.embeddings, learner.head_tensors(), collective)
    return learner


def named_rows(place: Place) -> dict[str, dict[Hashable, tuple[str, int]]]:
    """By table, then by what a row stands for: (kind of thing, log columns, value)."""
    sources = {field.name: field.source for field in place.spec.fields}
    crosses = {c.name: tuple(sources[f] for f in c.fields) for c in place.spec.crosses}
    transforms = {d.name: (d.source, d.transform) for d in place.spec.dense}
    transforms |= {f"{d.name}_missing": (d.source, "missing") for d in place.spec.dense}

    def meanings(column: Any) -> list[Hashable]:
        if column.role == "field":
            values = ["missing", "oov", *place.values[column.feature]]
            return [("field", sources[column.feature], value) for value in values]
        if column.role == "cross":
            return [("cross", crosses[column.feature], column.size, bucket) for bucket in range(column.size)]
        return [("dense", transforms.get(column.feature, column.feature))]

    tables: dict[str, dict[Hashable, Any]] = {"wide": {"bias": 0}}
    for slot in place.layout.wide:
        tables["wide"] |= {m: slot.offset + i for i, m in enumerate(meanings(slot.column))}
    for width, slots in place.layout.embeddings.items():
        for slot in slots:
            rows = {m: slot.offset + i for i, m in enumerate(meanings(slot.column))}
            tables.setdefault(f"embedding_{width}", {}).update(rows)
    return tables


def embeddings_by_meaning(place: Place, arrays: Mapping[int, np.ndarray]) -> dict[Hashable, np.ndarray]:
    tables = named_rows(place)
    return {m: array[row] for width, array in arrays.items() for m, row in tables[f"embedding_{width}"].items()}


def of_parent(old: Old, kind: str) -> dict[Hashable, np.ndarray]:
    names = {"values": "scoring/embedding_{}.npy", "accumulators": "optimizer/embedding_{}_accumulators.npy"}
    widths = old.place.layout.embeddings
    return embeddings_by_meaning(old.place, {w: np.load(f"{old.candidate}/{names[kind].format(w)}") for w in widths})


def wide_weights(learner: Learner) -> np.ndarray:
    assert learner.wide is not None
    return learner.wide.weights(np.arange(learner.wide.shard.size))[:, 0]


def wide_array(old: Old, name: str, kind: str = "optimizer") -> np.ndarray:
    """An array of the parent's wide table, by row, float64; 0 where it has none."""
    array = np.load(f"{old.candidate}/{kind}/wide_{name}.npy")
    rows = np.zeros((old.place.layout.wide_rows, *array.shape[1:]))
    rows[np.load(f"{old.candidate}/{kind}/wide_ids.npy")] = array
    return rows


def parent_wide(old: Old) -> tuple[np.ndarray, np.ndarray]:
    """Weights and (z, n) of every row."""
    return wide_array(old, "weights", "scoring"), wide_array(old, "ftrl")


CHOICES: dict[str, dict[str, Any]] = {
    "default": {},
    "fixed point, adagrad by row": {
        "wide": TRAINING["wide"] | {"precision": "q2.13"},
        "embeddings": TRAINING["embeddings"] | {"rule": "row_adagrad"},
    },
    "lazy adam, batch norm": {
        "wide": {"rule": "lazy_adam"},
        "embeddings": {"rule": "lazy_adam"},
        "deep": TRAINING["deep"] | {"optimizer": "adam", "batch_norm": True},
    },
    "adam": {"wide": {"rule": "adam"}, "embeddings": {"rule": "adam"}, "deep": TRAINING["deep"] | {"optimizer": "sgd"}},
    "adagrad": {"wide": {"rule": "adagrad"}},
}
