"""The section `training.validation` of a config file. Loads no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from nightjar.features.contract.metrics.registry import SelectionMetric
from nightjar.features.contract.strict import Strict


class EarlyStopping(Strict):
    """Training ends when validations stop improving."""

    patience: int = Field(default=3, ge=1)
    """Validations in a row without improvement."""


class Plateau(Strict):
    """All learning rates fall when validations stop improving, again and again."""

    factor: float = Field(default=0.1, gt=0.0, lt=1.0)
    """What they are multiplied by."""
    patience: int = Field(default=2, ge=1)
    """Validations in a row without improvement."""
    min_scale: float = Field(default=1e-3, gt=0.0, le=1.0)
    """Where the rates' product with the factors would fall below this, they fall no more."""


class HeldOutValidationConfig(Strict):
    """Held-out evaluation during training, by default on the job's hold-out. Without early_stopping, plateau and
    `publish: best` it changes nothing of the model.
    """

    share: float | None = Field(default=None, gt=0.0, lt=1.0)
    """Share of the training rows that is held back, in whole files, the same ones for every seed."""
    dataset: str | None = None
    """Another published data set of the same encoder state, instead of `share`."""
    every_steps: int | None = Field(default=None, ge=1)
    """Steps between two validations. Empty: one at the end of every epoch."""
    metric: SelectionMetric = "log_loss"
    """What early_stopping, plateau and `publish: best` go by."""
    min_delta: float = Field(default=0.0, ge=0.0, allow_inf_nan=False)
    """An improvement is better than the best so far by more than this."""
    early_stopping: EarlyStopping | None = None
    """Ends training early. Empty: never."""
    plateau: Plateau | None = None
    """Lowers learning rates. Empty: never."""
    publish: Literal["last", "best"] = "last"
    """What becomes the candidate: the last state, or the best one."""

    @model_validator(mode="after")
    def _check(self) -> HeldOutValidationConfig:
        if self.share is not None and self.dataset is not None:
            raise ValueError("give share or dataset, not both")
        return self
