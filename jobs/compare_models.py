"""Models side by side, over several seeds. Torch is imported once the config file is found to be right."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from nightjar.features.contract.errors import UsageError
from nightjar.features.contract.strict import load_yaml
from nightjar.jobs.common.cli import Job, Several, session_for
from nightjar.jobs.common.options import config_options, launcher_option, require_sections

if TYPE_CHECKING:
    from nightjar.training.run.launch import Launcher

EXAMPLE = """
nightjar compare --dataset features/datasets/train-DAYS-KEY --holdout features/datasets/holdout-DAY-KEY \\
    --config conf/app_store.yaml --output comparison --models wide_deep deepfm --seeds 0 1 2
"""


@click.command("compare_models", cls=Job, example=EXAMPLE)
@click.option("--dataset", required=True, metavar="DIR", help="Published data set to train on.")
@click.option("--holdout", required=True, metavar="DIR", help="Data set of later days to compare on.")
@config_options("its section training is read")
@click.option("--output", required=True, metavar="DIR", help="Directory for everything that is made.")
@click.option("--models", cls=Several, metavar="NAME...", help="Default: all that suit the data set.")
@click.option("--seeds", cls=Several, type=int, default=(0, 1, 2), show_default=True, metavar="N...")
@click.option("--state", metavar="DIR", help="The data sets' encoder state; default: found in states/ beside theirs.")
@launcher_option
def main(
    dataset: str,
    holdout: str,
    config: str,
    overrides: tuple[str, ...],
    output: str,
    models: tuple[str, ...],
    seeds: tuple[int, ...],
    state: str | None,
    launcher: Launcher,
) -> int:
    """Train models on one data set with the same plan and budget, and compare them over several seeds.

    Prints the table and where the report is. See jobs.common.contest for what else is published.
    """
    from nightjar.training.config import TrainingConfig

    require_sections(overrides, "training")
    training = load_yaml(config, TrainingConfig, "training", overrides=overrides)
    if not all(0 <= seed < 2**32 for seed in seeds):
        raise UsageError(f"--seeds are {list(seeds)}; each must be in [0, 2^32).")
    from nightjar.features.contract import storage
    from nightjar.features.contract.artifact_files import REPORT
    from nightjar.jobs.common.contest import Contest, find_state, fitting_models
    from nightjar.serving.evaluation.seeds import markdown

    train, later = storage.absolute(dataset.rstrip("/")), storage.absolute(holdout.rstrip("/"))
    contest = Contest(
        config=training,
        models=tuple(dict.fromkeys(models or fitting_models(training, train))),
        seeds=tuple(sorted(set(seeds))),
        dataset=train,
        holdout=later,
        state=storage.absolute(state) if state else find_state(train),
        output=storage.absolute(output),
    )
    contest.check()
    with session_for(launcher, "compare_models"):
        comparison = contest.run(launcher)
    print(markdown(comparison))
    print(storage.join(contest.result, REPORT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
