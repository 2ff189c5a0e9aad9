"""The plots of an evaluation as inline SVG, drawn in the page's light colours (serving.reports.palette).

The page's style sheet makes them right in dark, too.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from nightjar.serving.evaluation.comparison import Evaluation, ModelEvaluation
from nightjar.serving.evaluation.curves import CALIBRATION_BINS, LOGIT_EDGES
from nightjar.serving.reports.palette import LIGHT, SERIES

MARKERS = "osD^vPX"
DASHES = ("solid", (0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)), (0, (3, 2)), (0, (8, 3)), (0, (2, 1)))
LOGIT_TICKS = (0.0001, 0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999)
FINE_LOGIT_TICKS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99)
FINE_SPAN = 7.0  # logits that the finer ticks still fit on

Curve = Sequence[tuple[int, float]]
"""(step, value), ascending."""

INK, MUTED, _GRID, _PANEL = (LIGHT[name] for name in ("ink", "muted", "grid", "panel"))
SERIES_COLORS = [LIGHT[f"series-{n}"] for n in range(SERIES)]
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    # Values of the log are texts, also those with dollars in them.
    "text.parse_math": False,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": _GRID,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "figure.facecolor": "none",
    "lines.markersize": 4.5,
    "lines.linewidth": 1.6,
}


class Plot:
    """Axes to draw on and, once that is done, an HTML element with the SVG."""

    def __init__(self, axes: Axes) -> None:
        self.axes = axes
        self.svg = Markup()


def calibration(evaluation: Evaluation) -> Markup:
    """Mean label over mean score in bins of equal weight; the diagonal is perfect calibration.

    The band around it is two standard errors of a bin's mean label, for impressions of equal weight.
    """
    with drawing("calibration", "Calibration curve of every model against the diagonal") as plot:
        axes = plot.axes
        bins = [b for model in evaluation.models.values() for b in model.calibration]
        top = 1.05 * max(max(b.mean_score, b.mean_label) for b in bins) or 1.0
        axes.plot([0, top], [0, top], color=MUTED, linewidth=1)
        score = np.linspace(0, min(top, 1.0), 101)
        error = 2 * np.sqrt(score * (1 - score) * CALIBRATION_BINS / evaluation.rows)
        axes.fill_between(score, score - error, score + error, color=MUTED, alpha=0.18, linewidth=0)
        for n, model in enumerate(evaluation.models.values()):
            axes.plot(
                [b.mean_score for b in model.calibration],
                [b.mean_label for b in model.calibration],
                **_line(n),
            )
        axes.set(xlabel="mean score", ylabel="mean label", xlim=(0, top), ylim=(0, top))
    return plot.svg


def distribution(evaluation: Evaluation) -> Markup:
    """Share of the impressions by score, on a logit axis."""
    with drawing("distribution", "Distribution of every model's scores") as plot:
        axes = plot.axes
        shares = np.array([model.distribution for model in evaluation.models.values()])
        used = np.flatnonzero(shares.sum(axis=0))
        for n, share in enumerate(shares):
            axes.stairs(
                share, LOGIT_EDGES, color=SERIES_COLORS[n % SERIES], linestyle=DASHES[n % SERIES], linewidth=1.6
            )
        left, right = LOGIT_EDGES[max(used[0] - 2, 0)], LOGIT_EDGES[min(used[-1] + 3, len(LOGIT_EDGES) - 1)]
        ticks = FINE_LOGIT_TICKS if right - left <= FINE_SPAN else LOGIT_TICKS
        axes.set_xticks([float(np.log(p / (1 - p))) for p in ticks], [f"{100 * p:g}%" for p in ticks])
        axes.set(xlabel="score (logit scale)", ylabel="share of impressions", xlim=(left, right), ylim=(0, None))
    return plot.svg


def lift(evaluation: Evaluation) -> Markup:
    """Mean label of each tenth of the impressions over the mean label of all; the best scored come first."""
    with drawing("lift", "Lift by decile of every model") as plot:
        axes = plot.axes
        axes.axhline(1.0, color=MUTED, linewidth=1)
        for n, model in enumerate(evaluation.models.values()):
            lifts = _lifts(model)
            axes.plot(range(1, len(lifts) + 1), lifts, **_line(n))
        axes.set(xlabel="decile of the score, 1 = highest", ylabel="lift over the base rate", ylim=(0, None))
        axes.set_xticks(range(1, 11))
    return plot.svg


def losses(evaluation: Evaluation) -> Markup:
    """Log loss of every model, and the floor where the truth is known: then with each model's regret."""
    with drawing("losses", "Log loss of every model against the floor") as plot:
        axes = plot.axes
        names = list(evaluation.models)
        for n, model in enumerate(evaluation.models.values()):
            loss, regret = model.metrics.log_loss, model.metrics.regret
            axes.plot([loss], [n], **_line(n) | {"markersize": 8})
            axes.annotate(
                f"{loss:.5f}" if regret is None else f"{regret:+.5f}",
                xy=(loss, n),
                xytext=(0, 8),
                textcoords="offset points",
                ha="center",
                va="bottom",
                bbox={"facecolor": _PANEL, "edgecolor": "none", "pad": 1},
            )
        floors = [m.metrics.bayes_log_loss for m in evaluation.models.values() if m.metrics.bayes_log_loss is not None]
        if floors:
            axes.axvline(floors[0], color=INK, linewidth=1.2)
            axes.annotate(
                "floor",
                xy=(floors[0], 1),
                xycoords=axes.get_xaxis_transform(),
                xytext=(0, 3),
                textcoords="offset points",
                ha="center",
                va="bottom",
            )
        axes.set_yticks(range(len(names)), [shortened(name) for name in names])
        axes.set(xlabel="log loss (nats)", ylim=(len(names) - 0.5, -0.5))
        axes.margins(x=0.16)
        axes.locator_params(axis="x", nbins=5)
    return plot.svg


def learning_curves(curves: Mapping[str, Sequence[Curve]], what: str) -> Markup:
    """Held-out log loss by step: one thin line a run, the same colour for all runs of a model."""
    with drawing("curves", f"Learning curves: {what} by step for every model") as plot:
        axes = plot.axes
        for n, of_model in enumerate(curves.values()):
            for curve in of_model:
                steps, losses = zip(*curve, strict=True) if curve else ((), ())
                axes.plot(steps, losses, **_line(n) | {"linewidth": 1.1, "markersize": 3})
        axes.set(xlabel="step (global batches)", ylabel=what)
    return plot.svg


def spread(values: Mapping[str, Sequence[float]], what: str) -> Markup:
    """A value of every run, one row a model, and the model's mean as a bar."""
    with drawing("spread", f"{what} of every run, by model") as plot:
        axes = plot.axes
        for n, of_model in enumerate(values.values()):
            axes.plot(of_model, [n] * len(of_model), **_line(n) | {"linestyle": "none", "markersize": 6, "alpha": 0.75})
            if of_model:
                axes.plot([np.mean(of_model)] * 2, [n - 0.28, n + 0.28], color=INK, linewidth=1.4)
        axes.set_yticks(range(len(values)), [shortened(name) for name in values])
        axes.set(xlabel=what, ylim=(len(values) - 0.5, -0.5))
        axes.margins(x=0.1)
        axes.locator_params(axis="x", nbins=5)
    return plot.svg


def swatch(number: int) -> Markup:
    """The legend's sample of a model's line and marker."""
    with drawing(f"swatch{number}", "", size=(0.5, 0.2)) as plot:
        plot.axes.plot([0, 0.5, 1], [0, 0, 0], **_line(number), markevery=[1])
        plot.axes.set_axis_off()
    return plot.svg


def _line(number: int) -> dict[str, Any]:
    n = number % SERIES
    return {"color": SERIES_COLORS[n], "marker": MARKERS[n], "linestyle": DASHES[n]}


def _lifts(model: ModelEvaluation) -> list[float]:
    base_rate = model.metrics.base_rate
    return [b.mean_label / base_rate if base_rate else 0.0 for b in reversed(model.deciles)]


def shortened(name: str, limit: int = 18) -> str:
    """A name or a value of the log as a label: one line of characters that can be drawn."""
    cut = name if len(name) <= limit else name[: limit - 1] + "…"
    return "".join(c if c.isprintable() else " " if c.isspace() else "\N{REPLACEMENT CHARACTER}" for c in cut)


@contextmanager
def drawing(name: str, label: str, size: tuple[float, float] = (4.7, 3.3)) -> Iterator[Plot]:
    """Axes to draw on; the plot has its SVG afterwards.

    Args:
        name: begins the ids in the SVG; no other drawing of a page may have it.
        label: what a screen reader says; empty for an ornament.
        size: inches.
    """
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=size, layout="constrained")
        plot = Plot(figure.add_subplot())
        yield plot
        figure.draw_without_rendering()  # makes the ticks, which need ids, too
        for number, artist in enumerate(_artists(figure)):
            artist.set_gid(f"{name}-{number}")
        stream = io.StringIO()
        figure.savefig(stream, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    document = stream.getvalue()
    element = Markup(document[document.index("<svg") :])  # without the XML declaration and the document type
    described = Markup('role="img" aria-label="{}"').format(label) if label else Markup('aria-hidden="true"')
    plot.svg = Markup('<span class="drawing" {}>{}</span>').format(described, element)


def _artists(figure: Figure) -> Iterator[Artist]:
    """All that is drawn, the boxes behind texts included."""
    for artist in figure.findobj():
        yield artist
        if isinstance(artist, Text) and (box := artist.get_bbox_patch()) is not None:
            yield box
