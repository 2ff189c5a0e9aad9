"""The section `artifact` of a config file: how a trained model is packed."""

from __future__ import annotations

from typing import Literal

from nightjar.features.contract.strict import Strict


class ArtifactConfig(Strict):
    """How a model's tables are stored where it serves. Training always goes on from float32."""

    embeddings: Literal["float32", "float16", "int8"] = "float32"
    """How embeddings are stored. `int8`: with a scale for each row."""
    wide: Literal["float32", "float16", "bfloat16"] = "float32"
    """How wide weights are stored. The bias stays float32."""

    @property
    def is_plain(self) -> bool:
        """True if the artifact has the trainer's own tables and nothing more, as every reader expects."""
        return self == ArtifactConfig()
