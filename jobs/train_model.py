"""Train a candidate model from an encoded data set. Torch is imported once the config file is found to be right."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click
from pydantic import ValidationError

from nightjar.features.contract.errors import UsageError
from nightjar.features.contract.strict import explain, load_yaml
from nightjar.jobs.common.cli import Job, session_for
from nightjar.jobs.common.options import config_options, launcher_option, require_sections

if TYPE_CHECKING:
    from nightjar.training.config import TrainingConfig
    from nightjar.training.run.launch import Launcher
    from nightjar.training.warm_start import WarmStart

EXAMPLE = """
nightjar train --dataset features/datasets/train-2026-01-05..2026-01-11-KEY --config conf/app_store.yaml \\
    --output candidates/today --set training.epochs=2
"""


@dataclass(frozen=True)
class TrainArguments:
    """The command line."""

    dataset: str
    config: str
    overrides: tuple[str, ...]
    output: str
    holdout: str | None
    workers: int | None
    model: str | None
    parent: str | None
    parent_state: str | None
    state: str | None
    decay: float
    launcher: Launcher

    def read_config(self) -> TrainingConfig:
        """The section `training`, with what the command line changes. Raises SpecError and UsageError."""
        from nightjar.training.config import TrainingConfig

        require_sections(self.overrides, "training")
        config = load_yaml(self.config, TrainingConfig, "training", overrides=self.overrides)
        chosen = {"workers": self.workers, "model": self.model}
        try:
            return TrainingConfig.model_validate(
                config.model_dump() | {name: value for name, value in chosen.items() if value is not None}
            )
        except ValidationError as error:
            raise UsageError(explain(error, "the command line")) from error

    def warm_start(self) -> WarmStart | None:
        """What the model begins with; None: with nothing. Raises UsageError if the command line says half of it."""
        directories = (self.parent, self.parent_state, self.state)
        if not any(directories):
            return None
        if not all(directories):
            raise UsageError("--parent, --parent-state and --state belong together. Give all three, or none.")
        from nightjar.features.contract import storage
        from nightjar.training.warm_start import WarmStart

        candidate, parent_state, state = (storage.absolute(str(directory)) for directory in directories)
        return WarmStart(candidate, parent_state, state, self.decay)


@click.command("train_model", cls=Job, example=EXAMPLE)
@click.option("--dataset", required=True, metavar="DIR", help="Published data set to train on.")
@config_options("its section training is read")
@click.option("--output", required=True, metavar="DIR", help="Directory to publish the candidate in.")
@click.option("--holdout", metavar="DIR", help="Later data set whose golden rows are scored into the candidate.")
@click.option("--workers", type=int, metavar="N", help="Instead of training.workers.")
@click.option("--model", metavar="NAME", help="Instead of training.model.")
@click.option("--parent", metavar="DIR", help="Candidate to begin with (warm start).")
@click.option("--parent-state", metavar="DIR", help="Encoder state under which the parent's data set was encoded.")
@click.option("--state", metavar="DIR", help="Encoder state under which --dataset was encoded.")
@click.option("--decay", type=float, default=1.0, show_default=True, help="Of the parent's sums of squared gradients.")
@launcher_option
def main(**options: Any) -> int:
    """Train a candidate model from an encoded data set.

    The data set and the output may be fsspec URLs. An output that holds the candidate of the same inputs is left as it
    is.
    """
    arguments = TrainArguments(**options)
    config = arguments.read_config()
    warm_start = arguments.warm_start()
    from nightjar.training.job import TrainingJob
    from nightjar.training.trainer import run_job

    job = TrainingJob.of(config, arguments.dataset, arguments.output, arguments.holdout, warm_start)
    job.open()
    with session_for(arguments.launcher, "train_model"):
        run_job(job, arguments.launcher)
    return 0


if __name__ == "__main__":
    sys.exit(main())
