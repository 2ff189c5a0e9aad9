"""MovieTweetings, split by time 80 / 10 / 10: Wide & Deep and its relatives beside the published references.

    python -m benchmarks.movietweetings --source FOLDER --work FOLDER [--seeds 3] [--split test|validation]

Trains on the first 80 per cent of the ratings and scores the last 10 (or, to choose settings by, the 10 before them).
Frequency counts are those of the ratings strictly before each row, as in the references.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import warnings
from collections.abc import Sequence

import numpy as np

from nightjar.features.contract import storage
from nightjar.features.contract.manifests import Lineage
from nightjar.features.contract.outputs import CANDIDATES, MODELS
from nightjar.features.contract.publishing import key_of
from nightjar.features.dataset.build import build, encode_days
from nightjar.features.dataset.plan import BuildDates, BuildPlan, plan_build
from nightjar.features.input.days import dates_between, day_after
from nightjar.jobs import import_movietweetings
from nightjar.jobs.common.cli import entry_point
from nightjar.jobs.common.spark_session import spark_session
from nightjar.jobs.imports import movietweetings
from nightjar.jobs.nightly.night import NightConfig
from nightjar.serving.evaluation.comparison import compare
from nightjar.serving.evaluation.metrics import Metrics
from nightjar.serving.packing.pack import pack
from nightjar.training.job import TrainingJob
from nightjar.training.trainer import run_job

REFERENCES = """
| logistic regression on user and movie ids (reference) | .7509 | .5989 |
| gradient boosting on four prior-only statistics (reference) | .7789 | .5637 |"""


@entry_point
def main(argv: Sequence[str] | None = None) -> int:
    """Print a Markdown table: AUC and log loss, mean and standard deviation over seeds."""
    parser = argparse.ArgumentParser(prog="movietweetings", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--source", required=True, help="folder with ratings.dat and movies.dat")
    parser.add_argument("--work", required=True, help="folder for logs, data sets and models")
    parser.add_argument("--config", default="conf/movietweetings.yaml")
    parser.add_argument("--models", default="lr,deep,wide_deep")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--split", choices=("validation", "test"), default="test")
    args = parser.parse_args(argv)
    warnings.filterwarnings("ignore")
    config = NightConfig.read(args.config)
    logs = os.path.join(os.path.abspath(args.work), "logs")
    if not storage.exists(logs):
        import_movietweetings.main(["--source", args.source, "--output", logs])
    splits = json.loads(storage.read_bytes(storage.join(logs, movietweetings.SPLITS_FILE)))
    first, last = splits["train"]

    def plan_through(train_to: str, holdout: str) -> BuildPlan:
        dates = BuildDates(train_from=first, train_to=train_to, history_from=first, holdout=holdout)
        return plan_build(config.features, logs, os.path.abspath(args.work), dates)

    plan = plan_through(last, day_after(last))
    begin, end = splits[args.split]
    everything = plan_through(dates_between(begin, end)[-2], end)
    with spark_session("movietweetings") as spark:
        built = build(spark, plan)
        scored = encode_days(spark, everything, built.state_dir, dates_between(begin, end))
    print(f"\n| model, {args.seeds} seeds, {args.split} split | AUC | log loss |\n| --- | --- | --- |{REFERENCES}")
    for model in args.models.split(","):
        found: list[Metrics] = []
        for seed in range(args.seeds):
            training = config.training.model_copy(update={"model": model, "seed": seed})
            key = key_of(train=built.train_dir, training=training.settings)
            candidate, artifact = (storage.join(args.work, kind, f"{model}-{key}") for kind in (CANDIDATES, MODELS))
            run_job(TrainingJob.of(training, built.train_dir, candidate, built.holdout_dir))
            pack(candidate, built.state_dir, str(built.holdout_dir), artifact, Lineage())
            evaluation = compare({model: artifact}, [scored], threads=os.cpu_count() or 1)
            found.append(evaluation.models[model].metrics)
        print(f"| {model} | {_spread([m.auc for m in found])} | {_spread([m.log_loss for m in found])} |", flush=True)
    return 0


def _spread(values: Sequence[float | None]) -> str:
    figures = np.array(values, dtype=np.float64)
    return f"{figures.mean():.4f} ± {figures.std():.4f}"


if __name__ == "__main__":
    sys.exit(main())
