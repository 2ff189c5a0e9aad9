"""A comparison of models: every one trained from every seed, packed and evaluated, then all side by side.

Below the output: candidates/ and artifacts/, one a model and seed; evaluations/, one a model, of all its seeds;
comparisons/<key>/ with comparison.json, table.md and report.html. What is published already is not done again. Rows a
second are a measurement of the run that trained the model; all else is the same whenever it is made.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from nightjar.features.contract import storage
from nightjar.features.contract.artifact_files import COMPARISON, REPORT, TABLE
from nightjar.features.contract.errors import DataError, UsageError
from nightjar.features.contract.layout import table_layout
from nightjar.features.contract.manifests import ArtifactManifest, ComparisonManifest, DatasetManifest
from nightjar.features.contract.outputs import ARTIFACTS, CANDIDATES, COMPARISONS, EVALUATIONS, SeedName
from nightjar.features.contract.publishing import (
    begin,
    commit,
    describe_files,
    is_published,
    key_of,
    manifest_digest,
    read_manifest,
)
from nightjar.features.contract.records import ProgressRecord, ValidationRecord, read_records
from nightjar.features.contract.verified import entry_at, read_verified
from nightjar.serving.evaluation.seeds import SeedComparison, SeedRun, markdown
from nightjar.serving.packing.pack import pack
from nightjar.serving.reports import seed_report
from nightjar.serving.reports.evaluations import evaluate
from nightjar.training.config import TrainingConfig
from nightjar.training.evaluation.config import HeldOutValidationConfig
from nightjar.training.job import TrainingJob
from nightjar.training.models import MODELS, build_head, model_columns
from nightjar.training.run.launch import Launcher
from nightjar.training.trainer import run_job

_CURVE_POINTS = 10

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Contest:
    """Who competes on what. config: of every run, but for model and seed; all paths are directories."""

    config: TrainingConfig
    models: tuple[str, ...]
    seeds: tuple[int, ...]
    dataset: str
    holdout: str
    state: str
    output: str

    def job(self, model: str, seed: int) -> TrainingJob:
        """The training of one model from one seed, validated on the hold-out unless the config says how."""
        config = self.config.model_copy(update={"model": model, "seed": seed})
        if config.validation is None:
            every = -(-self._steps // _CURVE_POINTS)
            config = config.model_copy(update={"validation": HeldOutValidationConfig(every_steps=every)})
        return TrainingJob.of(config, self.dataset, self._directory(CANDIDATES, model, seed, config), self.holdout)

    def artifact(self, model: str, seed: int) -> str:
        """Where the packed model goes."""
        return self._directory(ARTIFACTS, model, seed, self.job(model, seed).config)

    @property
    def result(self) -> str:
        """Where the comparison goes."""
        return storage.join(self.output, COMPARISONS, self._key())

    def check(self) -> None:
        """Find what stands in the way before anything starts. Raises a NightjarError."""
        for model in self.models:
            self.job(model, self.seeds[0]).open()

    def run(self, launcher: Launcher) -> SeedComparison:
        """Carry out what is not published yet."""
        if is_published(self.result):
            return read_comparison(self.result)
        models = {}
        for model in self.models:
            for seed in self.seeds:
                job = self.job(model, seed)
                run_job(job, launcher)
                pack(job.output, self.state, self.holdout, self.artifact(model, seed))
            models[model] = self._runs(model)
        holdout = read_manifest(self.holdout, DatasetManifest)
        comparison = SeedComparison(
            first_date=holdout.first_date,
            last_date=holdout.last_date,
            rows=holdout.rows,
            trained_rows=sum(self.job(self.models[0], self.seeds[0]).open().rows),
            epochs=self.config.epochs,
            models=models,
        )
        self._publish(comparison)
        return comparison

    def _runs(self, model: str) -> tuple[SeedRun, ...]:
        artifacts = {f"seed {seed}": self.artifact(model, seed) for seed in self.seeds}
        directory = storage.join(self.output, EVALUATIONS, f"{model}-{self._key(model)}")
        evaluation = evaluate(artifacts, [self.holdout], directory, threads=os.cpu_count() or 1)
        runs = []
        for seed, (name, artifact) in zip(self.seeds, artifacts.items(), strict=True):
            manifest = read_manifest(artifact, ArtifactManifest)
            metrics = self.job(model, seed).metrics
            records = read_records(metrics) if metrics else []
            progress = [r for r in records if isinstance(r, ProgressRecord)]
            runs.append(
                SeedRun(
                    seed=seed,
                    megabytes=sum(entry.bytes for entry in manifest.files) / 1e6,
                    rows_per_second=_speed(progress),
                    curve=tuple((r.step, r.log_loss) for r in records if isinstance(r, ValidationRecord)),
                    evaluation=evaluation.models[name],
                )
            )
        return tuple(runs)

    def _publish(self, comparison: SeedComparison) -> None:
        begin(self.result)
        contents = {
            COMPARISON: comparison.model_dump_json(indent=1) + "\n",
            TABLE: markdown(comparison),
            REPORT: seed_report.render(comparison),
        }
        for name, content in contents.items():
            storage.write_bytes(storage.join(self.result, name), content.encode())
        artifacts = {f"{m} {seed}": self.artifact(m, seed) for m in self.models for seed in self.seeds}
        manifest = ComparisonManifest(
            inputs={f"artifact {name}": manifest_digest(directory) for name, directory in artifacts.items()},
            files=describe_files(self.result),
            first_date=comparison.first_date,
            last_date=comparison.last_date,
            models=self.models,
            seeds=self.seeds,
        )
        commit(self.result, manifest)

    @cached_property
    def _steps(self) -> int:
        """Global batches of each training."""
        config = self.config.model_copy(update={"model": self.models[0]})
        job = TrainingJob(config, self.dataset, self.output, self.holdout)
        return job.plan(job.open()).steps_before(config.epochs)

    @cached_property
    def _data(self) -> dict[str, str]:
        return {"dataset": manifest_digest(self.dataset), "holdout": manifest_digest(self.holdout)}

    def _directory(self, kind: str, model: str, seed: int, config: TrainingConfig) -> str:
        key = key_of(**self._data, settings=config.settings)
        return storage.join(self.output, kind, str(SeedName(model, seed, key)))

    def _key(self, *models: str) -> str:
        artifacts = [self.artifact(model, seed) for model in models or self.models for seed in self.seeds]
        return key_of(artifacts=[storage.name_of(directory) for directory in artifacts])


def read_comparison(directory: str) -> SeedComparison:
    """A published comparison. Raises DataError if there is none, or if it is damaged."""
    entry = entry_at(directory, read_manifest(directory, ComparisonManifest), COMPARISON)
    return SeedComparison.model_validate_json(read_verified(directory, entry))


def _speed(progress: Sequence[ProgressRecord]) -> float | None:
    """Rows a second over all of a run's intervals."""
    rows, seconds = 0, 0.0
    for before, record in zip([None, *progress], progress, strict=False):
        interval = record.rows - (before.rows if before and before.epoch == record.epoch else 0)
        rows += interval
        seconds += interval / record.rows_per_second
    return rows / seconds if seconds else None


def fitting_models(config: TrainingConfig, dataset: str) -> list[str]:
    """The models that can be built on a data set; why another cannot is logged."""
    columns = read_manifest(dataset, DatasetManifest).columns
    fitting = []
    for model in MODELS:
        try:
            of_model = config.model_copy(update={"model": model})
            build_head(of_model, table_layout(model_columns(of_model, columns)))
            fitting.append(model)
        except UsageError as error:
            log.warning("%s is left out: %s", model, error)
    return fitting


def find_state(dataset: str) -> str:
    """The encoder state of a data set, in the folder `states` beside its own. Raises DataError if it is not there."""
    wanted = read_manifest(dataset, DatasetManifest).state
    states = storage.join(dataset.rpartition("/")[0].rpartition("/")[0], "states")
    for name in storage.list_folders(states):
        directory = storage.join(states, name)
        if is_published(directory) and manifest_digest(directory) == wanted:
            return directory
    raise DataError(f"{states} does not hold the state {wanted[:12]} that {dataset} is encoded under. Give --state.")
