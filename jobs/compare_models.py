"""Train models of the family on one data set with the same plan and budget, and compare them over several seeds.

compare_models --dataset DIR --holdout DIR --config conf/app_store.yaml --output DIR [--models lr deepfm ...]
[--seeds 0 1 2]

Prints the table and where the report is. See jobs.common.contest for what else is published.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

from nightjar.features.contract import storage
from nightjar.features.contract.artifact_files import REPORT
from nightjar.features.contract.errors import DataError, UsageError
from nightjar.features.contract.layout import table_layout
from nightjar.features.contract.manifests import DatasetManifest
from nightjar.features.contract.outputs import STATES
from nightjar.features.contract.publishing import is_published, manifest_digest, read_manifest
from nightjar.features.contract.strict import load_yaml
from nightjar.jobs.common.cli import entry_point, session_for
from nightjar.jobs.common.contest import Contest
from nightjar.serving.evaluation.seeds import markdown
from nightjar.training.config import TrainingConfig
from nightjar.training.models import MODELS, build_head, model_columns

log = logging.getLogger(__name__)


def fitting_models(config: TrainingConfig, dataset: str) -> list[str]:
    """The models that can be built on a data set; why another cannot is logged."""
    columns = read_manifest(dataset, DatasetManifest).columns
    fitting = []
    for model in MODELS:
        try:
            used = model_columns(config.model_copy(update={"model": model}), columns)
            build_head(model, table_layout(used), config.deep, config.seed)
            fitting.append(model)
        except UsageError as error:
            log.warning("%s is left out: %s", model, error)
    return fitting


def find_state(dataset: str) -> str:
    """The encoder state of a data set, in the folder `states` beside its own. Raises DataError if it is not there."""
    wanted = read_manifest(dataset, DatasetManifest).state
    states = storage.join(dataset.rpartition("/")[0].rpartition("/")[0], STATES)
    for name in storage.list_folders(states):
        directory = storage.join(states, name)
        if is_published(directory) and manifest_digest(directory) == wanted:
            return directory
    raise DataError(f"{states} does not hold the state {wanted[:12]} that {dataset} is encoded under. Give --state.")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="compare_models", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--dataset", required=True, help="published data set to train on")
    parser.add_argument("--holdout", required=True, help="data set of later days to compare on")
    parser.add_argument("--config", required=True, help="YAML file; its section `training` is read")
    parser.add_argument("--output", required=True, help="directory for everything that is made")
    parser.add_argument("--models", nargs="+", metavar="NAME", help="default: all that suit the data set")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], metavar="N", help="default: 0 1 2")
    parser.add_argument("--state", help="the data sets' encoder state; default: found in states/ beside their folder")
    parser.add_argument("--launcher", choices=("local", "spark"), default="local", help="where the workers run")
    return parser.parse_args(argv)


@entry_point
def main(argv: Sequence[str] | None = None) -> int:
    """Check everything, train, pack, evaluate, print the table."""
    args = parse(argv)
    config = load_yaml(args.config, TrainingConfig, "training")
    dataset, holdout = storage.absolute(args.dataset.rstrip("/")), storage.absolute(args.holdout.rstrip("/"))
    if not all(0 <= seed < 2**32 for seed in args.seeds):
        raise UsageError(f"--seeds are {args.seeds}; each must be in [0, 2^32).")
    contest = Contest(
        config=config,
        models=tuple(dict.fromkeys(args.models or fitting_models(config, dataset))),
        seeds=tuple(sorted(set(args.seeds))),
        dataset=dataset,
        holdout=holdout,
        state=storage.absolute(args.state) if args.state else find_state(dataset),
        output=storage.absolute(args.output),
    )
    contest.check()
    with session_for(args.launcher, "compare_models"):
        comparison = contest.run(args.launcher)
    print(markdown(comparison))
    print(storage.join(contest.result, REPORT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
