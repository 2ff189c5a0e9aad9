"""What becomes of numbers that are hard to learn from: the table in docs/numbers.md, line by line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nightjar.features.contract.errors import DataError, UsageError
from nightjar.features.contract.manifests import CandidateManifest, DatasetManifest
from nightjar.features.contract.publishing import commit, describe_files, read_manifest
from nightjar.features.contract.spec import DenseFeature, FeatureSpec
from nightjar.features.encoder.dense import Moments, encode_dense
from nightjar.training.config import TrainingConfig
from nightjar.training.job import TrainingJob
from nightjar.training.trainer import run_job
from tests.kits.training.datasets import SPEC, make_dataset

ROWS = (60, 60)
Row = int | slice


def dataset_with(directory: Path, column: str, row: Row, value: object, spec: FeatureSpec = SPEC) -> str:
    """A published data set one of whose files holds this value, in its manifest too: as a faulty build leaves it."""
    manifest = make_dataset(str(directory), ROWS, spec=spec)
    paths = sorted((directory / "data").iterdir())
    for path in paths if row == slice(None) else paths[1:]:
        table = pq.read_table(path)
        values = table.column(column).to_pylist()
        values[row] = value if isinstance(row, int) else [value] * len(values)
        place = table.column_names.index(column)
        array = pa.array(values, table.schema.field(column).type)
        pq.write_table(table.set_column(place, column, array), path, row_group_size=len(values))
    rows = {entry.path: entry.rows for entry in manifest.files}
    files = tuple(e.model_copy(update={"rows": rows[e.path]}) for e in describe_files(str(directory)))
    commit(str(directory), manifest.model_copy(update={"files": files}))
    return str(directory)


def train(dataset: str, output: Path, **settings: object) -> Mapping[str, float]:
    config = {"epochs": 2, "batch_size": 16, "lanes": 2, "deep": {"layers": [4]}, **settings}
    job = TrainingJob.of(TrainingConfig.model_validate(config), dataset, str(output))
    run_job(job)
    return read_manifest(job.output, CandidateManifest).statistics


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("d_age", float("nan"), r"1 values of 'd_age' are not finite .*, the first at 7: nan"),
        ("d_age", float("inf"), r"'d_age' are not finite .*: inf"),
        ("d_price", -float("inf"), r"'d_price' are not finite .*: -inf"),
        ("d_price", float(np.finfo(np.float32).max), r"'d_price' are not finite .*take them out of 'price' in the log"),
        ("label", float("nan"), "'label' are not 0 or 1, the first at 7: nan"),
        ("label", 0.5, "'label' are not 0 or 1, the first at 7: 0.5"),
        ("label", 2.0, "'label' are not 0 or 1"),
        ("weight", float("nan"), "'weight' are not finite and not negative, the first at 7: nan"),
        ("weight", -1.0, "'weight' are not finite and not negative, the first at 7: -1"),
        ("weight", float("inf"), "'weight' are not finite and not negative"),
        ("f_user", 50, r"'f_user' are not ids in \[0, 50\), the first at 7: 50"),
        ("f_user", -1, r"'f_user' are not ids in \[0, 50\), the first at 7: -1"),
        ("f_tags", [1, 30], r"'f_tags' are not ids in \[0, 30\)"),
        ("x_user_item", 1 << 30, "'x_user_item' are not ids"),
    ],
)
def test_a_value_that_would_spread_stops_the_run_and_is_named(
    tmp_path: Path, column: str, value: object, said: str
) -> None:
    dataset = dataset_with(tmp_path / "dataset", column, 7, value)
    with pytest.raises(DataError, match=rf"part-00001\.parquet: .*{said}"):
        train(dataset, tmp_path / "out")


@pytest.mark.parametrize("model", ["wide_deep", "deep", "lr"])
@pytest.mark.parametrize("label", [0.0, 1.0])
def test_one_class_alone_is_learned(tmp_path: Path, label: float, model: str) -> None:
    statistics = train(dataset_with(tmp_path / "dataset", "label", slice(None), label), tmp_path / "out", model=model)
    assert 0 < statistics["last_epoch_log_loss"] < statistics["first_epoch_log_loss"] < 0.7


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_one_class_alone_cannot_be_validated_by_what_compares_the_two(tmp_path: Path, label: float) -> None:
    grouped = SPEC.model_copy(update={"group": "user"})
    dataset = dataset_with(tmp_path / "dataset", "label", slice(None), label, grouped)
    for metric in ("auc", "gauc", "normalized_entropy"):
        with pytest.raises(
            DataError, match=rf"{metric} is not defined on the held-out rows .* lack one of the classes"
        ):
            train(dataset, tmp_path / "out", validation={"share": 0.5, "metric": metric}, lanes=1)
    train(dataset, tmp_path / "out", validation={"share": 0.5, "metric": "log_loss"}, lanes=1)


def test_without_any_weight_there_is_nothing_to_learn(tmp_path: Path) -> None:
    dataset = dataset_with(tmp_path / "dataset", "weight", slice(None), 0.0)
    with pytest.raises(DataError, match=r"no row of .* has a weight above 0, so there is nothing to learn"):
        train(dataset, tmp_path / "out")
    assert not (tmp_path / "out/manifest.json").exists()


def test_rows_without_weight_change_nothing(tmp_path: Path) -> None:
    """Whatever their label: of batches of one row, those without weight learn nothing."""
    scores = []
    for label in (0.0, 1.0):
        place = tmp_path / str(label)
        dataset = dataset_with(place, "weight", 7, 0.0)
        table = pq.read_table(place / "data/part-00001.parquet")
        labels = table.column("label").to_pylist()
        labels[7] = label
        index = table.column_names.index("label")
        content = table.set_column(index, "label", pa.array(labels, pa.float32()))
        pq.write_table(content, place / "data/part-00001.parquet", row_group_size=60)
        manifest = read_manifest(dataset, DatasetManifest)
        rows = {entry.path: entry.rows for entry in manifest.files}
        files = tuple(e.model_copy(update={"rows": rows[e.path]}) for e in describe_files(dataset))
        commit(dataset, manifest.model_copy(update={"files": files}))
        train(dataset, tmp_path / f"out{label}", batch_size=2)
        scores.append((tmp_path / f"out{label}/optimizer/wide_ftrl.npy").read_bytes())
    assert scores[0] == scores[1]


def test_a_constant_column_is_fine(tmp_path: Path) -> None:
    for value in (0.0, 1e6):
        dataset = dataset_with(tmp_path / f"dataset{value}", "d_age", slice(None), value)
        assert np.isfinite(train(dataset, tmp_path / f"out{value}")["last_epoch_log_loss"])


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    dataset = dataset_with(tmp_path / "dataset", "d_price", slice(None), 3e38)
    with pytest.raises(UsageError, match=r"the loss is (nan|inf) .* training diverged. Lower the learning rates"):
        train(dataset, tmp_path / "out", model="deep", deep={"layers": [4], "learning_rate": 10.0})


def encoded(transform: str, values: list[float]) -> list[float]:
    feature = DenseFeature(name="x", transform=transform, missing_value=-1.0)  # type: ignore[arg-type]
    boundaries = np.array([1.0, 2.0, 3.0])
    return encode_dense(feature, np.array(values), boundaries, Moments(1.0, 2.0))["x"].tolist()


@pytest.mark.parametrize("transform", ["quantile", "standardise", "log", "identity"])
def test_a_raw_nan_is_a_missing_value(transform: str) -> None:
    assert encoded(transform, [float("nan")]) == [-1.0]


def test_a_raw_infinity_is_in_the_outer_quantile_and_at_the_end_of_the_range_otherwise() -> None:
    largest = float(np.finfo(np.float32).max)
    assert encoded("quantile", [-float("inf"), float("inf")]) == [0.0, 1.0]
    for transform in ("standardise", "log", "identity"):
        assert encoded(transform, [-float("inf"), float("inf")]) == [-largest, largest]


def test_a_raw_constant_is_in_one_quantile() -> None:
    """Of boundaries that are all the same."""
    feature = DenseFeature(name="x", transform="quantile")
    found = encode_dense(feature, np.array([5.0, 5.0]), np.full(3, 5.0), Moments(0.0, 0.0))["x"].tolist()
    assert found[0] == found[1]
    assert 0.0 <= found[0] <= 1.0


def test_a_data_set_without_rows_stops_before_any_worker_starts(tmp_path: Path) -> None:
    make_dataset(str(tmp_path / "dataset"), [0, 0])
    with pytest.raises(DataError, match="the data set has no rows"):
        train(str(tmp_path / "dataset"), tmp_path / "out", workers=2)


def test_a_raw_constant_is_zero_when_standardised() -> None:
    feature = DenseFeature(name="x", transform="standardise")
    assert encode_dense(feature, np.array([5.0, 5.0]), None, Moments(5.0, 0.0))["x"].tolist() == [0.0, 0.0]
