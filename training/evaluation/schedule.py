"""What validations decide: which state is the best, when learning rates fall, when training ends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nightjar.features.contract.metrics.registry import METRICS
from nightjar.training.evaluation.config import HeldOutValidationConfig


@dataclass(frozen=True)
class Verdict:
    """Of one validation. factor: what the learning rates are multiplied by from here on."""

    improved: bool
    factor: float
    stop: bool


class Schedule:
    """Early stopping and learning rates on a plateau, by one metric: a state machine over its values."""

    def __init__(self, config: HeldOutValidationConfig) -> None:
        self._config = config
        self._metric = METRICS[config.metric]
        self.best: float | None = None
        self.scale = 1.0
        self._since_best = 0
        self._since_change = 0

    def observe(self, value: float) -> Verdict:
        """Take the next validation's value of the metric into account."""
        if self.best is None or self._metric.gain(value, self.best) > self._config.min_delta:
            self.best, self._since_best, self._since_change = value, 0, 0
            return Verdict(improved=True, factor=1.0, stop=False)
        self._since_best += 1
        self._since_change += 1
        stopping, factor = self._config.early_stopping, self._factor()
        if factor != 1.0:
            self.scale *= factor
            self._since_change = 0
        return Verdict(False, factor, stop=stopping is not None and self._since_best >= stopping.patience)

    def _factor(self) -> float:
        plateau = self._config.plateau
        if plateau is None or self._since_change < plateau.patience:
            return 1.0
        lowest_before_rounding = plateau.min_scale * (1.0 - 1e-9)
        return plateau.factor if self.scale * plateau.factor >= lowest_before_rounding else 1.0

    def state(self) -> Mapping[str, Any]:
        """All that it remembers, as JSON values."""
        return {
            "best": self.best,
            "scale": self.scale,
            "since_best": self._since_best,
            "since_change": self._since_change,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` returned."""
        self.best, self.scale = state["best"], state["scale"]
        self._since_best, self._since_change = state["since_best"], state["since_change"]
