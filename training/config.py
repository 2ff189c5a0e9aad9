"""The `training` section of a config file. Every mistake in it is reported at once, with its path."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, PositiveInt, model_validator

from features.spec import Strict


class WideConfig(Strict):
    """FTRL-Proximal (McMahan et al. 2013). The gradient of a round is the SUM over the global batch."""

    alpha: float = Field(default=0.05, gt=0.0, allow_inf_nan=False)
    beta: float = Field(default=1.0, ge=0.0, allow_inf_nan=False)
    lambda1: float = Field(default=0.0, ge=0.0, allow_inf_nan=False)
    lambda2: float = Field(default=0.0, ge=0.0, allow_inf_nan=False)


class EmbeddingConfig(Strict):
    """AdaGrad for the embedding tables. The gradient is the MEAN over the global batch.

    A mean over thousands of rows makes a row's squared gradients tiny: an initial accumulator far above them
    (TensorFlow's 0.1, say) would all but stop the embeddings from learning.

    init_scale: standard deviation of the initial values times the square root of the table's width.
    """

    learning_rate: float = Field(default=0.05, gt=0.0, allow_inf_nan=False)
    initial_accumulator: float = Field(default=0.1, ge=0.0, allow_inf_nan=False)
    init_scale: float = Field(default=0.1, ge=0.0, allow_inf_nan=False)


class DeepConfig(Strict):
    """The hidden layers above the embeddings, and AdaGrad for their weights (MEAN over the global batch)."""

    layers: tuple[PositiveInt, ...] = Field(default=(1024, 512, 256), min_length=1)
    activation: Literal["relu", "tanh"] = "relu"
    learning_rate: float = Field(default=0.05, gt=0.0, allow_inf_nan=False)
    initial_accumulator: float = Field(default=0.1, ge=0.0, allow_inf_nan=False)


class EarlyStopping(Strict):
    """Training ends at the `patience`-th validation in a row that is no improvement."""

    patience: int = Field(default=3, ge=1)


class Plateau(Strict):
    """All learning rates are multiplied by `factor` at the `patience`-th validation in a row without improvement, and
    again after as many more, until their scale would fall below `min_scale`.
    """

    factor: float = Field(default=0.1, gt=0.0, lt=1.0)
    patience: int = Field(default=2, ge=1)
    min_scale: float = Field(default=1e-3, gt=0.0, le=1.0)


class ValidationConfig(Strict):
    """Held-out evaluation during training.

    share: of the training rows, held back in whole files, the same ones for every seed. dataset: another published
    data set of the same encoder state. Neither: the job's hold-out. every_steps: None evaluates at the end of every
    epoch. metric: what the rest goes by; an improvement is better than the best so far by more than `min_delta`.
    publish: the last state, or the best one. Without early_stopping, plateau and publish: best, validation changes
    nothing of the model.
    """

    share: float | None = Field(default=None, gt=0.0, lt=1.0)
    dataset: str | None = None
    every_steps: int | None = Field(default=None, ge=1)
    metric: Literal["log_loss", "normalized_entropy", "auc", "gauc"] = "log_loss"
    min_delta: float = Field(default=0.0, ge=0.0, allow_inf_nan=False)
    early_stopping: EarlyStopping | None = None
    plateau: Plateau | None = None
    publish: Literal["last", "best"] = "last"

    @model_validator(mode="after")
    def _check(self) -> ValidationConfig:
        if self.share is not None and self.dataset is not None:
            raise ValueError("give share or dataset, not both")
        return self


class MlflowConfig(Strict):
    """An MLflow server or store that runs are recorded in; needs the extra `mlflow`."""

    tracking_uri: str
    experiment: str = "nightjar"


class TrainingConfig(Strict):
    """How a model is trained.

    batch_size: rows of a global batch, whatever the number of workers. lanes: streams of files that every
    global batch draws from (training.plan); more lanes mix better, hold more files in memory and allow more
    workers. threads_per_worker: torch threads; None shares the machine's cores among its workers.
    stall_seconds: how long workers wait for a silent one. timeout_seconds: the run's limit
    under the local launcher.
    """

    model: str = "wide_deep"
    epochs: int = Field(default=1, ge=1)
    batch_size: int = Field(default=4096, ge=1)
    lanes: int = Field(default=8, ge=1)
    seed: int = Field(default=0, ge=0, lt=2**32)
    workers: int = Field(default=1, ge=1)
    threads_per_worker: int | None = Field(default=None, ge=1)
    stall_seconds: int = Field(default=300, ge=1)
    timeout_seconds: int = Field(default=24 * 3600, ge=1)
    wide: WideConfig = WideConfig()
    embeddings: EmbeddingConfig = EmbeddingConfig()
    deep: DeepConfig = DeepConfig()
    validation: ValidationConfig | None = None
    tensorboard: bool = False
    mlflow: MlflowConfig | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """All that the model depends on, as JSON values: everything but time limits, observers and places."""
        elsewhere = {"stall_seconds": True, "timeout_seconds": True, "tensorboard": True, "mlflow": True}
        return self.model_dump(mode="json", exclude={**elsewhere, "validation": {"dataset"}})
