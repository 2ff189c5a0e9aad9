"""The reports of all nights, drawn again from what is published: reports/<date>.html and reports/index.html."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from nightjar.features.contract import storage
from nightjar.features.contract.errors import DataError
from nightjar.jobs.common.cli import entry_point
from nightjar.serving.reports.night_report import write


@entry_point
def main(argv: Sequence[str] | None = None) -> int:
    """Draw the pages and print where the index is."""
    parser = argparse.ArgumentParser(prog="render_reports", description=__doc__)
    parser.add_argument("--output", required=True, help="what run_nightly was given as --output")
    args = parser.parse_args(argv)
    if not storage.exists(args.output):
        raise DataError(f"there is no {args.output}. Give what run_nightly was given as --output.")
    *pages, index = write(args.output)
    print(f"{len(pages)} nights: {index}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
