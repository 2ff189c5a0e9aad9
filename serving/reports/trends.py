"""The plots of a night's page and of the index, as inline SVG (serving.reports.plots)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date

import matplotlib.dates as mdates
from markupsafe import Markup
from matplotlib.ticker import MaxNLocator

from nightjar.features.contract.manifests import ValidationCheck
from nightjar.features.contract.metrics.registry import LOG_LOSS
from nightjar.serving.gate.decision import PartMetrics
from nightjar.serving.reports.nights import CurvePoint, NightFindings
from nightjar.serving.reports.plots import INK, MUTED, SERIES_COLORS, drawing, shortened

_ROW_INCHES = 0.24
_LONGEST_LABEL = 60


def curves(points: Sequence[CurvePoint]) -> Markup:
    """Log loss by step while training: of rows not learned from yet, and of held-out rows where there are any."""
    with drawing("curves", "Log loss by training step", size=(9.4, 3.3)) as plot:
        for n, (kind, marker) in enumerate((("progress", "."), ("validation", "D"))):
            found = [(p.step, p.value) for p in points if p.kind == kind and p.value is not None]
            if found:
                label = "rows not learned from yet" if kind == "progress" else "held-out rows"
                plot.axes.plot(*zip(*found, strict=True), color=SERIES_COLORS[n], marker=marker, label=label)
        plot.axes.set(xlabel="global batches", ylabel="log loss (nats)")
        plot.axes.legend(frameon=False)
    return plot.svg


def drift(checks: Sequence[ValidationCheck]) -> Markup:
    """Divergence of every feature from the reference days, and how far it may go."""
    ordered = sorted(checks, key=lambda check: (float(check.value), check.feature or ""))
    size = (9.4, 0.8 + _ROW_INCHES * len(ordered))
    with drawing("drift", "Drift of every feature against the days before, with its limit", size=size) as plot:
        rows = range(len(ordered))
        plot.axes.barh(rows, [float(check.value) for check in ordered], height=0.55, color=SERIES_COLORS[0])
        limits = [(row, check.high) for row, check in enumerate(ordered) if check.high is not None]
        if limits:
            plot.axes.plot([high for _, high in limits], [row for row, _ in limits], "|", color=INK, markersize=11)
        plot.axes.set_yticks(rows, [shortened(str(check.feature), _LONGEST_LABEL) for check in ordered])
        plot.axes.set(xlabel="Jensen-Shannon divergence (bits)", xlim=(0, 1.02), ylim=(-0.7, len(ordered) - 0.3))
        plot.axes.grid(visible=False, axis="y")
    return plot.svg


def slices(parts: Sequence[PartMetrics]) -> Markup:
    """Candidate's log loss less the champion's, overall and by slice, with its interval."""
    found = [(part.name or "all", one) for part in parts for one in part.figures if one.metric == LOG_LOSS.name]
    size = (9.4, 0.9 + _ROW_INCHES * len(found))
    with drawing("slices", "Difference in log loss to the champion by slice, with intervals", size=size) as plot:
        plot.axes.axvline(0.0, color=MUTED, linewidth=1)
        for row, (_, one) in enumerate(reversed(found)):
            if one.interval and one.difference is not None:
                plot.axes.plot(one.interval, [row, row], color=SERIES_COLORS[0])
                plot.axes.plot([one.difference], [row], "o", color=SERIES_COLORS[0])
        plot.axes.set_yticks(range(len(found)), [shortened(name, _LONGEST_LABEL) for name, _ in reversed(found)])
        plot.axes.set(xlabel="candidate − champion, log loss (nats)", ylim=(-0.7, len(found) - 0.3))
        plot.axes.grid(visible=False, axis="y")
        plot.axes.locator_params(axis="x", nbins=7)
    return plot.svg


def trend(
    name: str, label: str, nights: Sequence[NightFindings], value: Callable[[NightFindings], float | None]
) -> Markup:
    """A value by night: a dot where the model was accepted, a cross where it was not.

    Args:
        name: of the drawing.
        label: of the axis.
        nights: in order.
        value: of a night, None where it has none.
    """
    points = [(date.fromisoformat(night.date), found, night) for night in nights if (found := value(night)) is not None]
    with drawing(f"trend-{name}", f"{label} by night", size=(4.7, 2.6)) as plot:
        days = mdates.date2num([day for day, _, _ in points])
        plot.axes.plot(days, [found for _, found, _ in points], color=SERIES_COLORS[0], linewidth=1.2)
        for accepted, marker, color in ((True, "o", SERIES_COLORS[0]), (False, "X", SERIES_COLORS[1])):
            chosen = [(d, f) for d, (_, f, night) in zip(days, points, strict=True) if night.accepted == accepted]
            if chosen:
                plot.axes.plot(*zip(*chosen, strict=True), marker, color=color, markersize=6)
        for day, (_, found, night) in zip(days, points, strict=True):
            if night.is_champion:
                plot.axes.plot([day], [found], "o", color=INK, markersize=11, fillstyle="none")
        plot.axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True, min_n_ticks=1))
        plot.axes.xaxis.set_major_formatter(mdates.DateFormatter("%d %b"))
        plot.axes.set(ylabel=label)
        plot.axes.margins(x=0.08, y=0.15)
        if len(points) == 1:  # margins of a point are a share of its number, which is years
            plot.axes.set_xlim(days[0] - 1, days[0] + 1)
    return plot.svg
