"""The reports of all nights, drawn again. What draws them is imported once the command line is found to be right."""

from __future__ import annotations

import sys

import click

from nightjar.features.contract.errors import DataError
from nightjar.jobs.common.cli import Job


@click.command("render_reports", cls=Job, example="nightjar render --output /data/nightjar")
@click.option("--output", required=True, metavar="DIR", help="What the nights were given as --output.")
def main(output: str) -> int:
    """Draw the pages of all nights again, from what is published: reports/<date>.html and reports/index.html."""
    from nightjar.features.contract import storage
    from nightjar.serving.reports.night_report import draw

    if not storage.exists(output):
        raise DataError(f"there is no {output}. Give what run_nightly was given as --output.")
    drawn = draw(output)
    *pages, index = drawn.urls
    for problem in drawn.problems:
        print(f"render_reports: warning: {problem}", file=sys.stderr)
    print(f"{len(pages)} nights: {index}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
