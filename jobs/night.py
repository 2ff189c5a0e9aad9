"""The night: a chain of published steps from logs to an evaluated artifact, for one date.

    validate -> features -> train (the model and its baselines) -> pack -> evaluate -> gate -> champion

Every step's directory is named by what it is made from, so that the whole chain is known before it runs, what is
published is skipped, and a night that was killed anywhere goes on where it stopped.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property

from pydantic import Field
from pyspark.sql import SparkSession

from features import storage
from features.build import BuildPlan, build, plan_build
from features.checks import ValidationConfig
from features.encoder import FIRST_ID
from features.errors import UsageError
from features.layout import dataset_columns, table_layout
from features.logs import first_logged_date
from features.manifest import is_published, key_of
from features.spec import FeatureSpec, Strict, load_yaml
from features.validation import Validation
from jobs.promotion import Promotion
from serving.comparison import Evaluation
from serving.evaluation import REPORT, evaluate
from serving.gate import Decision, GateConfig, GateRule
from serving.pack import pack
from training.config import TrainingConfig
from training.job import TrainingJob
from training.launch import Launcher
from training.models import build_head
from training.trainer import run_job

MODELS = "models"

log = logging.getLogger(__name__)


class NightlyConfig(Strict):
    """What a night covers. train_days: days before the night's date; baselines: models trained and evaluated beside.

    history_from: first day of vocabularies and counts; the first day in the logs if absent. Keep it the same from night
    to night: ids are given in the order in which values appear from that day on.
    """

    train_days: int = Field(7, ge=1)
    history_from: date | None = None
    baselines: tuple[str, ...] = ()


class NightConfig(Strict):
    """A config file's sections."""

    features: FeatureSpec
    training: TrainingConfig = TrainingConfig()
    nightly: NightlyConfig = NightlyConfig()
    validation: ValidationConfig = ValidationConfig()
    gate: GateConfig = GateConfig(
        rules=(GateRule(metric="log_loss", tolerance=0.002), GateRule(metric="auc", tolerance=0.005))
    )

    @classmethod
    def read(cls, path: str) -> NightConfig:
        """From YAML. Raises SpecError that lists every mistake in any section."""
        return load_yaml(path, cls)

    @property
    def models(self) -> tuple[str, ...]:
        """The model, then its baselines."""
        return tuple(dict.fromkeys((self.training.model, *self.nightly.baselines)))


@dataclass(frozen=True)
class Night:
    """The chain for one date: the newest day in the logs, on which the models of the days before are evaluated."""

    config: NightConfig
    logs: str
    output: str
    date: date
    launcher: Launcher = "local"
    allow: tuple[str, ...] = ()

    @cached_property
    def features(self) -> BuildPlan:
        """The plan of the feature step. Raises DataError and UsageError if the logs cannot be used."""
        return self.features_under(self.config.features)

    def features_under(self, spec: FeatureSpec) -> BuildPlan:
        """The same days under another feature spec, such as the champion's."""
        nightly = self.config.nightly
        first_logged = nightly.history_from or date.fromisoformat(first_logged_date(self.logs))
        last = self.date - timedelta(1)
        first = max(first_logged, self.date - timedelta(nightly.train_days))
        if first > last:
            raise UsageError(
                f"night {self.date} has no day to train on: the logs begin on {first_logged}. "
                f"Give a --date of {first_logged + timedelta(1)} or later."
            )
        return plan_build(
            spec,
            self.logs,
            self.output,
            train_from=first.isoformat(),
            train_to=last.isoformat(),
            history_from=first_logged.isoformat(),
            holdout=self.date.isoformat(),
        )

    @property
    def validation(self) -> Validation:
        """The first step: is the day's log like those before it?"""
        return Validation(self.config.validation, self.features, self.allow)

    def _training(self, model: str) -> TrainingConfig:
        return self.config.training.model_copy(update={"model": model})

    def _directory(self, kind: str, model: str) -> str:
        built = self.features.built
        settings = self._training(model).settings
        key = key_of(train=_name(built.train_dir), holdout=_name(built.holdout_dir), training=settings)
        return storage.join(self.output, kind, f"{self.date}-{model}-{key}")

    def candidate(self, model: str) -> str:
        """Where the trained model goes."""
        return self._directory("candidates", model)

    def artifact(self, model: str) -> str:
        """Where the packed model goes: baselines apart, since they are never promoted."""
        return self._directory(MODELS if model == self.config.training.model else "baselines", model)

    @property
    def evaluation(self) -> str:
        """Where the comparison goes."""
        key = key_of(artifacts=[_name(self.artifact(model)) for model in self.config.models])
        return storage.join(self.output, "evaluations", f"{self.date}-{key}")

    @property
    def promotion(self) -> Promotion:
        """The gate's step."""
        gate = self.config.gate
        version = _name(self.artifact(self.config.training.model))
        return Promotion(
            config=gate,
            models=storage.join(self.output, MODELS),
            version=version,
            date=self.date.isoformat(),
            features_under=self.features_under,
            holdout_dir=str(self.features.built.holdout_dir),
            evaluation=self.evaluation,
            output=storage.join(self.output, "decisions", f"{version}-{key_of(gate=gate.model_dump(mode='json'))}"),
        )

    @property
    def report(self) -> str:
        """The page that shows the comparison."""
        return storage.join(self.evaluation, REPORT)

    def job(self, model: str) -> TrainingJob:
        """The training step."""
        built = self.features.built
        return TrainingJob.of(self._training(model), built.train_dir, self.candidate(model), built.holdout_dir)

    def check(self) -> None:
        """Find what is wrong with config or logs before anything starts. Raises a NightjarError."""
        spec, gate = self.config.features, self.config.gate
        for model in self.config.models:
            layout = table_layout(dataset_columns(spec, {field.name: FIRST_ID for field in spec.fields}))
            build_head(model, layout, self.config.training.deep, self.config.training.seed)
        gate.require_features(spec)
        self.validation.check()
        self.plan()

    def plan(self) -> dict[str, bool]:
        """Every directory of the chain, and whether it is published already."""
        directories = [self.validation.directory, *self.features.built.directories()]
        directories += [place(model) for model in self.config.models for place in (self.candidate, self.artifact)]
        return {
            directory: is_published(directory) for directory in [*directories, self.evaluation, self.promotion.output]
        }

    def run(self, spark: SparkSession) -> tuple[Evaluation, Decision]:
        """Carry the chain out, skipping what is published."""
        self.validation.run(spark)
        built = build(spark, self.features)
        for model in self.config.models:
            run_job(self.job(model), self.launcher)
            lineage = {"date": self.date.isoformat(), "logs": {day.date: day.fingerprint for day in self.features.days}}
            pack(self.candidate(model), built.state_dir, str(built.holdout_dir), self.artifact(model), lineage)
        artifacts: Mapping[str, str] = {model: self.artifact(model) for model in self.config.models}
        evaluation = evaluate(artifacts, [str(built.holdout_dir)], self.evaluation)
        return evaluation, self.promotion.run(spark)


def _name(directory: str | None) -> str:
    return str(directory).rpartition("/")[2]
