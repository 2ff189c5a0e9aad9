"""A candidate, its encoder state and the hold-out's golden rows to an artifact that serving loads."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from nightjar.features.contract.errors import DataError
from nightjar.features.contract.manifests import Lineage
from nightjar.jobs.common.cli import entry_point
from nightjar.jobs.nightly.lineage import code
from nightjar.serving.packing import dry_run
from nightjar.serving.packing.pack import pack


@entry_point
def main(argv: Sequence[str] | None = None) -> int:
    """Publish the artifact and try it in a fresh process; what is published already from the same inputs stays."""
    parser = argparse.ArgumentParser(prog="pack_model", description=__doc__)
    parser.add_argument("--candidate", required=True, help="what train_model published")
    parser.add_argument("--state", required=True, help="the encoder state that the candidate was trained under")
    parser.add_argument("--holdout", required=True, help="a data set of later days, for its golden rows")
    parser.add_argument("--output", required=True, help="directory to publish")
    args = parser.parse_args(argv)
    artifact = pack(args.candidate, args.state, args.holdout, args.output, lineage=Lineage(code=code()))
    found = dry_run.run(args.output)
    if found.problems:
        raise DataError(f"{args.output} is published, but is not fit to be promoted: {' '.join(found.problems)}")
    print(f"{args.output}: {artifact.model}, {sum(entry.bytes for entry in artifact.files):,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
