"""Logged requests scored again by the models that answered them: is what serves what was judged?

Needs neither PySpark nor torch. Exit status: 0 without differences, 3 with some.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from nightjar.features.contract.errors import UsageError
from nightjar.jobs.common.cli import EXIT_REJECTED, Job, Several

if TYPE_CHECKING:
    from nightjar.serving.model import ServingModel

EXAMPLE = """
nightjar replay --requests /var/log/nightjar --models /data/nightjar/models
nightjar replay --requests /var/log/nightjar --models /data/nightjar/models \\
    --logs /data/impressions --key request_id item
"""


@click.command("replay_requests", cls=Job, example=EXAMPLE)
@click.option("--requests", required=True, metavar="DIR", help="What `Ranker(..., log=RequestLog(DIR))` has written.")
@click.option("--models", required=True, metavar="DIR", help="Folder or URL of the published models that answered.")
@click.option("--logs", metavar="DIR", help="Logs of the same days, Parquet in date folders, to compare with.")
@click.option("--key", cls=Several, metavar="COLUMN...", help="Columns that name an impression in requests and logs.")
@click.option("--rows", default=100_000, show_default=True, metavar="N", help="Rows to hold against the logs, at most.")
@click.option("--tolerance", default=1e-6, show_default=True, metavar="X", help="Of a score.")
@click.option("--json", "output", metavar="FILE", help="Write the outcome there as JSON, too.")
def main(
    requests: str, models: str, logs: str | None, key: tuple[str, ...], rows: int, tolerance: float, output: str | None
) -> int:
    """Score logged requests again, and report every difference by column.

    With --logs and --key each row is also held against what the log has of the same impression; with --logs alone, the
    distribution of each column against that of its day.
    """
    from nightjar.features.contract import storage
    from nightjar.serving.replay.day_log import columns_of, join, some_rows
    from nightjar.serving.replay.distributions import find_shifts
    from nightjar.serving.replay.logged import read_log
    from nightjar.serving.replay.models import Models
    from nightjar.serving.replay.replay import Replay
    from nightjar.serving.replay.skew import find_skew

    if key and not logs:
        raise UsageError("--key names an impression in requests and logs; give --logs, too.")
    replay = Replay(Models(models, open_model), tolerance, rows if logs else 0)
    replay.add_all(read_log(requests))
    columns = columns_of(logs, replay.days, replay.columns()) if logs else []
    if logs and key:
        joined = join(logs, replay.days, replay.rows, key, columns)
        outcome = replay.replayed(find_skew(joined, columns), len(joined.served))
    elif logs:
        outcome = replay.replayed(find_shifts(replay.rows, some_rows(logs, replay.days, columns, rows), columns))
    else:
        outcome = replay.replayed()
    print(*outcome.lines(), sep="\n")
    if output:
        storage.write_bytes(output, (outcome.model_dump_json(indent=1) + "\n").encode())
    return EXIT_REJECTED if outcome.differences else 0


def open_model(root: str, version: str, counters: str | None) -> ServingModel:
    """The model that answered. Raises DataError if it is not there."""
    from nightjar.features.contract import storage
    from nightjar.serving import registry
    from nightjar.serving.model import load

    return load(storage.join(root, version), counters=registry.counters_directory(root, counters) if counters else None)


if __name__ == "__main__":
    sys.exit(main())
