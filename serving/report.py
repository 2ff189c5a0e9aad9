"""An evaluation as one HTML page that needs nothing but itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import jinja2
from markupsafe import Markup

from serving import plots
from serving.comparison import Evaluation
from serving.metrics import Metrics


@dataclass(frozen=True)
class Measure:
    """A column of the table. better: maps a value to a number that is least for the best model."""

    title: str
    attribute: str
    decimals: int
    meaning: str
    better: Callable[[float], float]


def _low(value: float) -> float:
    return value


def _high(value: float) -> float:
    return -value


def _near_one(value: float) -> float:
    return abs(value - 1.0)


MEASURES = (
    Measure("Log loss", "log_loss", 5, "mean of -ln P(label), in nats", _low),
    Measure(
        "NE",
        "normalized_entropy",
        4,
        "log loss over the entropy of the base rate; 1 is knowing only that rate",
        _low,
    ),
    Measure("AUC", "auc", 5, "chance that a positive is scored above a negative", _high),
    Measure(
        "GAUC",
        "gauc",
        5,
        "AUC within each group, averaged by impressions over groups with both classes",
        _high,
    ),
    Measure("Calibration", "calibration", 4, "mean score over mean label; 1 is right on average", _near_one),
    Measure(
        "ECE",
        "calibration_error",
        5,
        "mean distance of score and label over twenty bins of equal weight",
        _low,
    ),
    Measure("Regret", "regret", 5, "log loss above that of the true probabilities on the same labels", _low),
    Measure(
        "Exp. regret",
        "expected_regret",
        5,
        "regret in expectation over the labels: free of their noise",
        _low,
    ),
)

FIGURES = (
    (
        plots.losses,
        "Log loss. The line is the floor: the true probabilities' own log loss, where the logs know them.",
    ),
    (
        plots.calibration,
        "Calibration. Twenty bins of equal weight; above the diagonal the model scores too low.",
    ),
    (plots.distribution, "Scores. Share of the impressions by score; a wider curve separates more."),
    (
        plots.lift,
        "Lift. Mean label of each tenth of the impressions over the base rate, the highest scores first.",
    ),
)


def render(evaluation: Evaluation) -> str:
    """The page, a pure function of the evaluation."""
    metrics = {name: model.metrics for name, model in evaluation.models.items()}
    shown = [m for m in MEASURES if any(getattr(one, m.attribute) is not None for one in metrics.values())]
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("serving"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html").render(
        evaluation=evaluation,
        common=next(iter(metrics.values())),
        measures=shown,
        cells={name: [_cell(one, m, metrics.values()) for m in shown] for name, one in metrics.items()},
        swatches=[Markup(plots.swatch(n)) for n in range(len(metrics))],
        figures=[(Markup(draw(evaluation)), caption) for draw, caption in FIGURES],
    )


def _cell(one: Metrics, measure: Measure, everyone: Iterable[Metrics]) -> tuple[str, bool]:
    """A figure as text, and whether it is the best of its column."""
    value = getattr(one, measure.attribute)
    if value is None:
        return "–", False
    others = [other for metrics in everyone if (other := getattr(metrics, measure.attribute)) is not None]
    best = len(others) > 1 and measure.better(value) == min(measure.better(other) for other in others)
    return f"{value:.{measure.decimals}f}", best
