"""Which days of a log become which data sets, from the options that build_features and report_features share."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nightjar.features.contract.spec import FeatureSpec
from nightjar.features.contract.strict import load_yaml
from nightjar.features.input.config import PARQUET, InputConfig

if TYPE_CHECKING:
    from nightjar.features.dataset.build import BuildPlan
    from nightjar.features.input.timestamped import GetSpark


@dataclass(frozen=True)
class FeatureDays:
    """Parameters of options.days_options. Dates are YYYY-MM-DD."""

    config: str
    overrides: tuple[str, ...]
    logs: str | None
    output: str
    train_from: str
    train_to: str
    history_from: str | None
    holdout: str | None
    min_files: int | None
    rows_per_file: int | None

    def read_config(self) -> tuple[FeatureSpec, InputConfig]:
        """The two sections of the config file. Raises SpecError that lists every mistake of one."""
        return (
            load_yaml(self.config, FeatureSpec, "features", overrides=self.overrides),
            load_yaml(self.config, InputConfig, "input", PARQUET, self.overrides),
        )

    def plan(self, spec: FeatureSpec, source: InputConfig, spark: GetSpark) -> BuildPlan:
        """Check the input. spark: for a log whose days only Spark can tell; other logs are checked without it."""
        from nightjar.features.dataset.build import (  # PySpark, once the config is right
            BuildDates,
            BuildSettings,
            plan_build,
        )
        from nightjar.features.input.timestamped import logs_at

        given = {"min_files": self.min_files, "rows_per_file": self.rows_per_file}
        return plan_build(
            spec,
            logs_at(source, self.logs, spark),
            self.output,
            BuildDates(
                train_from=self.train_from,
                train_to=self.train_to,
                history_from=self.history_from,
                holdout=self.holdout,
            ),
            settings=replace(BuildSettings(), **{name: value for name, value in given.items() if value is not None}),
        )
