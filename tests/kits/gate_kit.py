"""Impressions of known truth for the gate, rules to hold scores of them against, and the gate on arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nightjar.serving.gate import gate
from nightjar.serving.gate.decision import Decision, GateCheck, GateConfig, Reference
from nightjar.serving.packing.dry_run import DryRun
from nightjar.serving.sums.measure import see
from nightjar.serving.sums.rows import CANDIDATE, CHAMPION, REFERENCE, InMemory, Observations
from nightjar.serving.sums.slices import Slices

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


def bound_of(decision: Decision, metric: str, part: str | None = None) -> float:
    """How far bins may have moved a metric."""
    name = "miscalibration" if metric == "calibration" else metric
    [figures] = [one.figures for one in decision.parts if one.name == part]
    [bound] = [figure.error_bound for figure in figures if figure.metric == name]
    return bound or 0.0


@dataclass(frozen=True)
class Sliced:
    """A column that impressions are sliced by, and its slices."""

    value_B: np.ndarray
    slices: Slices

    @staticmethod
    def of(value_B: np.ndarray) -> Sliced:
        """A slice for each distinct value."""
        values, code_B = np.unique(value_B, return_inverse=True)
        return Sliced(code_B, Slices(names={code: str(value) for code, value in enumerate(values.tolist())}))


@dataclass(frozen=True)
class ReferenceScores:
    """Which version the reference is, and its scores."""

    of: Reference
    score_B: np.ndarray


def decide(
    config: GateConfig,
    observed: Observations,
    candidate_B: np.ndarray,
    champion_B: np.ndarray | None = None,
    slices: Mapping[str, Sliced] | None = None,
    dry_run: DryRun | None = None,
    *,
    reference: ReferenceScores | None = None,
    baselines: Mapping[str, np.ndarray] | None = None,
    earlier: Sequence[Decision] = (),
) -> Decision:
    """The gate's decision on arrays of scores."""
    scores = {CANDIDATE: candidate_B, CHAMPION: champion_B, REFERENCE: reference.score_B if reference else None}
    scored = {name: score_B for name, score_B in scores.items() if score_B is not None} | dict(baselines or {})
    sliced = slices or {}
    host = InMemory.of(observed, scored, {name: one.value_B for name, one in sliced.items()})
    names = {name: one.slices for name, one in sliced.items()}
    of = reference.of if reference else None
    return gate.decide(config, host, see(host, names), names, dry_run, reference=of, earlier=earlier).decision
