"""A comparison over seeds as one HTML page that needs nothing but itself, in the look of the evaluation's report."""

from __future__ import annotations

from markupsafe import Markup, escape

from nightjar.features.contract.metrics.registry import LOG_LOSS
from nightjar.serving.evaluation.seeds import SeedComparison, best_models, cell
from nightjar.serving.reports import plots
from nightjar.serving.reports.evaluation_report import PLOTS, SideBySide, fill

_AVERAGED = " Means over the seeds, bin by bin."


def render(comparison: SeedComparison) -> str:
    """The page, a pure function of the comparison."""
    evaluation, columns = comparison.mean(), comparison.columns
    best = {metric: best_models(comparison, metric) for metric in columns}
    cells = {
        name: [(_cell(*cell(comparison.values(name, m), m)), name in best[m]) for m in columns]
        for name in comparison.models
    }
    losses = {name: comparison.values(name, LOG_LOSS) for name in comparison.models}
    drawn = [
        (
            plots.spread(losses, "log loss (nats)"),
            "Log loss of every run, less is better; the bar is the model's mean. The axis does not start at 0.",
        )
    ]
    curves = {name: [run.curve for run in runs] for name, runs in comparison.models.items()}
    if any(curve for of_model in curves.values() for curve in of_model):
        drawn.append(
            (
                plots.learning_curves(curves, "held-out log loss"),
                "Learning curves: log loss of held-out rows during training, one line a run.",
            )
        )
    single = len(comparison.seeds) == 1
    drawn += [
        (draw(evaluation), caption if single else caption + _AVERAGED)
        for draw, caption in PLOTS
        if draw is not plots.losses
    ]
    runs = len(comparison.seeds)
    notes = dict.fromkeys(comparison.models, f"{runs} run{'s' * (runs > 1)}")
    return fill(
        "seeds.html",
        evaluation,
        SideBySide(evaluation, columns, cells, notes, drawn),
        seeds=comparison.seeds,
        trained_rows=comparison.trained_rows,
        epochs=comparison.epochs,
    )


def _cell(mean: str, deviation: str) -> Markup:
    small = Markup("<small>{}</small>").format(deviation) if deviation else Markup("")
    return escape(mean) + small
