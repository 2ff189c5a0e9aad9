"""MovieTweetings' two files to date-partitioned logs, with the label rating >= 8 (jobs.imports.movietweetings)."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from nightjar.jobs.common.cli import entry_point
from nightjar.jobs.common.spark_session import session_on_demand
from nightjar.jobs.imports.movietweetings import import_ratings


@entry_point
def main(argv: Sequence[str] | None = None) -> int:
    """Write the logs and print the first and the last day of each split."""
    parser = argparse.ArgumentParser(prog="import_movietweetings", description=__doc__)
    parser.add_argument("--source", required=True, help="folder with ratings.dat and movies.dat")
    parser.add_argument("--output", required=True, help="folder of the logs to write; must not exist yet")
    args = parser.parse_args(argv)
    with session_on_demand("import_movietweetings") as spark:
        print(import_ratings(spark, args.source, args.output))
    return 0


if __name__ == "__main__":
    sys.exit(main())
