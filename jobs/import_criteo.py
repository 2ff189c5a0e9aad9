"""Criteo's 40-column click logs to date-partitioned logs: will the ad be clicked?

    python jobs/import_criteo.py --source day_0 day_1 ... --output logs

Files become days; a single file is cut into --days. See jobs.imports.criteo.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from nightjar.features.contract.errors import UsageError
from nightjar.jobs.common.cli import entry_point
from nightjar.jobs.imports.criteo import import_clicks


@entry_point
def main(argv: Sequence[str] | None = None) -> int:
    """Write the logs and print what they are."""
    parser = argparse.ArgumentParser(prog="import_criteo", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--source", required=True, nargs="+", help="file of a day, in order; or one file of all")
    parser.add_argument("--days", type=int, default=7, help="days in a single file (default: 7)")
    parser.add_argument("--output", required=True, help="folder of the logs to write; must not exist yet")
    args = parser.parse_args(argv)
    if args.days < 1:
        raise UsageError(f"--days must be at least 1; got {args.days}.")
    print(import_clicks(args.source, args.output, args.days))
    return 0


if __name__ == "__main__":
    sys.exit(main())
