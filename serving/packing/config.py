"""The section `artifact` of a config file: how a trained model is packed."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from nightjar.features.contract.strict import Strict


class CalibrationConfig(Strict):
    """What is put behind the head, fitted on rows that training holds back and the gate does not judge by:
    `training.validation.share`, or its `dataset`.
    """

    method: Literal["none", "platt", "isotonic"] = "none"
    """`platt`: a line through the logits. `isotonic`: an ascending curve of any form, which takes more rows."""
    by: str | None = None
    """A single-valued field: a curve for each of its values that has enough rows. Empty: one for all."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.by is not None and self.method == "none":
            raise ValueError("by needs a method: platt or isotonic")
        return self


class ArtifactConfig(Strict):
    """How a model's tables are stored where it serves, and its calibration. Training goes on from float32, without."""

    embeddings: Literal["float32", "float16", "int8"] = "float32"
    """How embeddings are stored. `int8`: with a scale for each row."""
    wide: Literal["float32", "float16", "bfloat16"] = "float32"
    """How wide weights are stored. The bias stays float32."""
    calibration: CalibrationConfig = CalibrationConfig()
    """What is put behind the head."""

    @property
    def is_plain(self) -> bool:
        """True if the artifact has the trainer's own tables and nothing more, as every reader expects."""
        return self == ArtifactConfig()

    @property
    def is_calibrated(self) -> bool:
        """Whether there is a calibration."""
        return self.calibration.method != "none"
