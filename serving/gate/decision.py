"""What the gate is told to look at, and what it says: models of a config file and of decision.json."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field, model_validator

from nightjar.features.contract.errors import UsageError
from nightjar.features.contract.spec import FeatureSpec
from nightjar.features.contract.strict import Strict
from nightjar.serving.gate.bootstrap import Metric, Support

Verdict = Literal["published", "rejected"]
BEYOND_BOUND = 5


class GateRule(Strict):
    """The candidate is worse than the champion by at most `tolerance`, with this one-sided `confidence`.

    slice: a single-valued field, or a dense feature in quarters; the rule is then checked for each value, and values
    with too little support are judged together. tolerance: in the metric's own unit; the metric calibration is
    |sum of scores / sum of labels - 1|.
    """

    metric: Metric
    tolerance: float = Field(ge=0.0, allow_inf_nan=False)
    confidence: float = Field(default=0.95, ge=0.5, lt=1.0)
    slice: str | None = None


class DryRunLimits(Strict):
    """What the packed model may take in a fresh process. latency: of a request of 200 candidates, in milliseconds."""

    median_latency: float = Field(default=1000.0, gt=0.0)
    p99_latency: float = Field(default=5000.0, gt=0.0)
    resident_mib: float = Field(default=32_768.0, gt=0.0)


class GateConfig(Strict):
    """The `gate` section of a config file.

    resamples: of the bootstrap; at least five must lie beyond every rule's bound. slices: every metric is also given
    by these; rules may name them and others. overall, slice_support: what all rows, and a value of a slice, need.
    calibration: bounds of sum of scores / sum of labels.
    normalized_entropy: the highest; a model that predicts the base rate has 1.
    """

    resamples: int = Field(default=200, ge=20, le=100_000)
    seed: int = Field(default=0, ge=0)
    overall: Support = Support()
    slices: tuple[str, ...] = ()
    slice_support: Support = Support()
    dry_run: DryRunLimits = DryRunLimits()
    calibration: tuple[float, float] = (0.8, 1.25)
    normalized_entropy: float = Field(default=0.999, gt=0.0, lt=1.0)
    rules: tuple[GateRule, ...] = (
        GateRule(metric="log_loss", tolerance=0.002),
        GateRule(metric="auc", tolerance=0.005),
    )

    @model_validator(mode="after")
    def _check(self) -> GateConfig:
        low, high = self.calibration
        if not 0.0 <= low < high < math.inf:
            raise ValueError(f"calibration must be two bounds in ascending order; got {[low, high]}")
        names = [f"{rule.metric} by {rule.slice}" if rule.slice else rule.metric for rule in self.rules]
        if len(set(names)) < len(names):
            raise ValueError(f"a metric may have one rule overall and one for each slice column; got {names}")
        if not names:
            raise ValueError("rules must hold one rule or more")
        strictest = max(rule.confidence for rule in self.rules)
        needed = math.ceil(round(BEYOND_BOUND / (1.0 - strictest), 6))
        if self.resamples < needed:
            raise ValueError(f"confidence {strictest} needs {needed} resamples or more; got {self.resamples}")
        return self

    @property
    def sliced_by(self) -> tuple[str, ...]:
        """All that metrics are wanted by, each once."""
        return tuple(dict.fromkeys((*self.slices, *(rule.slice for rule in self.rules if rule.slice))))

    def require_features(self, spec: FeatureSpec) -> None:
        """Raises UsageError if a slice or a metric needs what `spec` does not have."""
        single = [field.name for field in spec.fields if not field.multi_valued and field.kind != "hashed"]
        unknown = sorted(set(self.sliced_by) - {*single, *spec.dense_names()})
        if unknown:
            raise UsageError(
                f"the gate's slices {unknown} are neither single-valued fields with a vocabulary nor dense features. "
                f"Choose from {[*single, *spec.dense_names()]}."
            )
        if spec.group is None and any(rule.metric == "gauc" for rule in self.rules):
            raise UsageError("the gate's metric gauc needs groups. Set features.group, or remove the rule.")


class Check(Strict):
    """One thing that was looked at, and what came of it.

    metric: a rule's metric, or dry_run, support, scores, calibration_ratio. slice: `column=value`; None for all rows.
    difference: candidate - champion; interval: its one-sided lower and upper bounds, each at `confidence`.
    None where a check has no such figure.
    """

    metric: str
    slice: str | None = None
    champion: float | None = None
    candidate: float | None = None
    difference: float | None = None
    interval: tuple[float, float] | None = None
    confidence: float | None = None
    tolerance: float | None = None
    passed: bool
    reason: str


class Figure(Strict):
    """A metric of both models; None where it is undefined. interval: of the difference, bounds at 95 % each."""

    metric: Metric
    candidate: float | None
    champion: float | None
    difference: float | None
    interval: tuple[float, float] | None


class PartFigures(Strict):
    """Every metric in all rows (name None) or in those of a slice."""

    name: str | None
    rows: int
    positives: int
    figures: tuple[Figure, ...]


class Decision(Strict):
    """The gate's verdict with every check; `published` if all passed. Same inputs, same JSON."""

    verdict: Verdict
    rows: int
    checks: tuple[Check, ...]
    parts: tuple[PartFigures, ...] = ()

    @property
    def failures(self) -> tuple[Check, ...]:
        """The checks that did not pass."""
        return tuple(check for check in self.checks if not check.passed)
