"""Options that several jobs have, each declared once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date
from typing import Any, TypeVar

import click

from nightjar.features.contract.errors import UsageError

F = TypeVar("F", bound=Callable[..., Any])
LAUNCHERS = ("local", "spark")


class Day(click.ParamType):
    """YYYY-MM-DD to a date."""

    name = "date"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> date:
        """See click.ParamType."""
        try:
            return value if isinstance(value, date) else date.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is not a date; give YYYY-MM-DD.", param, ctx)


def config_options(reads: str) -> Callable[[F], F]:
    """`--config` and `--set`: the parameters `config` and `overrides` (features.contract.yaml_document).

    Args:
        reads: what the help says of the file.
    """

    def decorate(function: F) -> F:
        function = click.option(
            "--set",
            "overrides",
            multiple=True,
            metavar="KEY=VALUE",
            help="Instead of what the file says, e.g. training.epochs=2 or 'nightly.baselines=[lr]'. Repeatable.",
        )(function)
        return click.option("--config", required=True, metavar="FILE", help=f"YAML file; {reads}.")(function)

    return decorate


def require_sections(overrides: Sequence[str], *sections: str) -> None:
    """Raises UsageError if an override is of another section than those that the job reads."""
    for text in overrides:
        if text.partition("=")[0].partition(".")[0].strip() not in sections:
            raise UsageError(f"--set {text}: this job reads {' and '.join(sections)} of the config file, nothing else.")


logs_option = click.option(
    "--logs",
    metavar="DIR",
    help="Folder of date=YYYY-MM-DD folders with Parquet files, or what the config's section `input` says instead.",
)
new_logs_option = click.option(
    "--output", required=True, metavar="DIR", help="Folder of the logs to write; must not exist yet."
)
launcher_option = click.option(
    "--launcher", type=click.Choice(LAUNCHERS), default="local", show_default=True, help="Where the workers run."
)


def days_options(function: F) -> F:
    """Which days of which logs become which data sets, and where: parameters of common.feature_days.plan_of."""
    for option in reversed(
        (
            config_options("its sections features, and input if need be, are read"),
            logs_option,
            click.option("--output", required=True, metavar="DIR", help="Folder to publish into."),
            click.option("--train-from", required=True, metavar="DATE", help="First training day."),
            click.option("--train-to", required=True, metavar="DATE", help="Last training day."),
            click.option("--history-from", metavar="DATE", help="First day of vocabularies and counts."),
            click.option("--holdout", metavar="DATE", help="The day after the last training day."),
            click.option("--min-files", type=int, metavar="N", help="Files of a data set, at least."),
            click.option("--rows-per-file", type=int, metavar="N", help="Rows of a file, at most."),
        )
    ):
        function = option(function)
    return function
