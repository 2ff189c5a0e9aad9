"""Where the figures of a run go: JSON lines, TensorBoard events, MLflow. Rank 0 writes; the others have no tracker."""

from __future__ import annotations

import importlib.util
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from nightjar.features.contract import storage
from nightjar.features.contract.artifact_files import tensorboard_folder
from nightjar.features.contract.errors import UsageError
from nightjar.features.contract.records import Record, read_records, record_line
from nightjar.training.config import MlflowTrackingConfig, TrainingConfig

log = logging.getLogger(__name__)


class Tracker(Protocol):
    """A place for records."""

    def log(self, record: Record) -> None:
        """Take a record."""

    def close(self, *, finished: bool) -> None:
        """No more records come; finished: because the run has ended well."""


class Trackers:
    """Several trackers as one."""

    def __init__(self, trackers: Sequence[Tracker] = ()) -> None:
        self._trackers = trackers

    def log(self, record: Record) -> None:
        """See Tracker."""
        for tracker in self._trackers:
            tracker.log(record)

    def close(self, *, finished: bool) -> None:
        """See Tracker."""
        for tracker in self._trackers:
            tracker.close(finished=finished)


class JsonLines:
    """One JSON object a record, in a local file."""

    def __init__(self, path: str, start: int) -> None:
        kept = [record for record in read_records(path) if record.step <= start] if start else []
        storage.write_bytes(path, "".join(map(record_line, kept)).encode())
        self._path = Path(path)

    def log(self, record: Record) -> None:
        """See Tracker."""
        with self._path.open("a", encoding="utf-8") as stream:
            stream.write(record_line(record))

    def close(self, *, finished: bool) -> None:
        """See Tracker."""


class TensorBoard:
    """Event files in a local directory: the scalars <kind>/<name> by step."""

    def __init__(self, directory: str, start: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        if not start:
            storage.remove(directory)
        self._writer = SummaryWriter(directory, purge_step=start + 1 if start else None)

    def log(self, record: Record) -> None:
        """See Tracker."""
        for name, value in _figures(record).items():
            self._writer.add_scalar(f"{record.kind}/{name}", value, record.step)
        self._writer.flush()

    def close(self, *, finished: bool) -> None:
        """See Tracker."""
        self._writer.close()


class Mlflow:
    """A run in MLflow: the settings as parameters, the metrics <kind>_<name> by step.

    A server that fails later on costs its metrics, not the training.
    """

    def __init__(self, config: MlflowTrackingConfig, name: str, settings: Mapping[str, Any]) -> None:
        from mlflow import MlflowClient
        from mlflow.entities import Metric, Param
        from mlflow.exceptions import MlflowException

        self._metric, self._failure = Metric, MlflowException
        try:
            self._client = MlflowClient(config.tracking_uri)
            experiment = self._client.get_experiment_by_name(config.experiment)
            identifier = experiment.experiment_id if experiment else self._client.create_experiment(config.experiment)
            self._run = self._client.create_run(identifier, run_name=name).info.run_id
            parameters = [Param(key, str(value)) for key, value in _flat(settings)]
            self._client.log_batch(self._run, params=parameters)
        except MlflowException as error:
            raise UsageError(
                f"MLflow at {config.tracking_uri} cannot record a run: {error}. Correct training.mlflow, or remove it."
            ) from error

    def log(self, record: Record) -> None:
        """See Tracker."""
        now = _milliseconds()
        metrics = [
            self._metric(f"{record.kind}_{name}", value, now, record.step) for name, value in _figures(record).items()
        ]
        with self._tolerated():
            self._client.log_batch(self._run, metrics=metrics)

    def close(self, *, finished: bool) -> None:
        """See Tracker."""
        with self._tolerated():
            self._client.set_terminated(self._run, "FINISHED" if finished else "FAILED")

    @contextmanager
    def _tolerated(self) -> Iterator[None]:
        try:
            yield
        except self._failure as error:
            log.warning("MLflow does not answer: %s", error)


def check(config: TrainingConfig) -> None:
    """Raise UsageError if a tracker of the config is not installed."""
    if config.mlflow and importlib.util.find_spec("mlflow") is None:
        raise UsageError(
            "training.mlflow is set, but MLflow is not installed. Install the extra: pip install 'nightjar[mlflow]'."
        )


@contextmanager
def tracking(config: TrainingConfig, output: str, metrics: str | None, rank: int, start: int = 0) -> Iterator[Trackers]:
    """The run's trackers, without any on ranks other than 0.

    metrics: the JSON-lines file; None where the output is no local directory, beside which events could lie. start: the
    step that the run goes on from; what an earlier attempt recorded up to it is kept.
    """
    found: list[Tracker] = []
    if rank == 0 and metrics:
        found.append(JsonLines(metrics, start))
    if rank == 0 and config.tensorboard and metrics:
        found.append(TensorBoard(tensorboard_folder(output), start))
    if rank == 0 and config.mlflow:
        found.append(Mlflow(config.mlflow, storage.name_of(output.rstrip("/")), config.settings))
    trackers = Trackers(found)
    try:
        yield trackers
    except BaseException:
        trackers.close(finished=False)
        raise
    trackers.close(finished=True)


def _figures(record: Record) -> dict[str, float]:
    named = record.model_dump(exclude={"kind", "step"})
    return {name: float(value) for name, value in named.items() if value is not None}


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _milliseconds() -> int:
    return round(time.time() * 1000)
