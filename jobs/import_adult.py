"""UCI's two files of the Adult census to date-partitioned logs: does a person earn more than 50,000 dollars?"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from nightjar.jobs.common.cli import entry_point
from nightjar.jobs.imports.adult import import_census


@entry_point
def main(argv: Sequence[str] | None = None) -> int:
    """Write the logs (jobs.imports.adult) and print what they are."""
    parser = argparse.ArgumentParser(prog="import_adult", description=__doc__)
    parser.add_argument("--source", required=True, help="folder with adult.data and adult.test")
    parser.add_argument("--output", required=True, help="folder of the logs to write; must not exist yet")
    args = parser.parse_args(argv)
    print(import_census(args.source, args.output))
    return 0


if __name__ == "__main__":
    sys.exit(main())
