"""The `training` section of a config file. Every mistake in it is reported at once, with its path."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, PositiveInt

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


class TrainingConfig(Strict):
    """How a model is trained.

    batch_size: rows of a global batch, whatever the number of workers. lanes: streams of files that every
    global batch draws from (training.plan); more lanes mix better, hold more files in memory and allow more
    workers. threads_per_worker: torch threads; None shares the machine's cores among its workers.
    precision: of the dense layers; bf16 keeps tables, sums, logits, loss and the layers' weights in float32, and pays
    where the hardware multiplies bfloat16 (CPUs with AMX or AVX512-BF16, GPUs since Ampere).
    device: of the dense layers; auto takes a GPU if there is one.
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
    device: Literal["auto", "cpu", "cuda"] = "auto"
    wide: WideConfig = WideConfig()
    embeddings: EmbeddingConfig = EmbeddingConfig()
    deep: DeepConfig = DeepConfig()

    @property
    def settings(self) -> dict[str, Any]:
        """All that the model depends on, as JSON values: everything but the time limits."""
        return self.model_dump(mode="json", exclude={"stall_seconds", "timeout_seconds"})
