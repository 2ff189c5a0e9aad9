"""Raw candidates to scores and the best of each request, by Spark: Parquet with a manifest."""

from __future__ import annotations

import sys

import click

from nightjar.features.contract.errors import UsageError
from nightjar.jobs.common.cli import EXIT_NOTHING_TO_DO, Job, Several

EXAMPLE = """
nightjar score --models /data/nightjar/models --candidates /data/candidates/2026-01-07 \\
    --keep user_id app_id --best-of user_id --k 20 --output /data/scores/2026-01-07
"""


@click.command("score_candidates", cls=Job, example=EXAMPLE)
@click.option("--models", required=True, metavar="DIR", help="Folder or URL of the published models.")
@click.option("--version", metavar="NAME", help="One of them, with its newest counters; else the champion.")
@click.option("--candidates", required=True, metavar="DIR", help="Raw rows: a file, or a folder of files.")
@click.option("--config", metavar="FILE", help="YAML file; its section input says how rows are read. Else Parquet.")
@click.option("--keep", cls=Several, required=True, metavar="COLUMN...", help="What a score stands beside.")
@click.option("--best-of", "request", metavar="COLUMN", help="Keep the best of the rows that are equal in it.")
@click.option("--k", type=click.IntRange(min=1), metavar="N", help="How many of them.")
@click.option("--output", required=True, metavar="DIR", help="Directory to publish.")
def main(
    models: str,
    version: str | None,
    candidates: str,
    config: str | None,
    keep: tuple[str, ...],
    request: str | None,
    k: int | None,
    output: str,
) -> int:
    """Score raw candidates with the champion and the counters that it serves with.

    A row is scored as a request would be, to the bit. A run that was killed can be started again; one that is done
    already ends with status 4.
    """
    if (request is None) != (k is None):
        raise UsageError(
            "--best-of and --k belong together: the column that names a request, and how many of its rows."
        )
    if clash := sorted({"score", "rank"} & set(keep)):
        raise UsageError(f"--keep {' '.join(clash)}: the scores have columns of these names. Rename the candidates'.")
    from nightjar.features.contract import storage
    from nightjar.features.contract.strict import load_yaml
    from nightjar.features.input.config import PARQUET, InputConfig
    from nightjar.serving import registry
    from nightjar.serving.raw_scores import ServedModel

    models, candidates, output = map(storage.absolute, (models, candidates, output))
    source = load_yaml(config, InputConfig, "input", PARQUET) if config else PARQUET
    pointer = registry.champion(models)
    if version is None:
        if pointer is None:
            raise UsageError(f"{models} has no champion. Promote a version first, or give --version.")
        version = pointer.version
    artifact = registry.directory_of(models, version)
    newest = pointer.counters if pointer and pointer.version == version else registry.newest_counters(models, version)
    served = ServedModel(artifact, registry.counters_directory(models, newest) if newest else None)
    from nightjar.jobs.common.spark_session import spark_session
    from nightjar.jobs.scoring.candidates import Candidates
    from nightjar.jobs.scoring.score import Best, Scoring

    kept = tuple(dict.fromkeys((*keep, request) if request else keep))
    found = Candidates.find(candidates, source, served.open(), kept)
    scoring = Scoring(found, served, version, output, Best(request, k) if request and k else None)
    if scoring.is_done():
        print(f"published already: {output}")
        return EXIT_NOTHING_TO_DO
    with spark_session("score_candidates") as spark:
        manifest = scoring.run(spark)
    counted = f"{manifest.candidates} candidates, {manifest.rows} scores"
    print(f"{counted} of {version}, counters as of {manifest.counters_as_of}")
    print(f"scores {output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
