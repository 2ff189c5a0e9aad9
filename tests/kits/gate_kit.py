"""Impressions of known truth for the gate, and rules to hold scores of them against."""

from __future__ import annotations

import numpy as np

from nightjar.serving.evaluation.metrics import Observations
from nightjar.serving.gate.decision import Decision, GateCheck, GateConfig

SMALL = {"rows": 50, "positives": 5, "groups": 5}
METRICS = ("log_loss", "normalized_entropy", "auc", "gauc", "calibration")


class Impressions:
    """Impressions whose true log odds are known, so that scores of any worth can be made."""

    def __init__(self, rows: int = 6000, groups: int = 400, seed: int = 3) -> None:
        self.random = np.random.default_rng(seed)
        self.group = self.random.integers(1, groups + 1, rows).astype(np.int64) * 7919
        user = self.random.normal(0.0, 0.8, groups + 1)[self.group // 7919]
        self.logit = user + self.random.normal(-1.0, 1.0, rows)
        self.country = np.array(["de", "fr", "jp"])[self.random.integers(0, 3, rows)]
        label = (self.random.random(rows) < sigmoid(self.logit)).astype(np.float64)
        self.observed = Observations(label, self.random.uniform(0.5, 2.0, rows), self.group)

    def scores(self, noise: float = 0.0, shift: float = 0.0) -> np.ndarray:
        """The true probabilities after `noise` and `shift` of their log odds."""
        return sigmoid(self.logit + shift + noise * self.random.normal(size=len(self.logit)))


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-x))


def config(*rules: dict[str, object], **settings: object) -> GateConfig:
    return GateConfig.model_validate({"overall": SMALL, "slice_support": SMALL, "rules": rules, **settings})


def rule(metric: str, tolerance: float = 0.01, **settings: object) -> dict[str, object]:
    return {"metric": metric, "tolerance": tolerance, **settings}


def check_of(decision: Decision, metric: str, part: str | None = None, against: str = "champion") -> GateCheck:
    """The comparison with the champion, or the reference, of this metric."""
    sought = (metric, part, against)
    found = [c for c in decision.checks if (c.metric, c.slice, c.against) == sought and c.tolerance is not None]
    assert len(found) == 1
    return found[0]
