"""Runs of benchmarks.nights.run beside each other: a picture, and a Markdown table of the first nights and the last.

    python -m benchmarks.nights.draw --picture FILE.svg before=FOLDER/nights.jsonl after=FOLDER/nights.jsonl

The table holds medians of the nights 20 to 40, and of the last 20, how many times as much the latter is, and the growth
from one night to the next: the median of the slopes between any two nights from 20 on. During the first nights the
driver and Spark's JVM fill their caches, and retention removes nothing yet.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median

import numpy as np
from matplotlib.figure import Figure
from scipy.stats import theilslopes

from benchmarks.nights.measure import Night, read_nights
from nightjar.jobs.common.cli import entry_point

Runs = Mapping[str, Sequence[Night]]
SETTLED = (20, 40)
LAST = 20
FIGURES: dict[str, Callable[[Night], float]] = {
    "seconds": lambda night: sum(night.seconds.values()),
    "processor seconds": lambda night: sum(night.processor_seconds.values()),
    "MB read": lambda night: night.bytes_read / 1e6,
    "MB written": lambda night: night.bytes_written / 1e6,
    "files opened by the driver": lambda night: sum(night.opened.values()),
    "of the log": lambda night: night.opened["logs"],
    "of the registry": lambda night: night.opened["models"],
    # Lines of before 2026-12-01 do not tell the logs of the runs apart, one a night.
    "files in the output": lambda night: night.files - (night.log_files or night.night),
    "MB in the output": lambda night: (night.bytes_kept - night.log_bytes) / 1e6,
    "open handles of the driver": lambda night: night.handles,
    "open handles of the JVM": lambda night: night.jvm_handles,
    "MiB of the driver": lambda night: night.memory_mib,
    "MiB of the JVM": lambda night: night.jvm_mib,
}
DRAWN = (
    "processor seconds",
    "MB read",
    "files opened by the driver",
    "files in the output",
    "open handles of the driver",
    "MiB of the driver",
)
COLOURS = ("#b0b0b0", "#1f5fa8", "#c05020")


@entry_point
def main(argv: Sequence[str] | None = None) -> int:
    """Draw the picture, print the tables."""
    parser = argparse.ArgumentParser(prog="draw", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("runs", nargs="+", metavar="NAME=FILE", help="the lines of a run, and what it is called")
    parser.add_argument("--picture", required=True, metavar="FILE", help="SVG or PNG")
    args = parser.parse_args(argv)
    runs = {name: read_nights(Path(path)) for name, _, path in (run.partition("=") for run in args.runs)}
    draw(runs).savefig(args.picture, metadata={"Date": None} if args.picture.endswith(".svg") else None)
    for name, nights in runs.items():
        print(f"\n{name}: {len(nights)} nights\n")
        print(table(nights))
    return 0


def draw(runs: Runs) -> Figure:
    """A panel for each figure, a line for each run; the last panel has the steps of the last run, smoothed."""
    figure = Figure(figsize=(10, 9), layout="constrained")
    panels = list(figure.subplots(4, 2).flat)
    for panel, name in zip(panels, DRAWN, strict=False):
        for (run, nights), colour in zip(runs.items(), COLOURS, strict=False):
            values = [FIGURES[name](night) for night in nights]
            panel.plot([night.night for night in nights], values, color=colour, linewidth=1.0, label=run)
        panel.set_title(name, fontsize=9)
    last, nights = list(runs.items())[-1]
    of_last: dict[str, Callable[[Night], Mapping[str, float]]] = {
        f"{last}: seconds by step": lambda night: night.seconds,
        f"{last}: processor seconds by step": lambda night: night.processor_seconds,
    }
    for panel, (title, of_steps) in zip(panels[len(DRAWN) :], of_last.items(), strict=True):
        for step in nights[-1].seconds:
            values = [of_steps(night).get(step, 0.0) for night in nights]
            panel.plot([night.night for night in nights], smoothed(values), linewidth=1.0, label=step)
        panel.set_title(title, fontsize=9)
        panel.legend(fontsize=6, ncols=3)
    for panel in figure.axes:
        drawn = [np.asarray(line.get_ydata(), dtype=float)[1:] for line in panel.get_lines()]
        room = 1.6 if len(drawn) > len(runs) else 1.1  # for the legend
        panel.set_ylim(0, room * np.concatenate(drawn).max(initial=1.0))  # the first night starts everything
        panel.set_xlabel("night", fontsize=7)
        panel.tick_params(labelsize=7)
        panel.grid(alpha=0.3)
    figure.axes[0].legend(fontsize=7)
    return figure


def smoothed(values: Sequence[float], width: int = 9) -> list[float]:
    """Medians over so many nights around each."""
    half = width // 2
    return [median(values[max(0, place - half) : place + half + 1]) for place in range(len(values))]


def table(nights: Sequence[Night]) -> str:
    """Of one run, in Markdown."""
    first, last = SETTLED
    lines = [f"| median of a night | nights {first} to {last} | last {LAST} | ratio | a night |", "| --- " * 5 + "|"]
    by_step = {
        f"processor seconds of {step}": lambda night, step=step: night.processor_seconds.get(step, 0.0)
        for step in nights[-1].seconds
    }
    for name, value in {**FIGURES, **by_step}.items():
        settled = median(value(night) for night in nights[first - 1 : last])
        latest = median(value(night) for night in nights[-LAST:])
        ratio = f"{latest / settled:.2f}" if settled else "–"
        since = nights[first - 1 :]
        growth = theilslopes([value(night) for night in since], [night.night for night in since])[0]
        lines.append(f"| {name} | {settled:,.4g} | {latest:,.4g} | {ratio} | {growth:+.2f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
