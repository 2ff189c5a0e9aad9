"""An evaluation as one HTML page that needs nothing but itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jinja2
from markupsafe import Markup

from nightjar.serving.evaluation.comparison import Evaluation
from nightjar.serving.evaluation.metrics import Metrics
from nightjar.serving.reports import plots


@dataclass(frozen=True)
class Goal:
    """Which values are good. distance: maps a value to a number that is least for the best model."""

    symbol: str
    words: str
    distance: Callable[[float], float]


@dataclass(frozen=True)
class Measure:
    """A column of the table."""

    title: str
    attribute: str
    decimals: int
    meaning: str
    goal: Goal

    def text(self, value: float) -> str:
        """The value as the table shows it."""
        return f"{value:,.{self.decimals}f}"

    def is_best(self, value: float, everyone: Sequence[float]) -> bool:
        """Whether none of several values, this one among them, reads better."""
        distances = [self.goal.distance(round(other, self.decimals)) for other in everyone]
        return len(distances) > 1 and self.goal.distance(round(value, self.decimals)) == min(distances)


LOW = Goal("↓", "lower is better", lambda value: value)
HIGH = Goal("↑", "higher is better", lambda value: -value)
ONE = Goal("→1", "close to 1 is better", lambda value: abs(value - 1.0))


MEASURES = (
    Measure("Log loss", "log_loss", 5, "mean of −ln P(label), in nats", LOW),
    Measure(
        "NE",
        "normalized_entropy",
        4,
        "log loss over the entropy of the base rate; 1 is knowing only that rate",
        LOW,
    ),
    Measure("AUC", "auc", 4, "chance that a positive is scored above a negative", HIGH),
    Measure(
        "GAUC",
        "gauc",
        4,
        "AUC within each group, averaged by impressions over the groups with both classes",
        HIGH,
    ),
    Measure("Calibration", "calibration", 4, "mean score over mean label; 1 is right on average", ONE),
    Measure(
        "ECE",
        "calibration_error",
        4,
        "expected calibration error: mean |mean score − mean label| over twenty bins of equal weight",
        LOW,
    ),
    Measure(
        "Regret",
        "regret",
        5,
        "log loss above the floor, which is the log loss of the true probabilities on the same labels",
        LOW,
    ),
    Measure(
        "Exp. regret",
        "expected_regret",
        5,
        "expected regret: its mean over all labels that the true probabilities could have drawn, "
        "so free of the noise of these",
        LOW,
    ),
)

FIGURES = (
    (
        plots.losses,
        "Log loss, less is better; the axis does not start at 0. Where the logs hold the true probabilities, the "
        "line is their own log loss, the floor, and the figures are regrets: log loss above it.",
    ),
    (
        plots.calibration,
        "Calibration. Twenty bins of equal weight; above the diagonal scores are too low, below it too high. Shaded: "
        "two standard errors of a bin's label if its scores are right and impressions weigh the same.",
    ),
    (
        plots.distribution,
        "Scores. Share of the impressions in steps of a quarter logit; a wider curve makes bolder claims, "
        "and the calibration says whether they hold.",
    ),
    (
        plots.lift,
        "Lift. Mean label of each tenth of the impressions over the base rate, the highest scores first; "
        "steeper is better.",
    ),
)


def render(evaluation: Evaluation) -> str:
    """The page, a pure function of the evaluation."""
    return fill("report.html", evaluation, comparison(evaluation))


def fill(template: str, evaluation: Evaluation, shown: Mapping[str, Any], **more: Any) -> str:
    """A page of the report's kind. shown: what its side by side and its plots show, from `side_by_side`."""
    common = next(iter(evaluation.models.values())).metrics
    return environment().get_template(template).render(evaluation=evaluation, common=common, comparison=shown, **more)


def environment() -> jinja2.Environment:
    """Where the templates are."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader("nightjar.serving.reports"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def comparison(evaluation: Evaluation) -> dict[str, Any]:
    """What the template comparison.html shows of an evaluation."""
    metrics = {name: model.metrics for name, model in evaluation.models.items()}
    shown = [m for m in MEASURES if any(getattr(one, m.attribute) is not None for one in metrics.values())]
    cells = {name: [_cell(one, m, metrics.values()) for m in shown] for name, one in metrics.items()}
    notes = {
        name: ("" if model.model == name else f"{model.model}, ") + f"artifact {model.artifact[:12]}"
        for name, model in evaluation.models.items()
    }
    return side_by_side(evaluation, shown, cells, notes, [(draw(evaluation), caption) for draw, caption in FIGURES])


def side_by_side(
    evaluation: Evaluation,
    measures: Sequence[Measure],
    cells: Mapping[str, Sequence[tuple[str, bool]]],
    notes: Mapping[str, str],
    figures: Iterable[tuple[str, str]],
) -> dict[str, Any]:
    """What the template comparison.html shows: the models' table, plots, and what the columns mean.

    cells: a model's figures, and whether they are the best; notes: below its name; figures: SVG, caption.
    """
    return {
        "evaluation": evaluation,
        "floor": _floor(next(iter(evaluation.models.values())).metrics, measures),
        "measures": measures,
        "cells": cells,
        "notes": notes,
        "swatches": [Markup(plots.swatch(n)) for n in range(len(evaluation.models))],
        "figures": [(Markup(svg), caption) for svg, caption in figures],
    }


def _cell(one: Metrics, measure: Measure, everyone: Iterable[Metrics]) -> tuple[str, bool]:
    """A figure as text, and whether none in its column reads better."""
    value = getattr(one, measure.attribute)
    if value is None:
        return "–", False
    others = [other for metrics in everyone if (other := getattr(metrics, measure.attribute)) is not None]
    return measure.text(value), measure.is_best(value, others)


def _floor(one: Metrics, shown: Sequence[Measure]) -> list[str] | None:
    """The row of the true probabilities, as far as a model's metrics tell it; None where the truth is not known."""
    if one.bayes_log_loss is None:
        return None
    known = {"log_loss": one.bayes_log_loss, "regret": 0.0, "expected_regret": 0.0}
    if one.normalized_entropy is not None:
        known["normalized_entropy"] = one.normalized_entropy * one.bayes_log_loss / one.log_loss
    return [f"{known[m.attribute]:.{m.decimals}f}" if m.attribute in known else "–" for m in shown]
