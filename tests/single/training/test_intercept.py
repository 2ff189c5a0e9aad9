"""A model that begins with nothing begins at the base rate of its rows, by every rule and on any number of workers."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from nightjar.features.contract.layout import BIAS
from nightjar.features.contract.manifests import DatasetManifest
from nightjar.features.contract.publishing import commit, read_manifest
from nightjar.training.config import TrainingConfig, WideConfig
from nightjar.training.data.base_rate import base_log_odds
from nightjar.training.data.dataset import Dataset
from nightjar.training.job import TrainingJob
from nightjar.training.models import build_head
from nightjar.training.run.collective import Solo
from nightjar.training.tables.choice import wide_table
from nightjar.training.tables.shard import Shard
from nightjar.training.trainer import train
from nightjar.training.warm_start.intercept import begin_at
from tests.kits.training.cluster import run_cluster
from tests.kits.training.datasets import make_dataset
from tests.kits.training.table_kit import WIDE


def with_labels(directory: Path, rate: float, seed: int = 3) -> None:
    """Rewrite a data set's labels, independent of every feature."""
    rng = np.random.default_rng(seed)
    for path in sorted((directory / "data").iterdir()):
        table = pq.read_table(path)
        label = (rng.random(table.num_rows) < rate).astype(np.float32)
        column = table.column_names.index("label")
        table = table.set_column(column, table.schema.field(column), [label])
        pq.write_table(table, path, row_group_size=max(table.num_rows, 1))


def made(directory: Path, rows: list[int], rate: float) -> str:
    manifest = make_dataset(str(directory), rows)
    with_labels(directory, rate)
    files = tuple(
        entry.model_copy(update={"bytes": path.stat().st_size, "sha256": _sha256(path)})
        for entry in manifest.files
        for path in [directory / entry.path]
    )
    (directory / "manifest.json").unlink()
    commit(str(directory), manifest.model_copy(update={"files": files}))
    return str(directory)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("world", [1, 2, 3, 4])
def test_the_log_odds_are_those_of_the_weighted_labels_whoever_reads_them(tmp_path: Path, world: int) -> None:
    manifest = make_dataset(str(tmp_path / "d"), [31, 0, 17, 40, 5])
    dataset = Dataset.of(str(tmp_path / "d"), manifest)
    table = pq.read_table(tmp_path / "d" / "data", columns=["label", "weight"])
    label, weight = (table.column(name).to_numpy().astype(np.float64) for name in ("label", "weight"))
    assert not np.all(weight == 1.0)
    expected = np.log((weight @ label + 0.5) / (weight @ (1.0 - label) + 0.5))
    found = run_cluster(world, lambda collective: base_log_odds(dataset, collective))
    assert found == pytest.approx([expected] * world, rel=1e-12)
    assert set(found) == {base_log_odds(dataset, Solo())}


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_rows_of_one_class_leave_the_intercept_finite(tmp_path: Path, label: float) -> None:
    directory = made(tmp_path / "d", [60], label)
    found = base_log_odds(Dataset.of(directory, read_manifest(directory, DatasetManifest)), Solo())
    assert 4.0 < (found if label else -found) < 5.0


@pytest.mark.parametrize("rule", WIDE)
@pytest.mark.parametrize("log_odds", [-3.9, -0.2, 0.0, 2.5])
def test_under_every_rule_the_bias_is_the_log_odds_and_nothing_else_is_touched(rule: str, log_odds: float) -> None:
    """In q2.13 to the nearest multiple of 2^-13. The shard of rank 1 holds no bias and stays as it was."""
    config = WIDE[rule].resolved()
    for shard in (Shard(20), Shard(20, 0, 2), Shard(20, 1, 2)):
        table, fresh = wide_table(shard, config, 5), wide_table(shard, config, 5)
        begin_at(log_odds, table, config, torch.nn.Identity())
        places = np.arange(shard.size)
        weights, before = table.weights(places)[:, 0], fresh.weights(places)[:, 0]
        at = shard.place(BIAS)
        if at >= 0:
            tolerance = 2.0**-14 if config.precision == "q2.13" else 1e-6
            assert weights[at] == pytest.approx(log_odds, abs=tolerance)
            before[at] = weights[at]
        np.testing.assert_array_equal(weights, before)


def test_a_model_without_a_wide_part_has_it_in_its_output(tmp_path: Path) -> None:
    manifest = make_dataset(str(tmp_path / "d"), [10])
    config = TrainingConfig(model="deep").resolved
    head = build_head(config, Dataset.of(str(tmp_path / "d"), manifest).layout)
    begin_at(-4.5, None, WideConfig(), head)
    biases = [value for name, value in head.state_dict().items() if name.endswith("output.bias")]
    assert [bias.tolist() for bias in biases] == [[-4.5]]


@pytest.mark.parametrize("rate", [0.001, 0.01, 0.5, 0.99])
@pytest.mark.parametrize("model", ["lr", "wide_deep"])
def test_a_first_pass_is_calibrated_at_any_base_rate(tmp_path: Path, model: str, rate: float) -> None:
    """The log loss of the eight steps, each before it is learned from, is near the entropy of the labels."""
    dataset = made(tmp_path / "d", [2000] * 4, rate)
    settings = {"model": model, "batch_size": 1000, "deep": {"layers": [8]}}
    job = TrainingJob.of(TrainingConfig.model_validate(settings), dataset, str(tmp_path / "c"))
    statistics = train(job, Solo())
    labels = pq.read_table(tmp_path / "d" / "data", columns=["label"]).column("label").to_numpy()
    p = (labels.sum() + 0.5) / (len(labels) + 1)
    entropy = -(p * np.log(p) + (1 - p) * np.log1p(-p))
    assert statistics["first_epoch_log_loss"] < entropy + 0.02
