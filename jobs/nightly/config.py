"""The config file of a night: its sections, each with its defaults. Read without PySpark and torch."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from pydantic import Field

from nightjar.features.checks.checks import LogValidationConfig
from nightjar.features.contract.spec import FeatureSpec, Strict, load_yaml
from nightjar.features.input.config import PARQUET, InputConfig
from nightjar.jobs.nightly.hook import HookConfig
from nightjar.jobs.nightly.mlflow_mirror import MlflowRegistryConfig
from nightjar.jobs.nightly.parents import WarmStartConfig
from nightjar.jobs.nightly.retention import KeepConfig
from nightjar.serving.gate.decision import GateConfig
from nightjar.training.config import ModelName, TrainingConfig


class NightlyConfig(Strict):
    """What a night covers. train_days: days before the night's date; baselines: models trained and evaluated beside.

    history_from: first day of vocabularies and counts; the first day in the logs if absent. Ids are given in the order
    in which values appear from that day on: a later one deals them anew, without the rows of retired values, and a warm
    start carries the others over by value; counts of all days begin with it, too. lease_minutes: without a heartbeat
    for so long, a run on another machine counts as dead.
    """

    train_days: int = Field(7, ge=1)
    history_from: date | None = None
    baselines: tuple[ModelName, ...] = ()
    warm_start: WarmStartConfig = WarmStartConfig()
    keep: KeepConfig = KeepConfig()
    hook: HookConfig | None = None
    mlflow: MlflowRegistryConfig | None = None
    lease_minutes: float = Field(default=10.0, ge=1.0)


class NightConfig(Strict):
    """A config file's sections."""

    input: InputConfig = PARQUET
    features: FeatureSpec
    training: TrainingConfig = TrainingConfig()
    nightly: NightlyConfig = NightlyConfig()
    validation: LogValidationConfig = LogValidationConfig()
    gate: GateConfig = GateConfig()

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
