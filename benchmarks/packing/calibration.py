"""What a calibration does to later rows: each method, fitted to rows held back, on the rows that judge.

    python -m benchmarks.packing.calibration --nights OUTPUT --config FILE [--by device]
    python -m benchmarks.packing.calibration --movietweetings SOURCE --work DIR [--seeds 3]

Of an output of nights that were trained with `training.validation.share`, every night's model. Of MovieTweetings, split
by time 80 / 10 / 10, models of the first part, fitted to the second, on the third. Printed: the sum of scores over that
of labels, the expected calibration error (20 bins of equal weight), the log loss and the AUC.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from nightjar.features.contract import storage
from nightjar.features.contract.outputs import ENCODE, PACK, TRAIN
from nightjar.features.contract.publishing import key_of
from nightjar.features.dataset.build import build, encode_days
from nightjar.features.dataset.plan import BuildDates, BuildPlan, plan_build
from nightjar.features.input.days import dates_between, day_after
from nightjar.jobs import import_movietweetings
from nightjar.jobs.common.held_back import rows_held_back
from nightjar.jobs.common.spark_session import spark_session
from nightjar.jobs.imports import movietweetings
from nightjar.jobs.nightly.chain import records
from nightjar.jobs.nightly.night import NightConfig
from nightjar.serving.evaluation.comparison import compare
from nightjar.serving.evaluation.metrics import Metrics
from nightjar.serving.packing.calibrate import CalibrationRows
from nightjar.serving.packing.config import ArtifactConfig, CalibrationConfig
from nightjar.serving.packing.pack import pack
from nightjar.training.config import TrainingConfig
from nightjar.training.evaluation.config import HeldOutValidationConfig
from nightjar.training.job import TrainingJob
from nightjar.training.trainer import run_job

HEAD = "| {} | calibration | rows to fit | ratio | ECE | log loss | AUC |\n" + "|---" * 7 + "|"


def configs(by: str | None) -> dict[str, ArtifactConfig]:
    """By the name in the table."""
    methods = {
        "none": CalibrationConfig(),
        "Platt": CalibrationConfig(method="platt"),
        "isotonic": CalibrationConfig(method="isotonic"),
        **({f"isotonic by {by}": CalibrationConfig(method="isotonic", by=by)} if by else {}),
    }
    return {name: ArtifactConfig(calibration=method) for name, method in methods.items()}


def of_nights(output: str, training: TrainingConfig, by: str | None) -> Iterator[str]:
    """A line for each night, model and method; artifacts go below `output`/calibration/."""
    for record in records(output):
        state, train, holdout = (storage.join(output, path) for path in record.directories[ENCODE])
        for candidate, packed in zip(record.directories[TRAIN], record.directories[PACK], strict=True):
            rows = rows_held_back(configs(None)["Platt"], training, train)
            assert rows
            directory = storage.join(output, "calibration", storage.name_of(packed))
            measured = _measured(storage.join(output, candidate), state, holdout, rows, directory, configs(by), holdout)
            model = storage.name_of(candidate).removeprefix(f"{record.date}-").partition("-")[0]
            for method, metrics in measured.items():
                fitted = "" if method == "none" else f"{sum(entry.rows or 0 for entry in rows.files):,}"
                yield f"| {record.date}, {model} | {method} | {fitted} | {_figures([metrics])} |"


def of_movietweetings(source: str, work: str, seeds: int) -> Iterator[str]:
    """A line for each model and method, means over the seeds."""
    config, work = NightConfig.read("conf/movietweetings.yaml"), os.path.abspath(work)
    logs = os.path.join(work, "logs")
    if not storage.exists(logs):
        import_movietweetings.main(["--source", source, "--output", logs])
    splits = json.loads(storage.read_bytes(storage.join(logs, movietweetings.SPLITS_FILE)))
    first, last = splits["train"]

    def plan_through(train_to: str, holdout: str) -> BuildPlan:
        dates = BuildDates(train_from=first, train_to=train_to, history_from=first, holdout=holdout)
        return plan_build(config.features, logs, work, dates)

    with spark_session("calibration") as spark:
        built = build(spark, plan_through(last, day_after(last)))
        encoded = {}
        for split in ("validation", "test"):
            days = dates_between(*splits[split])
            encoded[split] = encode_days(spark, plan_through(days[-2], days[-1]), built.state_dir, days)
    validation = HeldOutValidationConfig(dataset=encoded["validation"])
    for model in ("lr", "deep", "wide_deep"):
        found: dict[str, list[Metrics]] = {}
        fitted_rows = 0
        for seed in range(seeds):
            training = config.training.model_copy(update={"model": model, "seed": seed})
            directory = storage.join(work, "calibration", f"{model}-{seed}-{key_of(training=training.settings)}")
            candidate = storage.join(directory, "candidate")
            run_job(TrainingJob.of(training, built.train_dir, candidate, built.holdout_dir))
            held_out = training.model_copy(update={"validation": validation})
            rows = rows_held_back(configs(None)["Platt"], held_out, None)
            assert rows
            fitted_rows = sum(entry.rows or 0 for entry in rows.files)
            packed = storage.join(directory, "artifacts")
            holdout = str(built.holdout_dir)
            measured = _measured(candidate, built.state_dir, holdout, rows, packed, configs(None), encoded["test"])
            for method, metrics in measured.items():
                found.setdefault(method, []).append(metrics)
        for method, every in found.items():
            fitted = "" if method == "none" else f"{fitted_rows:,}"
            yield f"| {model} | {method} | {fitted} | {_figures(every)} |"


def _measured(
    candidate: str,
    state: str,
    holdout: str,
    rows: CalibrationRows,
    output: str,
    methods: Mapping[str, ArtifactConfig],
    judged_on: str,
) -> dict[str, Metrics]:
    artifacts = {name: storage.join(output, name.replace(" ", "-")) for name in methods}
    for name, config in methods.items():
        pack(candidate, state, holdout, artifacts[name], config=config, held_back=rows)
    evaluation = compare(artifacts, [judged_on], threads=os.cpu_count() or 1)
    return {name: of.metrics for name, of in evaluation.models.items()}


def _figures(found: Sequence[Metrics]) -> str:
    names = ("calibration", "calibration_error", "log_loss", "auc")
    means = [np.mean([getattr(metrics, name) for metrics in found]) for name in names]
    return " | ".join(f"{mean:.{digits}f}" for mean, digits in zip(means, (3, 4, 5, 4), strict=True))


def main(argv: Sequence[str] | None = None) -> int:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(prog="calibration", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--nights", help="output of nights trained with training.validation.share")
    parser.add_argument("--config", help="the nights' config")
    parser.add_argument("--share", type=float, default=0.1, help="the nights' training.validation.share")
    parser.add_argument("--by", help="a field of the nights, for a curve for each of its values")
    parser.add_argument("--movietweetings", help="folder with ratings.dat and movies.dat")
    parser.add_argument("--work", help="folder for MovieTweetings' logs, data sets and models")
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args(argv)
    warnings.filterwarnings("ignore")
    if args.nights:
        config = NightConfig.read(args.config, [f"training.validation.share={args.share}"])
        lines = of_nights(args.nights, config.training, args.by)
    else:
        lines = of_movietweetings(args.movietweetings, args.work, args.seeds)
    print(HEAD.format("night, model" if args.nights else f"model, {args.seeds} seeds"))
    for line in lines:
        print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
