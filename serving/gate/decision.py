"""What the gate is told to look at, and what it says: models of a config file and of decision.json."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, PlainSerializer, model_validator

from nightjar.features.contract.errors import UsageError, did_you_mean
from nightjar.features.contract.metrics.registry import METRICS, Quality, SelectionMetric
from nightjar.features.contract.spec import FeatureSpec, Strict
from nightjar.features.contract.strict import Date
from nightjar.serving.sums.parts import Support

Verdict = Literal["published", "rejected"]
State = Literal["passed", "worse", "inconclusive"]
"""What the data show: within the limit, beyond the limit, or neither with the confidence that is asked for."""
BEYOND_BOUND = 5
FIGURES = 2
"""Raised when the same scores give other figures: the names of evaluations and decisions hold it. 1: by sorting rows,
with multinomial draws."""

_MISCALIBRATION, _IN_FILES = "miscalibration", "calibration"


def name_in_files(metric: str) -> str:
    """What rules and decisions call a metric of the gate: the miscalibration is written `calibration` there."""
    return _IN_FILES if metric == _MISCALIBRATION else metric


ComparedMetric = Annotated[
    Literal[SelectionMetric, "miscalibration"],
    BeforeValidator(lambda name: _MISCALIBRATION if name == _IN_FILES else name),
    PlainSerializer(name_in_files, return_type=str),
]
"""Name of one of features.contract.metrics.registry.COMPARED."""


class GateRule(Strict):
    """The candidate is worse than the champion, and than the reference, by at most `tolerance`, with `confidence`."""

    metric: ComparedMetric
    """What is compared. `calibration` is |ln(sum of scores / sum of labels)| here."""
    tolerance: float = Field(ge=0.0, allow_inf_nan=False)
    """In the metric's own unit."""
    confidence: float = Field(default=0.95, ge=0.5, lt=1.0)
    """Of the one-sided bootstrap bound."""
    slice: str | None = None
    """A single-valued field, or a dense feature in quarters. The rule is then checked for each value; values with too
    little support are judged together. Empty: all rows."""


class DryRunLimits(Strict):
    """What the packed model may take in a fresh process."""

    median_latency: float = Field(default=1000.0, gt=0.0)
    """Of a request of 200 candidates, in milliseconds."""
    p99_latency: float = Field(default=5000.0, gt=0.0)
    """The 99th percentile of the same, in milliseconds."""
    resident_mib: float = Field(default=32_768.0, gt=0.0)
    """Resident memory, in MiB."""


class GateConfig(Strict):
    """The `gate` section of a config file: when a candidate becomes champion."""

    resamples: int = Field(default=200, ge=20, le=100_000)
    """Of the bootstrap. At least five must lie beyond every rule's bound."""
    seed: int = Field(default=0, ge=0)
    """Of the bootstrap."""
    overall: Support = Support()
    """What the day needs to be judged."""
    slices: tuple[str, ...] = ()
    """Every metric is also given by the values of these. Rules may name them and others."""
    slice_support: Support = Support()
    """What a slice's value needs to be judged by itself."""
    dry_run: DryRunLimits = DryRunLimits()
    """What the packed model may take in a fresh process."""
    calibration: tuple[float, float] = (0.8, 1.25)
    """Bounds of sum of scores / sum of labels. A model fails where the ratio's bootstrap interval lies outside."""
    normalized_entropy: float = Field(default=0.999, gt=0.0, lt=1.0)
    """The highest that is let through. A model that predicts the base rate has 1."""
    rules: tuple[GateRule, ...] = (
        GateRule(metric="log_loss", tolerance=0.002),
        GateRule(metric="auc", tolerance=0.005),
    )
    """What the candidate must hold against the champion and the reference."""
    reference_days: int = Field(default=7, ge=0)
    """The reference is the champion of so many days before the judged day: the rules are held against it, too, so that
    small losses do not add up. 0: no reference."""
    reference: str | None = Field(default=None, min_length=1)
    """A version that is the reference instead, every night."""
    sequential: bool = False
    """True: rules on all rows judge the mean difference over the nights since the last promotion, by bounds that hold
    however many nights are looked at. One night's own bound is wrong in one night of twenty at 95 %."""

    @model_validator(mode="after")
    def _check(self) -> GateConfig:
        low, high = self.calibration
        if not 0.0 <= low < high < math.inf:
            raise ValueError(f"calibration must be two bounds in ascending order; got {[low, high]}")
        names = [name_in_files(rule.metric) + (f" by {rule.slice}" if rule.slice else "") for rule in self.rules]
        if len(set(names)) < len(names):
            raise ValueError(f"a metric may have one rule overall and one for each slice column; got {names}")
        if not names:
            raise ValueError("rules must hold one rule or more")
        needed = math.ceil(round(BEYOND_BOUND / (1.0 - self.strictest), 6))
        if self.resamples < needed:
            raise ValueError(f"confidence {self.strictest} needs {needed} resamples or more; got {self.resamples}")
        return self

    @property
    def strictest(self) -> float:
        """The highest confidence of a rule. The calibration's interval has it, too."""
        return max(rule.confidence for rule in self.rules)

    @property
    def sliced_by(self) -> tuple[str, ...]:
        """All that metrics are wanted by, each once."""
        return tuple(dict.fromkeys((*self.slices, *(rule.slice for rule in self.rules if rule.slice))))

    @property
    def grouped_metrics(self) -> list[str]:
        """Metrics of rules that only impressions with groups have."""
        return [rule.metric for rule in self.rules if METRICS[rule.metric].needs == "groups"]

    def require_features(self, spec: FeatureSpec) -> None:
        """Raises UsageError if a slice or a metric needs what `spec` does not have."""
        single = [field.name for field in spec.fields if not field.multi_valued and field.kind != "hashed"]
        unknown = sorted(set(self.sliced_by) - {*single, *spec.dense_names()})
        if unknown:
            known = [*single, *spec.dense_names()]
            raise UsageError(
                f"the gate's slices {unknown} are neither single-valued fields with a vocabulary nor dense features. "
                f"Choose from {known}{did_you_mean(unknown, known) or '.'}"
            )
        if spec.group is None and self.grouped_metrics:
            raise UsageError(
                f"the gate's metric {self.grouped_metrics[0]} needs groups. Set features.group, or remove the rule."
            )


class PublishConfig(Strict):
    """What serves once the gate has let a model through."""

    learn_evaluated_day: bool = False
    """True: the judged model goes on over the day by which it was judged, in one pass, and that finished model serves.
    The next night begins with the judged one all the same, so that no row is learned twice."""
    mean_move: float = Field(default=0.5, gt=0.0, allow_inf_nan=False)
    """How far that may move the scores of the day's rows on average, in log-odds. Beyond it the judged model serves."""
    largest_move: float | None = Field(default=None, gt=0.0, allow_inf_nan=False)
    """How far it may move any row's score, in log-odds. Empty: as far as it likes."""


class RowsNeeded(Strict):
    """How many rows an inconclusive rule would pass with on four days of five; None if with no number of them.

    as_measured: if the true difference is the measured one. if_equal: if the models are equally good.
    """

    as_measured: int | None
    if_equal: int | None


class OverNights(Strict):
    """The mean difference over several nights, and one-sided bounds that hold for all numbers of nights at once."""

    nights: int
    difference: float
    interval: tuple[float, float]


class GateCheck(Strict):
    """One thing that was looked at, and what came of it.

    metric: a rule's metric as rules call it, or dry_run, support, scores, calibration_ratio. slice: `column=value`;
    None for all rows. against: the model that a rule compares with; its figure is under the same name. difference:
    candidate - that model; standard_error: of it; interval: its one-sided lower and upper bounds, each at `confidence`;
    of a calibration_ratio, those of the ratio. over_nights: what a sequential rule is judged by. None where a check has
    no such figure.
    """

    metric: str
    slice: str | None = None
    against: Literal["champion", "reference"] | None = None
    champion: float | None = None
    reference: float | None = None
    candidate: float | None = None
    difference: float | None = None
    standard_error: float | None = None
    interval: tuple[float, float] | None = None
    over_nights: OverNights | None = None
    confidence: float | None = None
    tolerance: float | None = None
    passed: bool
    state: State | None = None
    rows_needed: RowsNeeded | None = None
    reason: str

    @property
    def outcome(self) -> str:
        """For people: passed, inconclusive (whether it passed or not), or failed."""
        if self.state == "inconclusive":
            return self.state
        return "passed" if self.passed else "failed"


class GateWarning(Strict):
    """What does not keep a model from being published, but should be known: a baseline that is better than it.

    value: the baseline's; difference: candidate - baseline; interval: its one-sided bounds, each at `confidence`. None
    where the baseline's scores cannot be compared.
    """

    baseline: str
    metric: str
    candidate: float | None = None
    value: float | None = None
    difference: float | None = None
    interval: tuple[float, float] | None = None
    confidence: float | None = None
    reason: str


class MetricComparison(Strict):
    """A metric of both models; None where it is undefined. interval: of the difference, bounds at 95 % each.

    error_bound: how far bins of scores may have moved the difference, or the candidate's value where there is no
    champion; None if not at all.
    """

    metric: ComparedMetric
    candidate: float | None
    champion: float | None
    difference: float | None
    interval: tuple[float, float] | None
    error_bound: float | None = None


class PartMetrics(Strict):
    """Every metric in all rows (name None) or in those of a slice."""

    name: str | None
    rows: int
    positives: int
    figures: tuple[MetricComparison, ...]


class Reference(Strict):
    """What else the candidate is compared with. days: it was champion so many days before; None if it is pinned."""

    version: str
    days: int | None = None


class AccumulatedLoss(Strict):
    """What the champion, i.e. what serves, has lost against the reference, in nats of log loss on all rows.

    difference: champion - reference on this day; standard_error: of it. total: with a pinned reference, the same; else
    the sum over the judged days of difference / days, i.e. of the loss a day. No selection flatters the champion, which
    had its place before the day. interval: of total, one-sided bounds at 95 % each; those of a sum hold for all nights
    at once. variance: of total; scale: of the normal mixture.
    """

    reference: Reference
    difference: float
    standard_error: float
    total: float
    interval: tuple[float, float]
    variance: float
    scale: float


class Movement(Strict):
    """How far learning the judged day has moved the scores of its own rows, in log-odds (nats).

    mean, p99, largest: of the absolute change, by weight; shift: the mean change with its sign. log_loss_before,
    log_loss_after: of the judged model and of the finished one; the latter has learned these very rows.
    """

    rows: int
    mean: float
    p99: float
    largest: float
    shift: float
    log_loss_before: float
    log_loss_after: float


class Decision(Strict):
    """The verdict on a model with every check; `published` if all passed. Same inputs, same JSON.

    rejection: why, where rejected: `inconclusive` if nothing was shown to be wrong, but too little to be right; None of
    a finish that was not tried. counters_as_of: the day for which the counters were that candidate, champion and
    reference were scored with. as_served: metrics of candidate, champion and reference with the values that stand in
    for columns in a request (`serve_as`), where there are such. No rule judges by them: scores of one position are no
    forecast of what was clicked at all of them. movement: of a finished model (serving.gate.finish), which the gate
    itself has not judged.
    """

    verdict: Verdict
    rejection: Literal["worse", "inconclusive"] | None = None
    rows: int
    checks: tuple[GateCheck, ...]
    warnings: tuple[GateWarning, ...] = ()
    reference: Reference | None = None
    accumulated: AccumulatedLoss | None = None
    counters_as_of: Mapping[str, Date] = {}
    as_served: Mapping[str, Quality] = {}
    movement: Movement | None = None
    parts: tuple[PartMetrics, ...] = ()

    @property
    def outcome(self) -> Literal["published", "rejected", "inconclusive"]:
        """The verdict for people."""
        return "inconclusive" if self.rejection == "inconclusive" else self.verdict

    @property
    def failures(self) -> tuple[GateCheck, ...]:
        """The checks that did not pass."""
        return tuple(check for check in self.checks if not check.passed)
