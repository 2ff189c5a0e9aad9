"""The `training` section of a config file. Every mistake in it is reported at once, with its path."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt, model_validator

from features.spec import Strict

Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
Decay = Annotated[float, Field(ge=0.0, lt=1.0)]


class TableConfig(Strict):
    """What wide and embedding tables have in common. A rule takes the settings that are its own.

    placement: a table is sharded over the workers by row, or every worker holds the whole of it.
    learning_rate: of adagrad, row_adagrad, lazy_adam and adam, whose gradient is the MEAN over the global batch; None
    is 0.05 for the first two and 0.001 for the others.
    initial_accumulator: of adagrad and row_adagrad. A mean over thousands of rows makes a row's squared gradients
    tiny: a value far above them all but stops the table from learning.
    beta1, beta2, epsilon: of lazy_adam and adam. l2: of adam; the loss is increased by l2 / 2 times the sum of the
    squares of the whole table. dense_rows_limit: adam moves every row in every step, and refuses a larger table.
    """

    placement: Literal["sharded", "replicated"] = "sharded"
    learning_rate: Positive | None = None
    initial_accumulator: NotNegative = 0.1
    beta1: Decay = 0.9
    beta2: Decay = 0.999
    epsilon: Positive = 1e-8
    l2: NotNegative = 0.0
    dense_rows_limit: int = Field(default=1_000_000, ge=1)


class WideConfig(TableConfig):
    """The wide part's table: one weight a row, zero at first.

    alpha, beta, lambda1, lambda2: of ftrl (McMahan et al. 2013), whose gradient is the SUM over the global batch.
    precision: of ftrl's weights; q2.13 is 16-bit fixed point (training.tables.fixed_point).
    """

    rule: Literal["ftrl", "adagrad", "lazy_adam", "adam"] = "ftrl"
    precision: Literal["float32", "q2.13"] = "float32"
    alpha: Positive = 0.05
    beta: NotNegative = 1.0
    lambda1: NotNegative = 0.0
    lambda2: NotNegative = 0.0


class EmbeddingConfig(TableConfig):
    """The embedding tables, one for each width.

    init_scale: standard deviation of the initial values times the square root of the table's width.
    nonnegative: initial values are not negative, and every step ends in a projection onto the values that are not
    (non-negative factorisation).
    """

    rule: Literal["adagrad", "row_adagrad", "lazy_adam", "adam"] = "adagrad"
    init_scale: NotNegative = 0.1
    nonnegative: bool = False


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
    workers. precision: of the dense layers; bf16 keeps tables, sums, logits, loss and the layers' weights in
    float32, and pays where the hardware multiplies bfloat16 (CPUs with AMX or AVX512-BF16, GPUs since Ampere).

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
    precision: Literal["float32", "bf16"] = "float32"
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
