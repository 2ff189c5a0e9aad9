"""UCI's two files of the Adult census to logs. What reads them is imported once the command line is right."""

from __future__ import annotations

import sys

import click

from nightjar.jobs.common.cli import Job
from nightjar.jobs.common.options import new_logs_option

EXAMPLE = "nightjar import adult --source downloads/adult --output logs"


@click.command("import_adult", cls=Job, example=EXAMPLE)
@click.option("--source", required=True, metavar="DIR", help="Folder with adult.data and adult.test.")
@new_logs_option
def main(source: str, output: str) -> int:
    """UCI's Adult census to date-partitioned logs: does a person earn more than 50,000 dollars?"""
    from nightjar.jobs.imports.adult import import_census

    print(import_census(source, output))
    return 0


if __name__ == "__main__":
    sys.exit(main())
