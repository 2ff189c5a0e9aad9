"""A first config for your own logs: `nightjar init` looks at a sample of them and writes commented YAML.

    init_config --logs /data/impressions --output my.yaml
    run_nightly --config my.yaml --logs /data/impressions --output /data/nightjar --date 2026-11-20

Columns that are the label, the row's timestamp and the user are told by their types, values and names, or given.
Same logs, same file. docs/init.md says what is looked at, and how it chooses.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from nightjar.features.contract import storage
from nightjar.features.contract.errors import UsageError
from nightjar.jobs.common.cli import entry_point

ROWS = 200_000
_LEAST_ROWS = 100


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="nightjar init", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--logs",
        required=True,
        help="date= folders, or one folder, of Parquet, ORC, CSV with a header, or JSON",
    )
    parser.add_argument("--output", required=True, help="YAML file to write")
    parser.add_argument("--force", action="store_true", help="write over an output that is there")
    parser.add_argument("--label", metavar="COLUMN", help="0 or 1 in every row")
    parser.add_argument("--timestamp", metavar="COLUMN", help="the moment that a row was shown")
    parser.add_argument("--group", metavar="COLUMN", help="names the user")
    parser.add_argument(
        "--rows", type=int, default=ROWS, help="size of the sample, spread over the newest days (default: %(default)s)"
    )
    args = parser.parse_args(argv)
    if args.rows < _LEAST_ROWS:
        raise UsageError(f"--rows must be at least {_LEAST_ROWS}; got {args.rows}.")
    if storage.exists(args.output) and not args.force:
        raise UsageError(f"{args.output} is there already. Give --force to write over it, or another --output.")
    return args


@entry_point
def main(argv: Sequence[str] | None = None) -> int:
    """Look at the logs, check the config as a night would, write it, and say what to run."""
    args = parse(argv)
    from nightjar.jobs.initialise.config import checked_config
    from nightjar.jobs.initialise.look import take_look

    logs = storage.absolute(args.logs)
    look = take_look(logs, args.rows, args.label, args.timestamp, args.group)
    name = re.sub(r"\W+", "_", Path(args.output).stem, flags=re.ASCII).strip("_")
    text = checked_config(look, name if name[:1].isalpha() else f"log_{name}")
    storage.write_bytes(storage.absolute(args.output), text.encode())
    print(f"wrote {args.output}. Read it, then try a night:")
    if look.days < 2:
        print("  A night needs two days at least: one to learn from, and the one after.")
    print(f"  run_nightly --config {args.output} --logs {args.logs} --output OUTPUT --date {look.newest}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
