"""The `training` section of a config file. Every mistake in it is reported at once, with its path."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt, model_validator

from features.spec import Strict

Activation = Literal["relu", "tanh", "sigmoid", "gelu", "silu", "leaky_relu"]
Optimizer = Literal["adagrad", "adam", "sgd"]
Rate = Annotated[float, Field(ge=0.0, lt=1.0)]

# The optimizers that the papers of the models name, and what they usually learn at.
HEAD_OPTIMIZERS: dict[str, Optimizer] = {"deepfm": "adam"}
HEAD_LEARNING_RATES: dict[Optimizer, float] = {"adagrad": 0.05, "adam": 0.001, "sgd": 0.1}


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
    """The hidden layers above the embeddings, and the rule of all weights of the head (MEAN over the global batch).

    dropout: probability that a hidden unit is 0 in training, one for all layers or one for each. optimizer,
    learning_rate: the model's and the optimizer's own where they are None; see TrainingConfig.resolved.
    initial_accumulator: AdaGrad's. weight_decay: L2, as weight_decay times the weight in its gradient; biases
    and batch norm are free of it.
    """

    layers: tuple[PositiveInt, ...] = Field(default=(1024, 512, 256), min_length=1)
    activation: Activation = "relu"
    batch_norm: bool = False
    dropout: Rate | tuple[Rate, ...] = 0.0
    optimizer: Optimizer | None = None
    learning_rate: float | None = Field(default=None, gt=0.0, allow_inf_nan=False)
    initial_accumulator: float = Field(default=0.1, ge=0.0, allow_inf_nan=False)
    weight_decay: float = Field(default=0.0, ge=0.0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _check(self) -> DeepConfig:
        if isinstance(self.dropout, tuple) and len(self.dropout) != len(self.layers):
            raise ValueError(f"{len(self.layers)} layers take one dropout or one each; got {list(self.dropout)}")
        return self

    @property
    def dropout_rates(self) -> tuple[float, ...]:
        """One for each hidden layer."""
        return self.dropout if isinstance(self.dropout, tuple) else (self.dropout,) * len(self.layers)


class MatrixFactorizationConfig(Strict):
    """fields: the two that `mf` and `nmf` factorise, such as user and item."""

    fields: tuple[str, str]

    @model_validator(mode="after")
    def _check(self) -> MatrixFactorizationConfig:
        if len(set(self.fields)) < 2:
            raise ValueError(f"the two fields must differ; got {list(self.fields)}")
        return self


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
    mf: MatrixFactorizationConfig | None = None

    @property
    def resolved(self) -> TrainingConfig:
        """With every setting that was left to the model in place (AdaGrad; DeepFM learns by Adam)."""
        optimizer = self.deep.optimizer or HEAD_OPTIMIZERS.get(self.model, "adagrad")
        rate = self.deep.learning_rate or HEAD_LEARNING_RATES[optimizer]
        deep = self.deep.model_copy(update={"optimizer": optimizer, "learning_rate": rate})
        return self.model_copy(update={"deep": deep})

    @property
    def settings(self) -> dict[str, Any]:
        """All that the model depends on, resolved and as JSON values: everything but the time limits."""
        return self.resolved.model_dump(mode="json", exclude={"stall_seconds", "timeout_seconds"})
