"""The night: what is made for one date, from what, and where.

Every step's directory is named by what it is made from, so that the whole chain is known before it runs, what is
published is skipped, and a night that was killed anywhere goes on where it stopped. jobs.nightly.steps carries it
out.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property
from typing import Any

from nightjar.features.checks.summarize import Summary
from nightjar.features.checks.validation import LogValidation
from nightjar.features.contract import storage
from nightjar.features.contract.artifact_files import REPORT
from nightjar.features.contract.errors import UsageError
from nightjar.features.contract.layout import dataset_columns, table_layout
from nightjar.features.contract.manifests import START_REASON
from nightjar.features.contract.outputs import (
    AGGREGATE,
    BASELINES,
    CANDIDATES,
    DECISIONS,
    ENCODE,
    EVALUATE,
    EVALUATIONS,
    FINISH,
    GATE,
    MODELS,
    NIGHTS,
    PACK,
    SUMMARIZE,
    TRAIN,
    DecisionName,
    NightName,
    VersionName,
)
from nightjar.features.contract.publishing import key_of
from nightjar.features.contract.spec import FeatureSpec
from nightjar.features.dataset.history import known_history
from nightjar.features.dataset.plan import BuildDates, BuildPlan, BuildSettings, plan_build
from nightjar.features.encoder.encoder import FIRST_ID
from nightjar.features.input.folders import Logs, check_logs
from nightjar.jobs.common.mlflow_mirror import require_mlflow
from nightjar.jobs.finishing.finish import Finish
from nightjar.jobs.nightly import ingredients
from nightjar.jobs.nightly.config import NightConfig
from nightjar.jobs.nightly.ingredients import named
from nightjar.jobs.nightly.parents import (
    Start,
    choose_start,
    sibling,
    warm_start,
)
from nightjar.jobs.nightly.promotion import Promotion
from nightjar.jobs.nightly.retention import Past
from nightjar.serving.gate.decision import FIGURES
from nightjar.training.config import TrainingConfig
from nightjar.training.job import TrainingJob
from nightjar.training.models import build_head, model_columns
from nightjar.training.run.launch import Launcher
from nightjar.training.step.device import device_of_worker
from nightjar.training.warm_start import WarmStart

_SHAPING = ("train_days", "history_from", "baselines", "publish")


@dataclass(frozen=True)
class Night:
    """The chain for one date: the newest day in the logs, on which the models of the days before are evaluated."""

    config: NightConfig
    logs: Logs
    output: str
    date: date
    launcher: Launcher = "local"
    allow: tuple[str, ...] = ()

    @cached_property
    def start(self) -> Start:
        """What the night's models begin with, as far as the earlier nights are over."""
        return choose_start(self.config.nightly.warm_start, self.output, self.date)

    @cached_property
    def features(self) -> BuildPlan:
        """The plan of the feature step. Raises DataError and UsageError if the logs cannot be used."""
        spec, nightly = self.config.features, self.config.nightly
        first_logged = date.fromisoformat(self._first_day(spec))
        last = self.date - timedelta(1)
        first = max(first_logged, self.date - timedelta(nightly.train_days))
        if first > last:
            raise UsageError(
                f"night {self.date} has no day to train on: the logs begin on {first_logged}. "
                f"Give a --date of {first_logged + timedelta(1)} or later."
            )
        parent, train_from = self.start.parent, first
        if parent and nightly.warm_start.days == "new":
            train_from = max(first, parent.through + timedelta(1))
        return plan_build(
            spec,
            self.logs,
            self.output,
            BuildDates(
                train_from=train_from.isoformat(),
                fit_from=first.isoformat(),
                train_to=last.isoformat(),
                history_from=first_logged.isoformat(),
                holdout=self.date.isoformat(),
            ),
            settings=self._settings,
        )

    def features_after(self, spec: FeatureSpec) -> BuildPlan:
        """All days through the night's own under a model's feature spec: what counters of the next day are made of."""
        date_ = self.date.isoformat()
        dates = BuildDates(train_from=date_, train_to=date_, history_from=self._first_day(spec))
        return plan_build(spec, self.logs, self.output, dates, self._settings)

    @property
    def _settings(self) -> BuildSettings:
        nightly = self.config.nightly
        return BuildSettings(
            min_files=max(BuildSettings.min_files, self.config.training.least_files),
            most_missing_days=nightly.most_missing_days if nightly.missing_days == "skip" else 0,
        )

    def _first_day(self, spec: FeatureSpec) -> str:
        """The configured one; else the first that the output has ever counted under a spec; until then, the first in
        the logs.
        """
        if self.config.nightly.history_from:
            return self.config.nightly.history_from.isoformat()
        known = known_history(self.output, spec)
        return known.first_date if known and known.first_date < self.date.isoformat() else self.logs.first_date(spec)

    @property
    def is_logged(self) -> bool:
        """True if its own day has a log."""
        day = self.date.isoformat()
        return bool(self.logs.check([day], self.config.features, may_lack=[day]))

    @property
    def validation(self) -> LogValidation:
        """The first step: is the day's log like those before it?"""
        return LogValidation(self.config.validation, self.features, self.allow)

    @property
    def summary(self) -> Summary:
        """What is shown of the day's features."""
        return Summary(self.features, self.config.validation.reference_days)

    @property
    def past(self) -> Past:
        """What later nights read of the days before theirs."""
        trained = self.date - timedelta(self.config.nightly.train_days)
        reference = [date.fromisoformat(day.date) for day in self.validation.reference]
        return Past(self.config.features, min([trained, *reference]))

    def _training(self, model: str) -> TrainingConfig:
        return self.config.training.model_copy(update={"model": model})

    def _directory(self, kind: str, model: str) -> str:
        built = self.features.built
        made_from: dict[str, Any] = {"train": _name(built.train_dir), "holdout": _name(built.holdout_dir)}
        made_from["training"] = self._training(model).settings
        if not self.config.artifact.is_plain:
            made_from["artifact"] = self.config.artifact.model_dump(mode="json", exclude_defaults=True)
        if self.start.parent:
            decay = self.config.nightly.warm_start.decay
            made_from |= {"parent": self.start.parent.version, "decay": decay}
        return storage.join(self.output, kind, str(VersionName(self.date.isoformat(), model, key_of(**made_from))))

    def candidate(self, model: str) -> str:
        """Where the trained model goes."""
        return self._directory(CANDIDATES, model)

    def artifact(self, model: str) -> str:
        """Where the packed model goes: baselines apart, since they are never promoted."""
        return self._directory(MODELS if model == self.config.training.model else BASELINES, model)

    @property
    def evaluation(self) -> str:
        """Where the comparison goes."""
        key = key_of(artifacts=[_name(self.artifact(model)) for model in self.config.models], figures=FIGURES)
        return storage.join(self.output, EVALUATIONS, str(NightName(self.date.isoformat(), key)))

    @property
    def promotion(self) -> Promotion:
        """The gate's step."""
        return Promotion(
            config=self.config.gate,
            models=storage.join(self.output, MODELS),
            version=self._version,
            date=self.date.isoformat(),
            day=self.features.days[-1],
            day_under=lambda spec: check_logs(self.logs, [self.date.isoformat()], spec)[0],
            features_after=self.features_after,
            holdout_dir=str(self.features.built.holdout_dir),
            baselines={model: self.artifact(model) for model in self.config.models[1:]},
            output=self._judgement,
            finish=self.finish.directory if self.finish else None,
        )

    @property
    def _judgement(self) -> str:
        key = key_of(gate=self.config.gate.model_dump(mode="json"), figures=FIGURES)
        return storage.join(self.output, DECISIONS, str(DecisionName(self._version, key)))

    @property
    def _version(self) -> str:
        return _name(self.artifact(self.config.training.model))

    @property
    def finish(self) -> Finish | None:
        """The step after the gate's; None if models serve as they were judged."""
        if not self.config.nightly.publish.learn_evaluated_day:
            return None
        built = self.features.built
        return Finish(
            config=self.config.nightly.publish,
            gate=self.config.gate,
            training=self.config.training,
            packing=self.config.artifact,
            output=self.output,
            judged=self._version,
            judgement=self._judgement,
            state=built.state_dir,
            dataset=built.train_dir,
            holdout=str(built.holdout_dir),
        )

    @property
    def report(self) -> str:
        """The page that shows the comparison."""
        return storage.join(self.evaluation, REPORT)

    def job(self, model: str) -> TrainingJob:
        """The training step. Raises DataError if the parent is gone."""
        built = self.features.built
        return TrainingJob.of(
            self._training(model), built.train_dir, self.candidate(model), built.holdout_dir, self._warm_start(model)
        )

    def _warm_start(self, model: str) -> WarmStart | None:
        """The model's from its parent, a baseline's from the one that was trained beside that parent, if any."""
        parent, decay = self.start.parent, self.config.nightly.warm_start.decay
        if parent is None:
            return None
        kind, version = MODELS, parent.version
        if model != self.config.training.model:
            beside = sibling(self.output, model, parent)
            if beside is None:
                return None
            kind, version = BASELINES, beside
        return warm_start(self.output, kind, version, state=self.features.built.state_dir, decay=decay)

    def check(self) -> None:
        """Find what is wrong with config or logs before anything starts. Raises a NightjarError."""
        spec, gate = self.config.features, self.config.gate
        smallest = {field.name: FIRST_ID for field in spec.fields}
        exact = {cross.name: FIRST_ID for cross in spec.crosses}
        for model in self.config.models:
            training = self._training(model)
            columns = model_columns(training, dataset_columns(spec, smallest, exact))
            build_head(training, table_layout(columns))
        if self.launcher == "local":
            device_of_worker(self.config.training.device, rank=0)
        gate.require_features(spec)
        held_out = self.config.training.validation
        if held_out and held_out.metric == "gauc" and spec.group is None:
            raise UsageError("training.validation.metric is gauc, but features.group is not set. Set it.")
        self.validation.check()
        if self.config.nightly.mlflow:
            require_mlflow()
        self.directories()

    @property
    def made_from(self) -> dict[str, str]:
        """Everything that the night depends on, by name: logs by day and settings by section."""
        config = self.config
        return {
            **ingredients.named_logs({day.date: day.fingerprint for day in self.features.days}),
            **named(ingredients.FEATURES, config.features.model_dump(mode="json", exclude_defaults=True)),
            **named(ingredients.NIGHTLY, config.nightly.model_dump(mode="json", include=set(_SHAPING))),
            START_REASON: str(self.start.record),
            **named(ingredients.START, {"decay": config.nightly.warm_start.decay}),
            **named(ingredients.TRAINING, config.training.settings),
            **named(ingredients.ARTIFACT, config.artifact.model_dump(mode="json", exclude_defaults=True)),
            **named(ingredients.GATE, config.gate.model_dump(mode="json")),
        }

    def directories(self) -> dict[str, tuple[str, ...]]:
        """Every directory of the chain but the night's own record, by step."""
        plan, models = self.features, self.config.models
        return {
            AGGREGATE: tuple(plan.aggregate_dirs.values()),
            ENCODE: tuple(plan.built.directories()),
            SUMMARIZE: (self.summary.directory,),
            TRAIN: tuple(self.candidate(model) for model in models),
            PACK: tuple(self.artifact(model) for model in models),
            EVALUATE: (self.evaluation,),
            GATE: (self.promotion.output,),
            **({FINISH: (self.finish.directory,)} if self.finish else {}),
        }

    @property
    def record(self) -> str:
        """Where it is recorded that the night is over."""
        key = key_of(**{step: [_name(directory) for directory in made] for step, made in self.directories().items()})
        return storage.join(self.output, NIGHTS, str(NightName(self.date.isoformat(), key)))


def _name(directory: str | None) -> str:
    return storage.name_of(str(directory))
