"""The `training` section of a config file. Every mistake in it is reported at once, with its path."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import Field, PositiveInt, create_model, model_validator

from nightjar.features.contract.strict import Strict
from nightjar.training.evaluation.config import HeldOutValidationConfig
from nightjar.training.models import MODELS, find_model, foreign_sections, model_sections
from nightjar.training.models.model import Rules
from nightjar.training.step.optimizers import HEAD_RULES
from nightjar.training.tables.rules import EMBEDDING_RULES, RULES, WIDE_RULES

Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]
Activation = Literal["relu", "tanh", "sigmoid", "gelu", "silu", "leaky_relu"]
Section = TypeVar("Section", bound=Strict)

if TYPE_CHECKING:  # what pydantic reads from the registries, a type checker cannot
    ModelName = str
    WideRule = str
    EmbeddingRule = str
    HeadRuleName = str
else:
    ModelName = Literal[tuple(MODELS)]
    WideRule, EmbeddingRule = Literal[WIDE_RULES], Literal[EMBEDDING_RULES]
    HeadRuleName = Literal[tuple(HEAD_RULES)]

TABLE_RATES = {name: rule.learning_rate for name, rule in RULES.items()}
HEAD_RATES = {name: rule.learning_rate for name, rule in HEAD_RULES.items()}


def _with_rule(section: Section, key: str, default: str, rates: Mapping[str, float | None]) -> Section:
    """With the rule and the rule's learning rate, where they are left open.

    Args:
        section: of the config.
        key: the setting that names the rule.
        default: the rule.
        rates: the learning rates of the rules.
    """
    rule, rate = (getattr(section, name) for name in (key, "learning_rate"))
    rule = rule or default
    return section.model_copy(update={key: rule, "learning_rate": rate or rates[rule]})


class TableConfig(Strict):
    """What wide and embedding tables have in common. A rule takes the settings that are its own."""

    placement: Literal["sharded", "replicated"] = "sharded"
    """`sharded`: the rows are shared out over the workers. `replicated`: every worker holds the whole table."""
    learning_rate: Positive | None = None
    """Of adagrad, row_adagrad, lazy_adam and adam, whose gradient is the MEAN over the global batch. Empty: the rule's,
    0.05 for the first two and 0.001 for the others."""
    initial_accumulator: NotNegative = 0.1
    """Of adagrad and row_adagrad: what the sums of squares begin with. A mean over thousands of rows makes a row's
    squared gradients tiny: a value far above them all but stops the table from learning."""
    beta1: Fraction = 0.9
    """Of lazy_adam and adam: decay of the mean gradient."""
    beta2: Fraction = 0.999
    """Of lazy_adam and adam: decay of the mean squared gradient."""
    epsilon: Positive = 1e-8
    """Of lazy_adam and adam: added to the root that a step is divided by."""
    l2: NotNegative = 0.0
    """Of adam: the loss grows by l2 / 2 times the sum of the squares of the whole table."""
    dense_rows_limit: int = Field(default=1_000_000, ge=1)
    """Of adam: it moves every row in every step, and refuses a larger table."""


class WideConfig(TableConfig):
    """The wide part's table: one weight a row, zero at first."""

    rule: WideRule | None = None
    """The update rule. Empty: the model's own."""
    squares: Literal["round", "examples"] = "round"
    """What ftrl's n grows by: the square of the batch's summed gradient (round), or the sum of the examples' squares
    (examples), as in so many rounds of one example. The second learns from some hundred rows as well as from one at a
    time; with many thousands it needs a `batch_ramp`."""
    precision: Literal["float32", "q2.13"] = "float32"
    """Of ftrl's weights; q2.13 is 16-bit fixed point."""
    alpha: Positive = 0.05
    """Of ftrl (McMahan et al. 2013), whose gradient is the SUM over the global batch: the learning rate."""
    beta: NotNegative = 1.0
    """Of ftrl: damps the first steps."""
    lambda1: NotNegative = 0.0
    """Of ftrl: L1, which makes weights zero."""
    lambda2: NotNegative = 0.0
    """Of ftrl: L2."""

    def resolved(self, rule: str = Rules.wide) -> WideConfig:
        """With `rule` where none is given, and the rule's learning rate."""
        return _with_rule(self, "rule", rule, TABLE_RATES)


class EmbeddingConfig(TableConfig):
    """The embedding tables, one for each width."""

    rule: EmbeddingRule | None = None
    """The update rule. Empty: the model's own."""
    init_scale: NotNegative = 0.1
    """Standard deviation of the initial values times the square root of the table's width."""
    nonnegative: bool = False
    """Initial values are not negative, and every step projects onto such values (non-negative factorisation)."""

    def resolved(self, rule: str = Rules.embeddings) -> EmbeddingConfig:
        """With `rule` where none is given, and the rule's learning rate."""
        return _with_rule(self, "rule", rule, TABLE_RATES)


class DeepConfig(Strict):
    """The hidden layers above the embeddings, and the rule of all weights of the head (MEAN over the global batch)."""

    layers: tuple[PositiveInt, ...] = Field(default=(1024, 512, 256), min_length=1)
    """Units of each hidden layer."""
    activation: Activation = "relu"
    """Of every hidden layer."""
    batch_norm: bool = False
    """Normalises every hidden layer over the global batch."""
    dropout: Fraction | tuple[Fraction, ...] = 0.0
    """Probability that a hidden unit is 0 in training: one for all layers, or one for each."""
    optimizer: HeadRuleName | None = None
    """The rule of the head's weights. Empty: the model's own."""
    learning_rate: Positive | None = None
    """Of the head's weights. Empty: the optimizer's own."""
    initial_accumulator: NotNegative = 0.1
    """Of adagrad: what the sums of squares begin with."""
    weight_decay: NotNegative = 0.0
    """L2: as much of a weight is added to its gradient. Biases and batch norm are free of it."""

    @model_validator(mode="after")
    def _check(self) -> DeepConfig:
        if isinstance(self.dropout, tuple) and len(self.dropout) != len(self.layers):
            raise ValueError(f"{len(self.layers)} layers take one dropout or one each; got {list(self.dropout)}")
        return self

    def resolved(self, optimizer: str = Rules.head) -> DeepConfig:
        """With `optimizer` where none is given, and its learning rate."""
        return _with_rule(self, "optimizer", optimizer, HEAD_RATES)

    @property
    def dropout_rates(self) -> tuple[float, ...]:
        """One for each hidden layer."""
        return self.dropout if isinstance(self.dropout, tuple) else (self.dropout,) * len(self.layers)


class MlflowTrackingConfig(Strict):
    """An MLflow server or store that runs are recorded in; needs the extra `mlflow`."""

    tracking_uri: str
    """Address of the server or store."""
    experiment: str = "nightjar"
    """The experiment's name."""


class BatchRamp(Strict):
    """A run begins with smaller global batches (batch size ramp-up).

    The gradients of a round are taken at the same weights. While a table has seen little, a sum of thousands of them
    overshoots; once it has seen more, a large round is as good as the small ones that it holds. A warm start has.
    """

    batch_size: int = Field(ge=1)
    """Rows of such a batch: `lanes` or more, and no more than `training.batch_size`."""
    rows: int = Field(ge=1)
    """How many rows of the run they hold."""


class CheckpointConfig(Strict):
    """When a run saves itself, and how many of its checkpoints stay. Both intervals may be set, or none."""

    every_steps: int | None = Field(default=None, ge=1)
    """Steps between two checkpoints. Empty: not by steps."""
    every_minutes: float | None = Field(default=10.0, gt=0.0, allow_inf_nan=False)
    """Minutes between two checkpoints. Empty: not by time."""
    keep: int = Field(default=2, ge=1)
    """The latest checkpoints that stay."""


class _ModelAndRun(Strict):
    """The first half of TrainingConfig, before the models' own sections: fields are written in this order."""

    model: ModelName = "wide_deep"
    """The architecture."""
    epochs: int = Field(default=1, ge=1)
    """Passes over the training rows."""
    batch_size: int = Field(default=4096, ge=1)
    """Rows of a global batch, whatever the number of workers."""
    batch_ramp: BatchRamp | None = None
    """Smaller batches to begin with, in a run that begins with nothing. Empty: none."""
    lanes: int = Field(default=8, ge=1)
    """Streams of files that every global batch draws from. More lanes mix better, hold more files in memory and allow
    more workers."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Of the rows' order, dropout masks and initial values."""
    workers: int = Field(default=1, ge=1)
    """How many workers to begin with, and the most there will be. Rows that fill fewer files have a worker for each."""
    min_workers: int = Field(default=1, ge=1)
    """The fewest workers to go on with when some are lost."""
    threads_per_worker: int | None = Field(default=None, ge=1)
    """Threads of torch. Empty: the machine's cores, shared among its workers."""
    stall_seconds: int = Field(default=300, ge=1)
    """How long a silent worker is waited for."""
    start_seconds: int = Field(default=600, ge=1)
    """How long Spark may take to start the workers."""
    timeout_seconds: int = Field(default=24 * 3600, ge=1)
    """The limit of the whole run, restarts included."""
    max_restarts: int = Field(default=3, ge=0)
    """Restarts in a row without a new checkpoint in between."""
    checkpoint: CheckpointConfig = CheckpointConfig()
    """When a run saves itself."""
    precision: Literal["float32", "bf16"] = "float32"
    """Of the dense layers. bf16 keeps tables, sums, logits, loss and the layers' weights in float32; it pays where the
    hardware multiplies bfloat16 (CPUs with AMX or AVX512-BF16, GPUs since Ampere)."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Of the dense layers; auto takes a GPU if there is one."""
    tables_on: Literal["auto", "host", "device"] = "host"
    """Where tables are while they learn. The device of the dense layers takes ftrl in float32, adagrad and row_adagrad;
    auto is the device if it is a GPU and can take all tables. Tested on CPU tensors, never on a GPU."""
    wide: WideConfig = WideConfig()
    """The wide part."""
    embeddings: EmbeddingConfig = EmbeddingConfig()
    """The embedding tables."""
    deep: DeepConfig = DeepConfig()
    """The hidden layers, and the rule of the head."""


if TYPE_CHECKING:
    _WithModelSections = _ModelAndRun
else:
    _WithModelSections = create_model(
        "_WithModelSections",
        __base__=_ModelAndRun,
        **{
            key: (section.kind | None if section.default is None else section.kind, section.default)
            for key, section in model_sections().items()
        },
    )


class TrainingConfig(_WithModelSections):
    """How a model is trained."""

    validation: HeldOutValidationConfig | None = None
    """Held-out evaluation during training. Empty: none."""
    tensorboard: bool = False
    """Writes TensorBoard events to `<candidate>.tensorboard`."""
    mlflow: MlflowTrackingConfig | None = None
    """Records the run in MLflow. Empty: no record."""

    @property
    def least_files(self) -> int:
        """Files of a data set to train on of which every lane has one, also after `validation.share` is held back.

        That is done in whole files of about a size: the share's, rounded up, and one more where they are small ones. A
        share above one half is made no room for.
        """
        share = min(self.validation.share or 0.0, 0.5) if self.validation else 0.0
        return math.ceil((self.lanes + 2) / (1.0 - share)) if share else self.lanes

    @property
    def resolved(self) -> TrainingConfig:
        """With everything in place that was left to the model (training.models): its rules, and their learning rates;
        whether its embeddings may be negative.
        """
        model = find_model(self.model)
        nonnegative = self.embeddings.nonnegative or model.nonnegative
        sections = {
            "wide": self.wide.resolved(model.rules.wide),
            "embeddings": self.embeddings.resolved(model.rules.embeddings).model_copy(
                update={"nonnegative": nonnegative}
            ),
            "deep": self.deep.resolved(model.rules.head),
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
        others = dict.fromkeys(foreign_sections(self.model), True)
        return self.resolved.model_dump(mode="json", exclude={**_EXECUTION, **others, "validation": {"dataset"}})


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
