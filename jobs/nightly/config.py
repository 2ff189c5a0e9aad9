"""The config file of a night: its sections, each with its defaults. Read without PySpark and torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import Any, Literal, Self

from pydantic import Field, ModelWrapValidatorHandler, ValidationError, model_validator

from nightjar.features.checks.checks import LogValidationConfig
from nightjar.features.contract.errors import did_you_mean
from nightjar.features.contract.spec import FeatureSpec, Strict
from nightjar.features.contract.strict import load_yaml, named_in, with_problems
from nightjar.features.input.config import PARQUET, InputConfig
from nightjar.jobs.common.mlflow_mirror import MlflowRegistryConfig
from nightjar.jobs.nightly.hook import HookConfig
from nightjar.jobs.nightly.parents import WarmStartConfig
from nightjar.jobs.nightly.retention import KeepConfig
from nightjar.serving.gate.decision import GateConfig, PublishConfig
from nightjar.serving.packing.config import ArtifactConfig
from nightjar.training.config import ModelName, TrainingConfig


class NightlyConfig(Strict):
    """What a night covers, and what it leaves behind."""

    train_days: int = Field(7, ge=1)
    """Days before the night's date that it trains on."""
    history_from: date | None = None
    """First day of vocabularies and counts. Empty: the first that the output has counted, whether or not its log is
    still there; of a new output, the first in the logs. Ids are given in the order in which values appear from that day
    on: a later day deals them anew, without the rows of retired values, and a warm start carries the others over by
    value."""
    missing_days: Literal["fail", "skip"] = "fail"
    """What a day without a log does between the first and the night's own. `skip`: it counts as a day without rows,
    until its log comes."""
    most_missing_days: int = Field(2, ge=1)
    """With `skip`: so many days in a row may be without a log."""
    baselines: tuple[ModelName, ...] = ()
    """Models that are trained and evaluated beside, and never promoted."""
    warm_start: WarmStartConfig = WarmStartConfig()
    """What a night begins with."""
    publish: PublishConfig = PublishConfig()
    """What serves once the gate has let a model through."""
    keep: KeepConfig = KeepConfig()
    """What stays after a night."""
    hook: HookConfig | None = None
    """A command that is told how a night ended. Empty: none."""
    mlflow: MlflowRegistryConfig | None = None
    """MLflow's model registry, whose alias follows the champion. Empty: none."""
    lease_minutes: float = Field(default=10.0, ge=1.0)
    """Without a heartbeat for so long, a run on another machine counts as dead."""


class NightConfig(Strict):
    """A config file's sections."""

    input: InputConfig = PARQUET
    """Where the log is, and how it is read."""
    features: FeatureSpec
    """What the log's columns mean, and which features are made of them."""
    training: TrainingConfig = TrainingConfig()
    """How a model is trained."""
    artifact: ArtifactConfig = ArtifactConfig()
    """How a trained model is packed."""
    nightly: NightlyConfig = NightlyConfig()
    """What a night covers, and what it leaves behind."""
    validation: LogValidationConfig = LogValidationConfig()
    """How far a day's log may differ from the days before it."""
    gate: GateConfig = GateConfig()
    """When a model becomes champion."""

    @model_validator(mode="wrap")
    @classmethod
    def _check_slices(cls, value: Any, validated: ModelWrapValidatorHandler[NightConfig]) -> NightConfig:
        """Slices of no feature are told beside whatever else is wrong; GateConfig.require_features tells the others."""
        try:
            return validated(value)
        except ValidationError as error:
            unknown = list(_unknown_slices(value)) if isinstance(value, Mapping) else []
            raise with_problems(error, unknown, value) from error

    @model_validator(mode="after")
    def _check_calibration(self) -> Self:
        """There must be rows to fit it to, and the field that it goes by."""
        validation, by = self.training.validation, self.artifact.calibration.by
        if self.artifact.is_calibrated and not (validation and (validation.share or validation.dataset)):
            raise ValueError(
                "artifact.calibration is fitted to rows that training holds back: set training.validation.share"
            )
        fields = [field.name for field in self.features.fields if not field.multi_valued]
        if by is not None and by not in fields:
            raise ValueError(f"artifact.calibration.by: {by!r} is not among the single-valued fields {sorted(fields)}")
        return self

    @classmethod
    def read(cls, path: str, overrides: Sequence[str] = ()) -> NightConfig:
        """From YAML, with `KEY=VALUE` overrides. Raises SpecError that lists every mistake in any section."""
        return load_yaml(path, cls, overrides=overrides)

    def without_parents(self) -> NightConfig:
        """The same, but every night begins with nothing."""
        warm_start = self.nightly.warm_start.model_copy(update={"enabled": False})
        return self.model_copy(update={"nightly": self.nightly.model_copy(update={"warm_start": warm_start})})

    @property
    def models(self) -> tuple[str, ...]:
        """The model, then its baselines."""
        return tuple(dict.fromkeys((self.training.model, *self.nightly.baselines)))


def _unknown_slices(document: Mapping[str, Any]) -> Iterator[str]:
    """Slices of the gate that are neither features nor, by their beginning, columns of one."""
    gate, features = document.get("gate"), document.get("features")
    if not isinstance(gate, Mapping) or not isinstance(features, Mapping):
        return
    known = [name for kind in ("fields", "dense", "frequencies") for name in named_in(features.get(kind))]
    slices, rules = (found if isinstance(found := gate.get(key), list) else [] for key in ("slices", "rules"))
    wanted = [*slices, *(rule.get("slice") for rule in rules if isinstance(rule, Mapping))]
    unknown = [name for name in wanted if isinstance(name, str) and not name.startswith(tuple(known))]
    if known and unknown:
        yield f"gate.slices: {unknown} are not among the features {sorted(known)}{did_you_mean(unknown, known)}"
