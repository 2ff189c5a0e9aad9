"""Training, packing, evaluation, gate and champion where everything lies in an S3-compatible object store."""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from nightjar import serving
from nightjar.features.contract import storage
from nightjar.features.contract.manifests import ArtifactManifest
from nightjar.features.contract.publishing import read_manifest, verify
from nightjar.features.input.folders import LogPartition, check_logs
from nightjar.jobs import evaluate_model, pack_model, promote_model
from nightjar.jobs.nightly.promotion import Promotion
from nightjar.serving import registry
from nightjar.serving.gate.decision import GateRule
from nightjar.serving.gate.gate import GateConfig, Support
from nightjar.training.config import TrainingConfig
from nightjar.training.job import TrainingJob
from nightjar.training.trainer import run_job
from tests.kits.serving.serving_kit import make_rows, make_world
from tests.kits.serving.serving_oracle import SPEC

NOTHING: Any = None
GATE = GateConfig(
    rules=(GateRule(metric="log_loss", tolerance=0.1),),
    overall=Support(rows=10, positives=1, groups=2),
    calibration=(0.01, 100.0),
    normalized_entropy=0.9999,
)


@pytest.fixture
def world(tmp_path: Path, bucket: str, spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> str:
    """A state and encoded rows in the store. The rows are trained on as well: how good a model is does not matter."""
    for name, value in os.environ.items():
        if name.startswith("AWS_"):  # Spark's Python workers have the environment of a JVM that may be older than it
            monkeypatch.setitem(spark.sparkContext.environment, name, value)
    make_world(tmp_path / "world", rows=400)
    fsspec.filesystem("s3").put(f"{tmp_path}/world/", f"{bucket}/", recursive=True)
    return bucket


def write_log(root: Path, holdout: str, date: str) -> LogPartition:
    """The raw rows behind a hold-out of `make_world` as a day of a local log."""
    labels: list[float] = []
    for part in range(3):
        with storage.open_binary(f"{holdout}/data/part-{part}.parquet") as stream:
            labels += pq.read_table(stream, columns=["label"]).column("label").to_pylist()
    start = datetime.fromisoformat(f"{date}T00:00:00+00:00")
    rows = [
        {name: value for name, value in row.items() if not name.endswith("_so_far")}
        | {"clicked": int(label), "time": start + timedelta(minutes=n), "p": 0.5}
        for n, (row, label) in enumerate(zip(make_rows(len(labels), 1), labels, strict=True))
    ]
    (root / f"date={date}").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), root / f"date={date}" / "log.parquet")
    [day] = check_logs(str(root), [date], SPEC)
    return day


def test_a_model_is_trained_packed_judged_and_served_from_an_object_store(
    world: str, tmp_path: Path, spark: SparkSession, capsys: pytest.CaptureFixture[str]
) -> None:
    models, holdout = f"{world}/models", f"{world}/holdout"
    config = TrainingConfig(model="lr", epochs=3, batch_size=32, lanes=2)
    job = TrainingJob.of(config, holdout, f"{world}/candidates/a", holdout)
    run_job(job)
    assert job.is_done()
    packing = ["--candidate", f"{world}/candidates/a", "--state", f"{world}/state", "--holdout", holdout]
    assert pack_model.main([*packing, "--output", f"{models}/a"]) == 0
    verify(f"{models}/a", read_manifest(f"{models}/a", ArtifactManifest))
    evaluation = ["--artifact", f"{models}/a", "model", "--dataset", holdout, "--output", f"{world}/evaluations/a"]
    assert evaluate_model.main(evaluation) == 0
    assert "model: Log loss 0." in capsys.readouterr().out
    day = write_log(tmp_path / "logs", holdout, "2024-05-03")
    decision = f"{world}/decisions/a"
    promotion = Promotion(GATE, models, "a", day.date, day, lambda _: day, NOTHING, holdout, {}, decision)
    promotion.judge(lambda: spark)
    assert promotion.move() == "published"
    champion = registry.load_champion(models)
    assert champion == f"{models}/a"
    with storage.open_binary(f"{champion}/golden/raw.parquet") as stream:
        rows = pq.read_table(stream)
    with storage.open_binary(f"{champion}/golden/scores.npy") as stream:
        np.testing.assert_allclose(serving.load(champion).score(rows), np.load(stream), rtol=0, atol=1e-5)
    assert promote_model.main(["--models", models, "list"]) == 0
    assert "* a" in capsys.readouterr().out
