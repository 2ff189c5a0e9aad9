"""MovieTweetings' two files to logs. Spark is imported once the command line is right."""

from __future__ import annotations

import sys

import click

from nightjar.jobs.common.cli import Job
from nightjar.jobs.common.options import new_logs_option

EXAMPLE = "nightjar import movietweetings --source downloads/movietweetings --output logs"


@click.command("import_movietweetings", cls=Job, example=EXAMPLE)
@click.option("--source", required=True, metavar="DIR", help="Folder with ratings.dat and movies.dat.")
@new_logs_option
def main(source: str, output: str) -> int:
    """MovieTweetings to date-partitioned logs: will this user rate this movie 8 or higher?

    Prints the first and the last day of each split.
    """
    from nightjar.jobs.common.spark_session import session_on_demand
    from nightjar.jobs.imports.movietweetings import import_ratings

    with session_on_demand("import_movietweetings") as spark:
        print(import_ratings(spark, source, output))
    return 0


if __name__ == "__main__":
    sys.exit(main())
