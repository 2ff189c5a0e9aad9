"""The registry of metrics: name, direction, formula, and how each is shown to people.

The trainer's validation, evaluations, the gate, reports and the nights' OpenMetrics text take them from here. A name is
the attribute of `Quality` (and of serving.evaluation.metrics.Metrics) and the key in JSON and YAML. Calibration is the
ratio everywhere: sum of scores / sum of labels. How far its logarithm is from 0 is the miscalibration, so that half and
twice as much are equally bad.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from nightjar.features.contract.errors import DataError
from nightjar.features.contract.metrics.sums import Sums, cross_entropy
from nightjar.features.contract.spec import Strict

SelectionMetric = Literal["log_loss", "normalized_entropy", "auc", "gauc"]
"""Metrics that the best model has most or least of: what training may be steered by."""
Requirement = Literal["groups", "truth"]


@dataclass(frozen=True)
class Direction:
    """Which values are good. distance: maps a value to a number that is least for the best model."""

    symbol: str
    words: str
    distance: Callable[[float], float]


def _log_distance(ratio: float) -> float:
    return abs(math.log(ratio)) if ratio > 0.0 else math.inf


LESS = Direction("↓", "lower is better", lambda value: value)
MORE = Direction("↑", "higher is better", lambda value: -value)
ONE = Direction("→1", "close to 1 is better: half is as far as twice", _log_distance)


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A metric of a model.

    name: attribute and key. label, digits: heading and decimals for people. meaning: a phrase for people.
    needs: what the impressions must have for it to be defined, apart from labels.
    """

    name: str
    label: str
    digits: int
    direction: Direction
    meaning: str
    needs: Requirement | None = None

    def text(self, value: float | None) -> str:
        """The value for people; a dash where it is undefined."""
        return "–" if value is None else f"{value:,.{self.digits}f}"

    def gain(self, value: float, over: float) -> float:
        """How much better `value` is than `over`; negative if it is worse."""
        return self.direction.distance(over) - self.direction.distance(value)

    def is_best(self, value: float, everyone: Sequence[float]) -> bool:
        """Whether none of several values, this one among them, reads better."""
        distances = [self.direction.distance(round(other, self.digits)) for other in everyone]
        return len(distances) > 1 and self.direction.distance(round(value, self.digits)) == min(distances)


@dataclass(frozen=True, kw_only=True)
class SumMetric(Metric):
    """A metric that sums tell. formula: its value, None where the sums do not define one."""

    formula: Callable[[Sums], float | None]


def _log_loss(sums: Sums) -> float | None:
    return _ratio(sums.loss, sums.weight)


def _normalized_entropy(sums: Sums) -> float | None:
    log_loss, base_rate = _log_loss(sums), _ratio(sums.label, sums.weight)
    if log_loss is None or base_rate is None or not 0.0 < base_rate < 1.0:
        return None
    return log_loss / float(cross_entropy(base_rate, base_rate))


def _auc(sums: Sums) -> float | None:
    return _ratio(sums.won, sums.positives * sums.negatives)


def _gauc(sums: Sums) -> float | None:
    return _ratio(sums.group_auc, sums.group_weight)


def _calibration(sums: Sums) -> float | None:
    return _ratio(sums.score, sums.label)


def _miscalibration(sums: Sums) -> float | None:
    calibration = _calibration(sums)
    return _log_distance(calibration) if calibration else None


def _ratio(numerator: float, denominator: float) -> float | None:
    return float(numerator / denominator) if denominator else None


LOG_LOSS = SumMetric(
    name="log_loss",
    label="Log loss",
    digits=5,
    direction=LESS,
    meaning="mean of −ln P(label), in nats",
    formula=_log_loss,
)
NORMALIZED_ENTROPY = SumMetric(  # He et al. 2014, section 3
    name="normalized_entropy",
    label="NE",
    digits=4,
    direction=LESS,
    meaning="log loss over the entropy of the base rate; 1 is knowing only that rate",
    formula=_normalized_entropy,
)
AUC = SumMetric(
    name="auc",
    label="AUC",
    digits=4,
    direction=MORE,
    meaning="chance that a positive is scored above a negative",
    formula=_auc,
)
GAUC = SumMetric(
    name="gauc",
    label="GAUC",
    digits=4,
    direction=MORE,
    meaning="AUC within each group, averaged by impressions over the groups with both classes",
    needs="groups",
    formula=_gauc,
)
CALIBRATION = SumMetric(
    name="calibration",
    label="Calibration",
    digits=4,
    direction=ONE,
    meaning="mean score over mean label; 1 is right on average",
    formula=_calibration,
)
MISCALIBRATION = SumMetric(
    name="miscalibration",
    label="Miscalibration",
    digits=4,
    direction=LESS,
    meaning="|ln calibration|",
    formula=_miscalibration,
)
# These take all scores, or the truth, and no sums of labels and scores: serving.evaluation.metrics has the formulas.
CALIBRATION_ERROR = Metric(
    name="calibration_error",
    label="ECE",
    digits=4,
    direction=LESS,
    meaning="expected calibration error: mean |mean score − mean label| over twenty bins of equal weight",
)
REGRET = Metric(
    name="regret",
    label="Regret",
    digits=5,
    direction=LESS,
    meaning="log loss above the floor, which is the log loss of the true probabilities on the same labels",
    needs="truth",
)
EXPECTED_REGRET = Metric(
    name="expected_regret",
    label="Exp. regret",
    digits=5,
    direction=LESS,
    meaning="expected regret: its mean over all labels that the true probabilities could have drawn, "
    "so free of the noise of these",
    needs="truth",
)

HELD_OUT: tuple[SumMetric, ...] = (LOG_LOSS, NORMALIZED_ENTROPY, AUC, GAUC, CALIBRATION)
"""What `Quality` holds: the trainer's validation and the OpenMetrics text of a night have these."""
EVALUATED: tuple[Metric, ...] = (*HELD_OUT, CALIBRATION_ERROR, REGRET, EXPECTED_REGRET)
"""What an evaluation holds, in the order of its table."""
COMPARED: tuple[SumMetric, ...] = (LOG_LOSS, NORMALIZED_ENTROPY, AUC, GAUC, MISCALIBRATION)
"""What the gate holds against the champion, in the order of decision.json."""
METRICS: Mapping[str, Metric] = {metric.name: metric for metric in (*EVALUATED, MISCALIBRATION)}


class Quality(Strict):
    """Metrics of one model that sums tell; None where the data do not define one (a single class, no group).

    base_rate: mean label. gauc_share: share of the impressions that are in groups with both classes.
    """

    base_rate: float
    log_loss: float
    normalized_entropy: float | None
    auc: float | None
    gauc: float | None
    gauc_share: float | None
    calibration: float | None


def quality(sums: Sums) -> Quality:
    """The metrics that the sums mean. Raises DataError if the rows have no weight."""
    if not sums.weight:
        raise DataError(
            "the held-out rows have no weight, so that nothing can be measured on them. Correct the column of weights, "
            "or choose other rows."
        )
    shares = {
        "base_rate": sums.label / sums.weight,
        "gauc_share": sums.group_weight / sums.weight if sums.group_weight else None,
    }
    return Quality.model_validate(shares | {metric.name: metric.formula(sums) for metric in HELD_OUT})
