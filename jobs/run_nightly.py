"""The nightly job, for one date or a range: features, training, packing, evaluation, gate and champion.

What a night needs is imported once the command line and the config file are found to be right.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import click

from nightjar.features.contract.errors import UsageError
from nightjar.features.contract.outputs import STEPS
from nightjar.jobs.common.cli import Job, Several
from nightjar.jobs.common.options import Day, config_options, launcher_option, logs_option

if TYPE_CHECKING:
    from nightjar.features.input.timestamped import GetSpark
    from nightjar.jobs.nightly.config import NightConfig
    from nightjar.jobs.nightly.run import NightlyRequest
    from nightjar.training.run.launch import Launcher

EXAMPLE = """
nightjar night --config my_ads.yaml --logs /data/impressions --output /data/nightjar --date 2026-01-05
nightjar night --config my_ads.yaml --output s3://ads/nightjar \\
    --from 2026-01-05 --to 2026-01-07 --set training.workers=4
"""


@dataclass(frozen=True)
class NightlyArguments:
    """The command line. only: names of steps."""

    config: str
    overrides: tuple[str, ...]
    logs: str | None
    output: str
    newest: date | None
    first: date | None
    last: date | None
    launcher: Launcher
    only: tuple[str, ...]
    cold: bool
    allow: tuple[str, ...]
    plan: bool

    def dates(self) -> list[date]:
        """Of the nights. Raises UsageError unless there is one date, or the two ends of a range."""
        first, last = self.newest or self.first, self.newest or self.last
        if not (first and last) or (self.newest and (self.first or self.last)):
            raise UsageError("give either --date or both --from and --to.")
        if last < first:
            raise UsageError(f"--to {last} is earlier than --from {first}. Exchange them.")
        return [first + timedelta(days) for days in range((last - first).days + 1)]

    def read_config(self) -> NightConfig:
        """The config file, with what the command line changes. Raises SpecError that lists every mistake."""
        from nightjar.jobs.nightly.config import NightConfig

        config = NightConfig.read(self.config, self.overrides)
        return config.without_parents() if self.cold else config

    def request(self, config: NightConfig, dates: Sequence[date], spark: GetSpark) -> NightlyRequest:
        """The nights; the logs are not looked at yet. spark: see features.input.timestamped.logs_at."""
        from nightjar.features.contract import storage
        from nightjar.features.input.timestamped import logs_at
        from nightjar.jobs.nightly.night import Night
        from nightjar.jobs.nightly.run import NightlyRequest

        if not self.newest:  # a range goes on after a day without traffic, which has nothing to be evaluated on
            dates = [day for day in dates if day not in config.input.empty_days]
        if not dates:
            raise UsageError(
                f"--from {self.first} to {self.last}: all days are listed under input.empty_days. Choose other dates."
            )
        logs, output = logs_at(config.input, self.logs, spark), storage.absolute(self.output)
        nights = (Night(config, logs, output, newest, self.launcher, self.allow) for newest in dates)
        return NightlyRequest(tuple(nights), self.only, self.plan)


@click.command("run_nightly", cls=Job, example=EXAMPLE)
@config_options("its sections are input, features, training, nightly, validation, gate")
@logs_option
@click.option("--output", required=True, metavar="DIR", help="Folder that everything is published in.")
@click.option("--date", "newest", type=Day(), help="The newest day in the logs: short for --from and --to of that day.")
@click.option("--from", "first", type=Day(), help="First of several nights.")
@click.option("--to", "last", type=Day(), help="Last of several nights.")
@launcher_option
@click.option(
    "--only",
    cls=Several,
    type=click.Choice(STEPS),
    metavar="STEP...",
    default=STEPS,
    help=f"Run these steps only, of {', '.join(STEPS)}.",
)
@click.option("--cold", is_flag=True, help="Begin with nothing, whatever nightly.warm_start says.")
@click.option(
    "--allow", multiple=True, metavar="CHECK[:FEATURE]", help="Let a check of the day's log fail.  Repeatable."
)
@click.option("--plan", is_flag=True, help="Print what would run, and why, and run nothing.")
def main(**options: Any) -> int:
    """Run the night of a date, or the nights of a range: features, training, evaluation, gate, champion.

    A date is the newest day in the logs: the night trains on the days before it and evaluates on it. The nights of a
    range run in order: a rejected one does not stop it, a failed one does. What is published already is not done again.

    Exit status: 0 published; 1 failed unexpectedly, with a traceback; 2 failed, with a message; 3 the gate rejected a
    model; 4 nothing to do; 5 another run is at work in the output; 6 superseded: the gate let a model
    through, but another champion had come in between.
    """
    arguments = NightlyArguments(**options)
    config, dates = arguments.read_config(), arguments.dates()
    from nightjar.jobs.common.spark_session import session_on_demand
    from nightjar.jobs.nightly.run import run_nights

    with session_on_demand("run_nightly") as spark:
        return run_nights(arguments.request(config, dates, spark), spark)


if __name__ == "__main__":
    sys.exit(main())
