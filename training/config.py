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


class CheckpointConfig(Strict):
    """When a run saves itself, and how many of its checkpoints stay. Both intervals may be set, or none."""

    every_steps: int | None = Field(default=None, ge=1)
    every_minutes: float | None = Field(default=10.0, gt=0.0, allow_inf_nan=False)
    keep: int = Field(default=2, ge=1)


class TrainingConfig(Strict):
    """How a model is trained.

    batch_size: rows of a global batch, whatever the number of workers. lanes: streams of files that every
    global batch draws from (training.plan); more lanes mix better, hold more files in memory and allow more
    workers.

    workers: how many to begin with, and the most there will be; min_workers: the fewest to go on with when
    some are lost (training.attempts). threads_per_worker: torch threads; None shares the machine's cores
    among its workers. stall_seconds: how long a silent worker is waited for. start_seconds: how long Spark
    may take to start the workers. timeout_seconds: the limit of the whole run, restarts included.
    max_restarts: restarts in a row without a new checkpoint in between.
    """

    model: str = "wide_deep"
    epochs: int = Field(default=1, ge=1)
    batch_size: int = Field(default=4096, ge=1)
    lanes: int = Field(default=8, ge=1)
    seed: int = Field(default=0, ge=0, lt=2**32)
    workers: int = Field(default=1, ge=1)
    min_workers: int = Field(default=1, ge=1)
    threads_per_worker: int | None = Field(default=None, ge=1)
    stall_seconds: int = Field(default=300, ge=1)
    start_seconds: int = Field(default=600, ge=1)
    timeout_seconds: int = Field(default=24 * 3600, ge=1)
    max_restarts: int = Field(default=3, ge=0)
    checkpoint: CheckpointConfig = CheckpointConfig()
    wide: WideConfig = WideConfig()
    embeddings: EmbeddingConfig = EmbeddingConfig()
    deep: DeepConfig = DeepConfig()

    @model_validator(mode="after")
    def _fewest_and_most(self) -> TrainingConfig:
        if self.min_workers > self.workers:
            raise ValueError(
                f"min_workers is {self.min_workers}, but workers is only {self.workers}. Lower min_workers."
            )
        return self

    @property
    def settings(self) -> dict[str, Any]:
        """All that the model depends on, as JSON values. How the run is carried out is not among it: any
        number of workers, interrupted or not, computes the same model up to the rounding of float32 sums.
        """
        return self.model_dump(mode="json", exclude=_EXECUTION)


_EXECUTION = {
    "workers",
    "min_workers",
    "threads_per_worker",
    "stall_seconds",
    "start_seconds",
    "timeout_seconds",
    "max_restarts",
    "checkpoint",
}
