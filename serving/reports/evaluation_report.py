"""An evaluation as one HTML page that needs nothing but itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jinja2
from markupsafe import Markup

from nightjar.features.contract.metrics.registry import (
    EVALUATED,
    EXPECTED_REGRET,
    LOG_LOSS,
    NORMALIZED_ENTROPY,
    REGRET,
    Metric,
)
from nightjar.serving.evaluation.comparison import Evaluation
from nightjar.serving.evaluation.metrics import Metrics
from nightjar.serving.reports import palette, plots

PLOTS = (
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
    return fill("report.html", evaluation, SideBySide.of(evaluation))


def fill(template: str, evaluation: Evaluation, shown: SideBySide, **more: Any) -> str:
    """A page in the look of the evaluation's.

    Args:
        template: name of the page's template, which shows what `more` holds.
        evaluation: what the page is of.
        shown: the models' table and plots.
        more: names that the template uses.
    """
    common = next(iter(evaluation.models.values())).metrics
    return environment().get_template(template).render(evaluation=evaluation, common=common, comparison=shown, **more)


@dataclass(frozen=True)
class SideBySide:
    """What the template comparison.html shows: the models' table, plots, and what the columns mean.

    columns: of the table. cells: by model, its figures as text, and whether they are the best of their column. notes:
    by model, what stands below its name. drawn: plots as SVG, with captions.
    """

    evaluation: Evaluation
    columns: Sequence[Metric]
    cells: Mapping[str, Sequence[tuple[str, bool]]]
    notes: Mapping[str, str]
    drawn: Sequence[tuple[Markup, str]]

    @classmethod
    def of(cls, evaluation: Evaluation) -> SideBySide:
        """All of an evaluation."""
        metrics = {name: model.metrics for name, model in evaluation.models.items()}
        columns = [m for m in EVALUATED if any(getattr(one, m.name) is not None for one in metrics.values())]
        cells = {name: [_cell(one, m, metrics.values()) for m in columns] for name, one in metrics.items()}
        notes = {
            name: ("" if model.model == name else f"{model.model}, ") + f"artifact {model.artifact[:12]}"
            for name, model in evaluation.models.items()
        }
        return cls(evaluation, columns, cells, notes, [(draw(evaluation), caption) for draw, caption in PLOTS])

    def swatch(self, number: int) -> Markup:
        """The legend's sample of a model's line; models are counted from 0."""
        return plots.swatch(number)

    @property
    def floor(self) -> list[str] | None:
        """The row of the true probabilities, as far as a model's metrics tell it; None where no truth is known."""
        one = next(iter(self.evaluation.models.values())).metrics
        if one.bayes_log_loss is None:
            return None
        known = {LOG_LOSS: one.bayes_log_loss, REGRET: 0.0, EXPECTED_REGRET: 0.0}
        if one.normalized_entropy is not None:
            known[NORMALIZED_ENTROPY] = one.normalized_entropy * one.bayes_log_loss / one.log_loss
        return [metric.text(known.get(metric)) for metric in self.columns]


def _cell(one: Metrics, metric: Metric, everyone: Iterable[Metrics]) -> tuple[str, bool]:
    """A figure as text, and whether none in its column reads better."""
    value = getattr(one, metric.name)
    others = [other for metrics in everyone if (other := getattr(metrics, metric.name)) is not None]
    return metric.text(value), value is not None and metric.is_best(value, others)


def environment() -> jinja2.Environment:
    """Where the templates are, and the colours that they use."""
    found = jinja2.Environment(
        loader=jinja2.PackageLoader("nightjar.serving.reports"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.globals |= {"light": palette.LIGHT, "dark": palette.DARK}
    return found
