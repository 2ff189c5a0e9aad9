"""The `training` section of a config file. Every mistake in it is reported at once, with its path."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, PositiveInt, model_validator

from nightjar.features.contract.spec import Strict

Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]
Activation = Literal["relu", "tanh", "sigmoid", "gelu", "silu", "leaky_relu"]
ModelName = Literal["lr", "mf", "nmf", "fm", "deep", "wide_deep", "deepfm"]
"""Those of training.models.MODELS."""
Section = TypeVar("Section", bound=Strict)

# Rules of the wide table, of the embedding tables and of the head.
DEFAULT_RULES = ("ftrl", "adagrad", "adagrad")
MODEL_RULES = {"deepfm": ("lazy_adam", "lazy_adam", "adam")}
LEARNING_RATES = {"adagrad": 0.05, "row_adagrad": 0.05, "lazy_adam": 0.001, "adam": 0.001, "sgd": 0.1}


def _with_rule(section: Section, key: str, default: str) -> Section:
    """With the rule and the rule's learning rate, where they are left open."""
    rule, rate = (getattr(section, name) for name in (key, "learning_rate"))
    rule = rule or default
    return section.model_copy(update={key: rule, "learning_rate": rate or LEARNING_RATES.get(rule)})


class TableConfig(Strict):
    """What wide and embedding tables have in common. A rule takes the settings that are its own; None is the model's.

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
    squares: what ftrl's n grows by, the square of that sum (round), or the sum of the squares of the examples'
    gradients (examples). The second is what as many rounds of one example would add: batches of some hundred rows then
    learn as well as one row at a time does. With many thousands it lets the weights of frequent ids overshoot at the
    start of a run, which BatchRamp prevents.
    precision: of ftrl's weights; q2.13 is 16-bit fixed point (training.tables.fixed_point).
    """

    rule: Literal["ftrl", "adagrad", "lazy_adam", "adam"] | None = None
    squares: Literal["round", "examples"] = "round"
    precision: Literal["float32", "q2.13"] = "float32"
    alpha: Positive = 0.05
    beta: NotNegative = 1.0
    lambda1: NotNegative = 0.0
    lambda2: NotNegative = 0.0

    def resolved(self, rule: str = DEFAULT_RULES[0]) -> WideConfig:
        """With `rule` where none is given, and the rule's learning rate."""
        return _with_rule(self, "rule", rule)


class EmbeddingConfig(TableConfig):
    """The embedding tables, one for each width.

    init_scale: standard deviation of the initial values times the square root of the table's width.
    nonnegative: initial values are not negative, and every step ends in a projection onto the values that are not
    (non-negative factorisation).
    """

    rule: Literal["adagrad", "row_adagrad", "lazy_adam", "adam"] | None = None
    init_scale: NotNegative = 0.1
    nonnegative: bool = False

    def resolved(self, rule: str = DEFAULT_RULES[1]) -> EmbeddingConfig:
        """With `rule` where none is given, and the rule's learning rate."""
        return _with_rule(self, "rule", rule)


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
    optimizer: Literal["adagrad", "adam", "sgd"] | None = None
    learning_rate: Positive | None = None
    initial_accumulator: NotNegative = 0.1
    weight_decay: NotNegative = 0.0

    @model_validator(mode="after")
    def _check(self) -> DeepConfig:
        if isinstance(self.dropout, tuple) and len(self.dropout) != len(self.layers):
            raise ValueError(f"{len(self.layers)} layers take one dropout or one each; got {list(self.dropout)}")
        return self

    def resolved(self, optimizer: str = DEFAULT_RULES[2]) -> DeepConfig:
        """With `optimizer` where none is given, and its learning rate."""
        return _with_rule(self, "optimizer", optimizer)

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


class HeldOutValidationConfig(Strict):
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
    def _check(self) -> HeldOutValidationConfig:
        if self.share is not None and self.dataset is not None:
            raise ValueError("give share or dataset, not both")
        return self


class MlflowTrackingConfig(Strict):
    """An MLflow server or store that runs are recorded in; needs the extra `mlflow`."""

    tracking_uri: str
    experiment: str = "nightjar"


class BatchRamp(Strict):
    """A run's first `rows` rows are taken in global batches of `batch_size` (batch size ramp-up).

    The gradients of a round are taken at the same weights. While a table has seen little, a sum of thousands of them
    overshoots; once it has seen more, a large round is as good as the small ones that it holds. A warm start has.
    """

    batch_size: int = Field(ge=1)
    rows: int = Field(ge=1)


class CheckpointConfig(Strict):
    """When a run saves itself, and how many of its checkpoints stay. Both intervals may be set, or none."""

    every_steps: int | None = Field(default=None, ge=1)
    every_minutes: float | None = Field(default=10.0, gt=0.0, allow_inf_nan=False)
    keep: int = Field(default=2, ge=1)


class TrainingConfig(Strict):
    """How a model is trained.

    batch_size: rows of a global batch, whatever the number of workers. batch_ramp: smaller ones to begin with, in a run
    that begins with nothing. lanes: streams of files that every global batch draws from (training.data.plan); more
    lanes mix better, hold more files in memory and allow more workers. precision: of the dense layers; bf16 keeps
    tables, sums, logits, loss and the layers' weights in float32, and pays where the hardware multiplies bfloat16 (CPUs
    with AMX or AVX512-BF16, GPUs since Ampere). device: of the dense layers; auto takes a GPU if there is one.
    tables_on: where the tables are while they learn: in the host's memory, or on the device of the dense layers, which
    only ftrl in float32, adagrad and row_adagrad can; auto is the device if it is a GPU and all tables can. It has been
    tested against the host's on CPU tensors, and never on a GPU: hence not the default.

    workers: how many to begin with, and the most there will be; min_workers: the fewest to go on with when
    some are lost (training.run.attempts). threads_per_worker: torch threads; None shares the machine's cores
    among its workers. stall_seconds: how long a worker may be silent, and how long all of them may get nothing
    done: no global batch, no file, no block of a table. start_seconds: how long Spark may take to start the
    workers. timeout_seconds: the limit of the whole run, restarts included. max_restarts: restarts in a row
    without a new checkpoint in between.
    """

    model: ModelName = "wide_deep"
    epochs: int = Field(default=1, ge=1)
    batch_size: int = Field(default=4096, ge=1)
    batch_ramp: BatchRamp | None = None
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
    device: Literal["auto", "cpu", "cuda"] = "auto"
    tables_on: Literal["auto", "host", "device"] = "host"
    wide: WideConfig = WideConfig()
    embeddings: EmbeddingConfig = EmbeddingConfig()
    deep: DeepConfig = DeepConfig()
    mf: MatrixFactorizationConfig | None = None
    validation: HeldOutValidationConfig | None = None
    tensorboard: bool = False
    mlflow: MlflowTrackingConfig | None = None

    @property
    def resolved(self) -> TrainingConfig:
        """With everything in place that was left to the model: FTRL for the wide part and AdaGrad for the rest (Cheng
        et al. 2016); Adam for all parts of deepfm (Guo et al. 2017), lazy in its tables; the rules' learning rates;
        nmf has no negative embeddings.
        """
        wide, embeddings, deep = MODEL_RULES.get(self.model, DEFAULT_RULES)
        nonnegative = self.embeddings.nonnegative or self.model == "nmf"
        sections = {
            "wide": self.wide.resolved(wide),
            "embeddings": self.embeddings.resolved(embeddings).model_copy(update={"nonnegative": nonnegative}),
            "deep": self.deep.resolved(deep),
        }
        return self.model_copy(update=sections)

    @model_validator(mode="after")
    def _check_ramp(self) -> TrainingConfig:
        if self.batch_ramp and not self.lanes <= self.batch_ramp.batch_size <= self.batch_size:
            raise ValueError(
                f"batch_ramp.batch_size is {self.batch_ramp.batch_size}. A ramp goes up to batch_size, "
                f"{self.batch_size}, and every lane gives it a row. Set it to {self.lanes} (lanes) or more, and to no "
                f"more than batch_size."
            )
        return self

    @model_validator(mode="after")
    def _check_workers(self) -> TrainingConfig:
        if self.min_workers > self.workers:
            raise ValueError(
                f"min_workers is {self.min_workers}, but workers is only {self.workers}. Lower min_workers."
            )
        if self.workers > self.lanes:
            raise ValueError(
                f"workers is {self.workers}, but lanes only {self.lanes}, and every worker serves at least one. "
                f"Raise lanes, or lower workers."
            )
        return self

    @property
    def settings(self) -> dict[str, Any]:
        """All that the model depends on, resolved, as JSON values. Observers and places are not among it, nor is how
        the run is carried out: any number of workers, interrupted or not, on any device, computes the same model up to
        the rounding of float32 sums.
        """
        return self.resolved.model_dump(mode="json", exclude={**_EXECUTION, "validation": {"dataset"}})


_EXECUTION = dict.fromkeys(
    (
        "tables_on",
        "workers",
        "min_workers",
        "threads_per_worker",
        "stall_seconds",
        "start_seconds",
        "timeout_seconds",
        "max_restarts",
        "checkpoint",
        "device",
        "tensorboard",
        "mlflow",
    ),
    True,
)
