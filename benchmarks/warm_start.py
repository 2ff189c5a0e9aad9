"""Nights with drift, begun three ways: from the night before, from nothing on its new day, from nothing on a window.

    python -m benchmarks.warm_start --work FOLDER [--nights 7] [--rows-per-day 30000] [--train-days 7]

Logs are generated: users and apps arrive every day, and what an app is worth drifts (jobs.imports.simulation); the true
probabilities are known, and regret is log loss above theirs. Every night's models are scored on the night's own day,
which none has seen. The night before the first begins from nothing on its window; each later one from its predecessor.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from statistics import fmean

from pyspark.sql import SparkSession

from nightjar.features.contract import storage
from nightjar.features.contract.manifests import CandidateManifest, Lineage
from nightjar.features.contract.outputs import MODELS, VersionName
from nightjar.features.contract.publishing import key_of, read_manifest
from nightjar.features.dataset.build import BuildDates, BuiltFeatures, build, plan_build
from nightjar.jobs import generate_logs
from nightjar.jobs.common.cli import entry_point
from nightjar.jobs.common.spark_session import spark_session
from nightjar.jobs.imports.simulation_config import SimulationConfig
from nightjar.jobs.nightly.night import NightConfig
from nightjar.serving.evaluation.comparison import compare
from nightjar.serving.packing.pack import pack
from nightjar.training.config import TrainingConfig
from nightjar.training.job import TrainingJob
from nightjar.training.trainer import run_job
from nightjar.training.warm_start import WarmStart

WARM, SAME, WINDOW = "warm, new day", "nothing, new day", "nothing, window"
DIRECTORY = {WARM: "warm", SAME: "same", WINDOW: "window"}


@dataclass(frozen=True)
class Model:
    """A packed model, the state it was trained under, and the steps that it took."""

    artifact: str
    candidate: str
    state: str
    steps: int


def train(training: TrainingConfig, dataset: str, built: BuiltFeatures, name: str, start: WarmStart | None) -> Model:
    """Train and pack, unless it is done."""
    job = TrainingJob.of(training, dataset, f"{name}-candidate", built.holdout_dir, start)
    run_job(job)
    pack(job.output, built.state_dir, str(built.holdout_dir), f"{name}-model", Lineage())
    steps = int(read_manifest(job.output, CandidateManifest).statistics["steps"])
    return Model(f"{name}-model", job.output, built.state_dir, steps)


@entry_point
def main(argv: Sequence[str] | None = None) -> int:
    """Print a Markdown table: log loss, regret and steps by night."""
    parser = argparse.ArgumentParser(prog="warm_start", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--work", required=True, help="folder for logs, data sets and models")
    parser.add_argument("--config", default="conf/app_store.yaml")
    parser.add_argument("--nights", type=int, default=7)
    parser.add_argument("--rows-per-day", type=int, default=30_000)
    parser.add_argument("--train-days", type=int, default=7, help="days of the window")
    parser.add_argument("--epochs", type=int, help="of a warm-started night, if not as from nothing")
    parser.add_argument("--decay", type=float, default=1.0)
    args = parser.parse_args(argv)
    warnings.filterwarnings("ignore")
    work = os.path.abspath(args.work)
    days = str(args.train_days + args.nights + 1)
    status = generate_logs.main(["--output", f"{work}/logs", "--days", days, "--rows-per-day", str(args.rows_per_day)])
    if status:
        return status
    with spark_session("warm_start") as spark:
        nights(args, work, spark)
    return 0


def nights(args: argparse.Namespace, work: str, spark: SparkSession) -> None:
    """Run them in order; a line for each as soon as it is over."""
    config = NightConfig.read(args.config)
    cold = config.training
    warm = cold.model_copy(update={"epochs": args.epochs or cold.epochs})
    first_day = SimulationConfig().start_date
    parent: Model | None = None
    rows: list[tuple[float, ...]] = []
    print("| night | " + " | ".join(f"{how}: log loss (regret), steps" for how in DIRECTORY) + " |")
    print("| --- |" + " --- |" * len(DIRECTORY))
    for night in range(args.nights + 1):
        date = first_day + timedelta(args.train_days + night)
        window, new = ((date - timedelta(days)).isoformat() for days in (args.train_days, 1))
        built = {
            begin: build(
                spark,
                plan_build(
                    config.features,
                    f"{work}/logs",
                    work,
                    BuildDates(
                        train_from=begin,
                        train_to=(date - timedelta(1)).isoformat(),
                        fit_from=window,
                        history_from=first_day.isoformat(),
                        holdout=date.isoformat(),
                    ),
                ),
            )
            for begin in (window, new)
        }
        of_window, of_new = built[window], built[new]

        def name(how: str, *made_from: object) -> str:
            return storage.join(work, MODELS, str(VersionName(str(date), DIRECTORY[how], key_of(made_from=made_from))))  # noqa: B023

        models = {
            WINDOW: train(cold, of_window.train_dir, of_window, name(WINDOW, cold.settings, of_window.train_dir), None)
        }
        if parent is None:
            parent = models[WINDOW]
            continue
        start = WarmStart(parent.candidate, parent.state, of_new.state_dir, args.decay)
        settings = (of_new.train_dir, parent.artifact, warm.settings, args.decay)
        models[WARM] = train(warm, of_new.train_dir, of_new, name(WARM, *settings), start)
        models[SAME] = train(cold, of_new.train_dir, of_new, name(SAME, cold.settings, of_new.train_dir), None)
        parent = models[WARM]
        artifacts = {DIRECTORY[how]: models[how].artifact for how in DIRECTORY}
        evaluation, _ = compare(artifacts, [str(of_new.holdout_dir)], threads=os.cpu_count() or 1)
        found = evaluation.models
        figures: list[float] = []
        for how, directory in DIRECTORY.items():
            metrics = found[directory].metrics
            assert metrics.regret is not None
            figures += [metrics.log_loss, metrics.regret, models[how].steps]
        rows.append(tuple(figures))
        print(_line(str(date), rows[-1]), flush=True)
    print(_line("mean", tuple(fmean(column) for column in zip(*rows, strict=True))))


def _line(title: str, figures: Sequence[float]) -> str:
    cells = [f"{figures[i]:.4f} ({figures[i + 1]:.4f}), {figures[i + 2]:.0f}" for i in range(0, len(figures), 3)]
    return f"| {title} | {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main())
