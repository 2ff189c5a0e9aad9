"""A candidate, its encoder state and the hold-out's golden rows to an artifact that serving loads.

What packs is imported once the command line is found to be right.
"""

from __future__ import annotations

import sys

import click

from nightjar.features.contract.errors import DataError
from nightjar.features.contract.manifests import Lineage
from nightjar.features.contract.strict import load_yaml
from nightjar.jobs.common.cli import Job

EXAMPLE = """
nightjar pack --candidate candidates/today --state states/through=2026-01-11-KEY \\
    --holdout datasets/holdout-2026-01-12-KEY --output models/today
"""


@click.command("pack_model", cls=Job, example=EXAMPLE)
@click.option("--candidate", required=True, metavar="DIR", help="What `train` has published.")
@click.option("--state", required=True, metavar="DIR", help="The encoder state that the candidate was trained under.")
@click.option("--holdout", required=True, metavar="DIR", help="A data set of later days, for its golden rows.")
@click.option("--output", required=True, metavar="DIR", help="Directory to publish.")
@click.option("--config", metavar="FILE", help="YAML file; its sections artifact and training are read.")
@click.option("--dataset", metavar="DIR", help="What the candidate was trained on; for a calibration.")
def main(candidate: str, state: str, holdout: str, output: str, config: str | None, dataset: str | None) -> int:
    """Pack a candidate and its encoder state into an artifact, and try that in a fresh process.

    What is published already from the same inputs stays.
    """
    from nightjar.jobs.common.held_back import rows_held_back
    from nightjar.jobs.nightly.lineage import code
    from nightjar.serving.packing import dry_run
    from nightjar.serving.packing.config import ArtifactConfig
    from nightjar.serving.packing.pack import pack
    from nightjar.training.config import TrainingConfig

    how, held_back = ArtifactConfig(), None
    if config:
        how = load_yaml(config, ArtifactConfig, "artifact", absent=how)
        trained = load_yaml(config, TrainingConfig, "training", absent=TrainingConfig())
        held_back = rows_held_back(how, trained, dataset)
    artifact = pack(candidate, state, holdout, output, Lineage(code=code()), how, held_back)
    found = dry_run.run(output)
    if found.problems:
        raise DataError(f"{output} is published, but is not fit to be promoted: {' '.join(found.problems)}")
    print(f"{output}: {artifact.model}, {sum(entry.bytes for entry in artifact.files):,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
