"""Train a candidate model from an encoded data set.

train_model --dataset DIR --config conf/app_store.yaml --output DIR [--holdout DIR] [--workers N] [--model
NAME] [--parent CANDIDATE --parent-state STATE --state STATE [--decay D]]

The data set and the output may be fsspec URLs. An output that holds the candidate of the same inputs is left
as it is.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

from pydantic import ValidationError

from nightjar.features.contract import storage
from nightjar.features.contract.errors import UsageError
from nightjar.features.contract.strict import explain, load_yaml
from nightjar.jobs.common.cli import entry_point, session_for
from nightjar.training.config import TrainingConfig
from nightjar.training.job import TrainingJob
from nightjar.training.trainer import run_job
from nightjar.training.warm_start import WarmStart

log = logging.getLogger(__name__)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="train_model", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--dataset", required=True, help="published data set to train on")
    parser.add_argument("--config", required=True, help="YAML file; its section `training` is read")
    parser.add_argument("--output", required=True, help="directory to publish the candidate in")
    parser.add_argument("--holdout", help="later data set whose golden rows are scored into the candidate")
    parser.add_argument("--workers", type=int, help="instead of training.workers")
    parser.add_argument("--model", help="instead of training.model")
    parser.add_argument("--parent", help="candidate to begin with (warm start)")
    parser.add_argument("--parent-state", help="encoder state under which the parent's data set was encoded")
    parser.add_argument("--state", help="encoder state under which --dataset was encoded")
    parser.add_argument("--decay", type=float, default=1.0, help="of the parent's sums of squared gradients")
    parser.add_argument("--launcher", choices=("local", "spark"), default="local", help="where the workers run")
    return parser.parse_args(argv)


@entry_point
def main(argv: Sequence[str] | None = None) -> int:
    """Check everything, train, publish."""
    args = parse(argv)
    config = load_yaml(args.config, TrainingConfig, "training")
    chosen = {name: value for name in ("workers", "model") if (value := getattr(args, name)) is not None}
    try:
        config = TrainingConfig.model_validate(config.model_dump() | chosen)
    except ValidationError as error:
        raise UsageError(explain(error, "the command line")) from error
    job = TrainingJob.of(config, args.dataset, args.output, args.holdout, _warm_start(args))
    job.open()
    with session_for(args.launcher, "train_model"):
        run_job(job, args.launcher)
    return 0


def _warm_start(args: argparse.Namespace) -> WarmStart | None:
    directories = (args.parent, args.parent_state, args.state)
    if not any(directories):
        return None
    if not all(directories):
        raise UsageError("--parent, --parent-state and --state belong together. Give all three, or none.")
    candidate, parent_state, state = (storage.absolute(directory) for directory in directories)
    return WarmStart(candidate, parent_state, state, args.decay)


if __name__ == "__main__":
    sys.exit(main(None))
