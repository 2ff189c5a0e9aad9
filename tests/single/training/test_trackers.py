"""What runs record, read back by the tools that people look at it with."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from nightjar.features.contract.errors import UsageError
from nightjar.features.contract.records import ProgressRecord, Record, ValidationRecord, read_records
from nightjar.training.config import MlflowTrackingConfig, TrainingConfig
from nightjar.training.tracking import trackers
from nightjar.training.tracking.trackers import tracking

CONFIG = TrainingConfig(model="lr", tensorboard=True)


def progress(step: int) -> ProgressRecord:
    return ProgressRecord(
        step=step,
        epoch=0,
        rows=64 * step,
        log_loss=0.5 / step,
        recent_log_loss=None,
        rows_per_second=1000.0,
        memory_bytes=2**28,
        learning_rate_scale=1.0,
    )


def validation(step: int) -> ValidationRecord:
    return ValidationRecord(
        step=step,
        epoch=0,
        rows=10,
        seconds=0.5,
        log_loss=0.25,
        normalized_entropy=0.9,
        auc=0.75,
        gauc=None,
        calibration=1.0,
        best=True,
        learning_rate_scale=0.5,
    )


def record(
    place: Path, records: list[Record], *, rank: int = 0, start: int = 0, config: TrainingConfig = CONFIG
) -> None:
    output = str(place / "model")
    with tracking(config, output, f"{output}.jsonl", rank, start) as found:
        for one in records:
            found.log(one)


def test_json_lines_are_read_back_as_they_were_written(tmp_path: Path) -> None:
    records: list[Record] = [progress(1), validation(1), progress(2)]
    record(tmp_path, records)
    assert read_records(str(tmp_path / "model.jsonl")) == records


def test_a_run_that_goes_on_replaces_what_the_lost_attempt_recorded_later(tmp_path: Path) -> None:
    record(tmp_path, [progress(1), progress(2), progress(3)])
    with (tmp_path / "model.jsonl").open("a") as stream:
        stream.write('{"kind": "progress", "ste')
    record(tmp_path, [validation(3)], start=2)
    assert read_records(str(tmp_path / "model.jsonl")) == [progress(1), progress(2), validation(3)]
    record(tmp_path, [progress(5)])
    assert read_records(str(tmp_path / "model.jsonl")) == [progress(5)]


def test_only_the_first_worker_records(tmp_path: Path) -> None:
    record(tmp_path, [progress(1)], rank=1)
    assert list(tmp_path.iterdir()) == []


def test_tensorboard_reads_the_events(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    record(tmp_path, [progress(1), progress(2), validation(2), progress(3)])
    record(tmp_path, [progress(4)], start=2)
    events = EventAccumulator(str(tmp_path / "model.tensorboard"))
    events.Reload()
    losses = events.Scalars("progress/log_loss")
    assert [(event.step, event.value) for event in losses] == [(1, 0.5), (2, 0.25), (4, 0.125)]
    assert [(event.step, event.value) for event in events.Scalars("validation/auc")] == [(2, 0.75)]
    assert "validation/gauc" not in events.Tags()["scalars"]


@pytest.mark.skipif(importlib.util.find_spec("mlflow") is None, reason="the extra mlflow is not installed")
def test_mlflow_holds_parameters_metrics_and_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    store = (tmp_path / "runs").as_uri()
    config = TrainingConfig(model="lr", mlflow=MlflowTrackingConfig(tracking_uri=store, experiment="nights"))
    record(tmp_path, [progress(1), progress(2), validation(2)], config=config)
    with pytest.raises(RuntimeError), tracking(config, str(tmp_path / "broken"), None, 0):
        raise RuntimeError("training failed")
    client = MlflowClient(store)
    experiment = client.get_experiment_by_name("nights")
    assert experiment
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    done = runs["model"]
    assert done.info.status == "FINISHED"
    assert (done.data.params["model"], done.data.params["wide.alpha"]) == ("lr", "0.05")
    assert done.data.metrics["validation_auc"] == 0.75
    history = client.get_metric_history(done.info.run_id, "progress_log_loss")
    assert [(metric.step, metric.value) for metric in history] == [(1, 0.5), (2, 0.25)]
    assert runs["broken"].info.status == "FAILED"


def test_mlflow_that_is_not_there_is_said_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    config = TrainingConfig(mlflow=MlflowTrackingConfig(tracking_uri="http://localhost:1"))
    monkeypatch.setattr(trackers.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"MLflow is not installed. Install the extra"):
        trackers.check(config)


def test_observers_and_time_limits_are_no_settings_of_the_model() -> None:
    plain, watched = (
        TrainingConfig(),
        TrainingConfig(tensorboard=True, mlflow=MlflowTrackingConfig(tracking_uri="file:runs")),
    )
    assert watched.settings == plain.settings
