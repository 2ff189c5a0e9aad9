"""Artifacts against later data, side by side: metrics.json and report.html.

What draws the report is imported once the command line is found to be right.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click

from nightjar.features.contract.errors import UsageError
from nightjar.features.contract.metrics.registry import AUC, LOG_LOSS, REGRET
from nightjar.jobs.common.cli import Job, Several

EXAMPLE = """
nightjar evaluate --artifact models/2026-01-05-wide_deep-KEY today --artifact models/2026-01-04-wide_deep-KEY before \\
    --dataset datasets/holdout-2026-01-05-KEY --output evaluations/by-hand
"""


@click.command("evaluate_model", cls=Job, example=EXAMPLE)
@click.option(
    "--artifact",
    "artifacts",
    cls=Several,
    nargs=2,
    required=True,
    metavar="DIR [NAME]",
    help="A packed model and what the report calls it (else the directory's name).  Repeatable.",
)
@click.option(
    "--dataset",
    "datasets",
    required=True,
    multiple=True,
    metavar="DIR",
    help="Encoded rows of later days.  Repeat where artifacts have different encoder states.",
)
@click.option("--output", required=True, metavar="DIR", help="Directory to publish.")
@click.option("--threads", type=int, default=os.cpu_count() or 1, help="Threads of the dense layers.")
def main(artifacts: tuple[tuple[str, str], ...], datasets: tuple[str, ...], output: str, threads: int) -> int:
    """Evaluate artifacts on later data, side by side, and publish metrics.json and report.html.

    Every artifact is evaluated on the data set of its own encoder state. Prints one line a model.
    """
    named = by_name(artifacts)
    from nightjar.features.contract.artifact_files import REPORT
    from nightjar.serving.reports.evaluations import evaluate

    evaluation = evaluate(named, list(datasets), output, threads=threads)
    for name, model in evaluation.models.items():
        found = {metric: getattr(model.metrics, metric.name) for metric in (LOG_LOSS, AUC, REGRET)}
        told = [f"{metric.label} {metric.text(value)}" for metric, value in found.items() if value is not None]
        print(f"{name}: {'  '.join(told)}")
    print(f"{output}/{REPORT}")
    return 0


def by_name(artifacts: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Directories by what the report calls them; an empty name is the directory's. UsageError if two are the same."""
    named: dict[str, str] = {}
    for directory, given in artifacts:
        name = given or directory.rstrip("/").rpartition("/")[2]
        if name in named:
            raise UsageError(f"two artifacts are called {name!r}: {named[name]} and {directory}. Name them: DIR NAME.")
        named[name] = directory
    return named


if __name__ == "__main__":
    sys.exit(main())
