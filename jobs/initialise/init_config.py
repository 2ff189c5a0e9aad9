"""A first config for a log of one's own. What looks at the log is imported once the command line is right."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import click

from nightjar.features.contract import storage
from nightjar.features.contract.errors import UsageError
from nightjar.jobs.common.cli import Job

ROWS = 200_000
_LEAST_ROWS = 100
EXAMPLE = """
nightjar init --logs /data/impressions --output my.yaml
nightjar night --config my.yaml --logs /data/impressions --output /data/nightjar --date 2026-11-20
"""


@click.command("init_config", cls=Job, example=EXAMPLE)
@click.option(
    "--logs", required=True, help="date= folders, or one folder, of Parquet, ORC, CSV with a header, or JSON."
)
@click.option("--output", required=True, metavar="FILE", help="YAML file to write.")
@click.option("--force", is_flag=True, help="Write over an output that is there.")
@click.option("--label", metavar="COLUMN", help="0 or 1 in every row.")
@click.option("--timestamp", metavar="COLUMN", help="The moment that a row was shown.")
@click.option("--group", metavar="COLUMN", help="Names the user.")
@click.option(
    "--rows", type=int, default=ROWS, show_default=True, help="Size of the sample, spread over the newest days."
)
def main(
    logs: str, output: str, force: bool, label: str | None, timestamp: str | None, group: str | None, rows: int
) -> int:
    """Look at a sample of the logs and write a commented config that runs as it is.

    Columns that are the label, the row's timestamp and the user are told by their types, values and names, or given.
    The config is checked as a night would check it. Same logs, same file. docs/init.md says how it chooses.
    """
    if rows < _LEAST_ROWS:
        raise UsageError(f"--rows must be at least {_LEAST_ROWS}; got {rows}.")
    if storage.exists(output) and not force:
        raise UsageError(f"{output} is there already. Give --force to write over it, or another --output.")
    from nightjar.jobs.initialise.config import checked_config
    from nightjar.jobs.initialise.look import take_look

    where = storage.absolute(logs)
    look = take_look(where, rows, label, timestamp, group)
    name = re.sub(r"\W+", "_", Path(output).stem, flags=re.ASCII).strip("_")
    text = checked_config(look, name if name[:1].isalpha() else f"log_{name}")
    storage.write_bytes(storage.absolute(output), text.encode())
    print(f"wrote {output}. Read it, then try a night:")
    if look.days < 2:
        print("  A night needs two days at least: one to learn from, and the one after.")
    print(f"  nightjar night --config {output} --logs {logs} --output OUTPUT --date {look.newest}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
