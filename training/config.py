"""The `training` section of a config file. Every mistake in it is reported at once, with its path."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt, model_validator

from features.spec import Strict

Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]
Activation = Literal["relu", "tanh", "sigmoid", "gelu", "silu", "leaky_relu"]
Optimizer = Literal["adagrad", "adam", "sgd"]

# What the papers of the models name, where it is not FTRL for the wide part and AdaGrad for the rest.
HEAD_OPTIMIZERS: dict[str, Optimizer] = {"deepfm": "adam"}
TABLE_RULES: dict[str, Literal["lazy_adam"]] = {"deepfm": "lazy_adam"}
HEAD_LEARNING_RATES: dict[Optimizer, float] = {"adagrad": 0.05, "adam": 0.001, "sgd": 0.1}


class TableConfig(Strict):
    """What wide and embedding tables have in common. A rule takes the settings that are its own; no rule is the
    model's own, see TrainingConfig.resolved.

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
    beta1: Fraction = 0.9
    beta2: Fraction = 0.999
    epsilon: Positive = 1e-8
    l2: NotNegative = 0.0
    dense_rows_limit: int = Field(default=1_000_000, ge=1)


class WideConfig(TableConfig):
    """The wide part's table: one weight a row, zero at first.

    alpha, beta, lambda1, lambda2: of ftrl (McMahan et al. 2013), whose gradient is the SUM over the global batch.
    precision: of ftrl's weights; q2.13 is 16-bit fixed point (training.tables.fixed_point).
    """

    rule: Literal["ftrl", "adagrad", "lazy_adam", "adam"] | None = None
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

    rule: Literal["adagrad", "row_adagrad", "lazy_adam", "adam"] | None = None
    init_scale: NotNegative = 0.1
    nonnegative: bool = False


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
    dropout: Fraction | tuple[Fraction, ...] = 0.0
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
    precision: of the dense layers; bf16 keeps tables, sums, logits, loss and the layers' weights in float32, and pays
    where the hardware multiplies bfloat16 (CPUs with AMX or AVX512-BF16, GPUs since Ampere).
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
    precision: Literal["float32", "bf16"] = "float32"
    wide: WideConfig = WideConfig()
    embeddings: EmbeddingConfig = EmbeddingConfig()
    deep: DeepConfig = DeepConfig()
    mf: MatrixFactorizationConfig | None = None

    @property
    def resolved(self) -> TrainingConfig:
        """With every setting that was left to the model in place: FTRL for the wide part and AdaGrad for the rest
        (Cheng et al. 2016); Adam for all parts of deepfm (Guo et al. 2017), lazy in its tables; nmf has no negative
        embeddings.
        """
        optimizer = self.deep.optimizer or HEAD_OPTIMIZERS.get(self.model, "adagrad")
        rate = self.deep.learning_rate or HEAD_LEARNING_RATES[optimizer]
        deep = self.deep.model_copy(update={"optimizer": optimizer, "learning_rate": rate})
        rule = TABLE_RULES.get(self.model)
        wide = self.wide.model_copy(update={"rule": self.wide.rule or rule or "ftrl"})
        of_embeddings = {
            "rule": self.embeddings.rule or rule or "adagrad",
            "nonnegative": self.embeddings.nonnegative or self.model == "nmf",
        }
        embeddings = self.embeddings.model_copy(update=of_embeddings)
        return self.model_copy(update={"wide": wide, "embeddings": embeddings, "deep": deep})

    @property
    def settings(self) -> dict[str, Any]:
        """All that the model depends on, resolved and as JSON values: everything but the time limits."""
        return self.resolved.model_dump(mode="json", exclude={"stall_seconds", "timeout_seconds"})
