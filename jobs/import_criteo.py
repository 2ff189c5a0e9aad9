"""Criteo's 40-column click logs to logs. What reads them is imported once the command line is right."""

from __future__ import annotations

import sys

import click

from nightjar.features.contract.errors import UsageError
from nightjar.jobs.common.cli import Job, Several
from nightjar.jobs.common.options import new_logs_option

EXAMPLE = "nightjar import criteo --source downloads/train.txt --days 7 --output logs"


@click.command("import_criteo", cls=Job, example=EXAMPLE)
@click.option(
    "--source", "files", cls=Several, required=True, metavar="FILE...", help="Files of a day, in order; or one of all."
)
@click.option("--days", type=int, default=7, show_default=True, metavar="N", help="Days in a single file.")
@new_logs_option
def main(files: tuple[str, ...], days: int, output: str) -> int:
    """Criteo's 40-column click logs to date-partitioned logs: will the ad be clicked?

    Files become days; a single file is cut into --days of about as many bytes each.
    """
    if days < 1:
        raise UsageError(f"--days must be at least 1; got {days}.")
    from nightjar.jobs.imports.criteo import import_clicks

    print(import_clicks(list(files), output, days))
    return 0


if __name__ == "__main__":
    sys.exit(main())
