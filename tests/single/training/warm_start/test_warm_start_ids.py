"""A warm start between vocabularies that forget: every row is that of its value, or as fresh as in a new model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nightjar.features.contract.layout import TableLayout, table_layout
from nightjar.features.contract.manifests import DatasetManifest, StateManifest
from nightjar.features.contract.publishing import commit, describe_files, manifest_digest, read_manifest
from nightjar.features.contract.spec import FeatureSpec
from nightjar.training.config import TrainingConfig
from nightjar.training.job import TrainingJob
from nightjar.training.run.collective import Solo
from nightjar.training.step.step import Learner
from nightjar.training.trainer import run_job
from nightjar.training.warm_start import WarmStart
from tests.kits.training.datasets import make_dataset

CONFIG = TrainingConfig.model_validate(
    {
        "batch_size": 32,
        "lanes": 1,
        "wide": {"lambda1": 0.0},
        "embeddings": {"init_scale": 0.5},
        "deep": {"layers": [4]},
    }
)
# What is at 5 in the parent, and at 4 in the child, is retired; `returned` was retired in the parent.
OLD = {"f_user": {"stays": 3, "retires": 4, "old": 6}, "x_pair": {"p": 2, "q": 4}}
NEW = {"f_user": {"stays": 3, "returned": 5, "old": 6, "new": 7}, "x_pair": {"q": 4, "r": 5}}


def spec(*, oov_buckets: int = 2, item_buckets: int = 4, admission: Mapping[str, Any] | None = None) -> FeatureSpec:
    return FeatureSpec.model_validate(
        {
            "name": "s",
            "label": "clicked",
            "timestamp": "time",
            "fields": [
                {"name": "user", "oov_buckets": oov_buckets, "embedding": 3},
                {"name": "item", "kind": "hashed", "buckets": item_buckets, "embedding": 3},
            ],
            "crosses": [
                {"name": "pair", "fields": ["user", "item"], "vocabulary": "exact"},
                {"name": "some", "fields": ["item", "user"], "buckets": 8, "admission": admission or {"by": "all"}},
            ],
        }
    )


@dataclass(frozen=True)
class Place:
    state: str
    dataset: str

    @property
    def layout(self) -> TableLayout:
        return table_layout(read_manifest(self.dataset, DatasetManifest).columns)


def make_place(root: Path, features: FeatureSpec, ids: Mapping[str, Mapping[str, int]]) -> Place:
    for column, of_column in ids.items():
        folder = root / "state" / column.replace("f_", "vocabulary/").replace("x_", "cross/")
        folder.mkdir(parents=True)
        hashes = [int.from_bytes(value.encode(), "big") for value in of_column]
        table = pa.table({"hash": hashes, "id": pa.array(of_column.values(), pa.int32())})
        pq.write_table(table, folder / "part-00000.parquet")
    sizes = {"user": 1 + max(ids["f_user"].values()), "item": 1 + features.field("item").hash_ids}
    cross_sizes = {"pair": 1 + max(ids["x_pair"].values())}
    manifest = StateManifest(
        files=describe_files(str(root / "state")),
        spec=features,
        spec_fingerprint=features.fingerprint,
        first_date="2025-01-01",
        through_date="2025-01-02",
        vocabulary_sizes=sizes,
        cross_sizes=cross_sizes,
        boundaries={},
    )
    commit(str(root / "state"), manifest)
    digest = manifest_digest(str(root / "state"))
    make_dataset(
        str(root / "dataset"), [200], spec=features, sizes=sizes, cross_sizes=cross_sizes, state=digest, golden=4
    )
    return Place(str(root / "state"), str(root / "dataset"))


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> tuple[Place, str]:
    root = tmp_path_factory.mktemp("parent")
    place = make_place(root, spec(admission={"by": "count", "min_count": 2}), OLD)
    run_job(TrainingJob(CONFIG, place.dataset, str(root / "candidate"), place.dataset))
    return place, str(root / "candidate")


def learner_of(place: Place, start: WarmStart | None) -> Learner:
    job = TrainingJob(CONFIG, place.dataset, "", warm_start=start)
    learner = Learner(CONFIG, job.open().layout, Solo())
    transfer = job.transfer(read_manifest(place.dataset, DatasetManifest))
    if transfer:
        transfer.fill(learner.wide, learner.embeddings, learner.head_tensors(), Solo())
    return learner


def rows_of(place: Place, learner: Learner) -> dict[str, np.ndarray]:
    """Of each column of ids, its wide weights, and its embeddings under `embedding of <column>`."""
    assert learner.wide is not None
    weights = learner.wide.weights(np.arange(place.layout.wide_rows))[:, 0]
    vectors = learner.embeddings[3].state()["values"]
    wide = {slot.column.name: weights[slot.offset : slot.offset + slot.size] for slot in place.layout.wide}
    slots = place.layout.embeddings[3]
    return wide | {f"embedding of {s.column.name}": vectors[s.offset : s.offset + s.size] for s in slots}


def parent_rows(place: Place, candidate: str) -> dict[str, np.ndarray]:
    weights = np.zeros(place.layout.wide_rows, np.float32)
    weights[np.load(f"{candidate}/scoring/wide_ids.npy")] = np.load(f"{candidate}/scoring/wide_weights.npy")
    vectors = np.load(f"{candidate}/scoring/embedding_3.npy")
    wide = {slot.column.name: weights[slot.offset : slot.offset + slot.size] for slot in place.layout.wide}
    slots = place.layout.embeddings[3]
    return wide | {f"embedding of {s.column.name}": vectors[s.offset : s.offset + s.size] for s in slots}


@pytest.mark.parametrize(
    ("settings", "carried"),
    [
        (
            {"admission": {"by": "count", "min_count": 5}},
            {"f_user": {0, 1, 2, 3, 6}, "f_item": {0, 1, 2, 3, 4}, "x_pair": {0, 1, 4}, "x_some": set(range(9))},
        ),
        (
            {"oov_buckets": 2, "item_buckets": 5},
            {"f_user": {0, 1, 2, 3, 6}, "f_item": {0}, "x_pair": {0, 1, 4}, "x_some": set(range(8))},
        ),
    ],
    ids=["the same ids by hash", "other buckets, and no admission any more"],
)
def test_rows_follow_their_values_and_those_of_the_retired_begin_anew(
    parent: tuple[Place, str], settings: dict[str, Any], carried: dict[str, set[int]], tmp_path: Path
) -> None:
    old, candidate = parent
    place = make_place(tmp_path, spec(**settings), NEW)
    before = parent_rows(old, candidate)
    fresh, after = (
        rows_of(place, learner_of(place, start)) for start in (None, WarmStart(candidate, old.state, place.state))
    )
    for column, rows in after.items():
        kept = carried[column.removeprefix("embedding of ")]
        for number, row in enumerate(rows):
            expected = before[column][number] if number in kept else fresh[column][number]
            np.testing.assert_array_equal(row, expected, err_msg=f"{column} {number}")
        moved = [n for n in range(min(len(rows), len(before[column]))) if np.any(before[column][n] != fresh[column][n])]
        assert set(moved) & kept, "or nothing was learned"
    assert np.any(before["f_user"][[4, 5]]), "or the retired had learned nothing"
