"""The Adult census on its published split: Wide & Deep and DeepFM beside the references.

    python -m benchmarks.adult [--source FOLDER] --work FOLDER [--seeds 5] [--split test|validation]

Trains on the training file and scores the test file; to choose settings by, the last fifth of the training file is
scored by a model of the other four.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Sequence
from datetime import timedelta

import numpy as np
from sklearn.metrics import accuracy_score, log_loss, roc_auc_score

from nightjar.features.contract import storage
from nightjar.features.contract.manifests import DatasetManifest, Lineage
from nightjar.features.contract.outputs import CANDIDATES, MODELS
from nightjar.features.contract.publishing import key_of, read_manifest
from nightjar.features.dataset.build import BuildDates, build, plan_build
from nightjar.jobs import import_adult
from nightjar.jobs.common.cli import entry_point
from nightjar.jobs.common.spark_session import spark_session
from nightjar.jobs.imports import adult
from nightjar.jobs.nightly.night import NightConfig
from nightjar.serving.evaluation.comparison import predict
from nightjar.serving.model import load
from nightjar.serving.packing.pack import pack
from nightjar.training.job import TrainingJob
from nightjar.training.trainer import run_job

FIGURES = {
    "AUC": roc_auc_score,
    "accuracy": lambda label, score: accuracy_score(label, score > 0.5),
    "log loss": log_loss,
}
REFERENCES = """
| logistic regression, binned and one-hot (reference) | .9064 | .8529 | .3183 |
| gradient boosting (reference) | .9273 | .8716 | .2766 |"""


@entry_point
def main(argv: Sequence[str] | None = None) -> int:
    """Print a Markdown table: AUC, accuracy and log loss, mean and standard deviation over seeds."""
    parser = argparse.ArgumentParser(prog="adult", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--source", default="../shared/data/adult", help="folder with adult.data and adult.test")
    parser.add_argument("--work", required=True, help="folder for logs, data sets and models")
    parser.add_argument("--config", default="conf/adult.yaml")
    parser.add_argument("--models", default="lr,wide_deep,deepfm")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--split", choices=("validation", "test"), default="test")
    args = parser.parse_args(argv)
    warnings.filterwarnings("ignore")
    config = NightConfig.read(args.config)
    work = os.path.abspath(args.work)
    logs = os.path.join(work, "logs")
    if not storage.exists(logs):
        import_adult.main(["--source", args.source, "--output", logs])
    scored_day = adult.TEST_DAY - timedelta(args.split == "validation")
    first, last, scored = (str(day) for day in (adult.FIRST_DAY, scored_day - timedelta(1), scored_day))
    plan = plan_build(
        config.features, logs, work, BuildDates(train_from=first, train_to=last, history_from=first, holdout=scored)
    )
    with spark_session("adult") as spark:
        built = build(spark, plan)
    print(f"\n| model, {args.seeds} seeds, {args.split} split | {' | '.join(FIGURES)} |")
    print(f"| --- | --- | --- | --- |{REFERENCES}")
    holdout = str(built.holdout_dir)
    for model in args.models.split(","):
        found = []
        for seed in range(args.seeds):
            training = config.training.model_copy(update={"model": model, "seed": seed})
            key = key_of(train=built.train_dir, training=training.settings)
            candidate, artifact = (storage.join(work, kind, f"{model}-{key}") for kind in (CANDIDATES, MODELS))
            run_job(TrainingJob.of(training, built.train_dir, candidate, holdout))
            pack(candidate, built.state_dir, holdout, artifact, Lineage())
            observed, scores = predict({model: load(artifact)}, holdout, read_manifest(holdout, DatasetManifest))
            found.append([figure(observed.label, scores[model].astype(np.float64)) for figure in FIGURES.values()])
        spread = zip(np.mean(found, axis=0), np.std(found, axis=0), strict=True)
        print(f"| {model} | {' | '.join(f'{mean:.4f} ± {deviation:.4f}' for mean, deviation in spread)} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
