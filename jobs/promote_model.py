"""The champion by hand: list the published models, promote one, roll back, prune; never while a night is at work.

Needs neither PySpark nor torch. Storage is imported once the command line is found to be right.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from nightjar.features.contract.errors import UsageError
from nightjar.jobs.common.cli import Job, JobGroup

if TYPE_CHECKING:
    from nightjar.serving.pointer import Pointer

models_option = click.option(
    "--models", required=True, metavar="DIR", help="Folder or URL that holds the published models."
)
reason_option = click.option(
    "--reason", default="by hand", show_default=True, metavar="TEXT", help="Goes into the history."
)
config_option = click.option(
    "--config", metavar="FILE", help="YAML file whose nightly.mlflow, if there is one, follows the champion."
)


@click.group("promote_model", cls=JobGroup, example="nightjar models list --models /data/nightjar/models")
def main() -> None:
    """Look at the registry of published models, or change its champion."""


@main.command("list", cls=Job, example="nightjar models list --models /data/nightjar/models")
@models_option
def list_models(models: str) -> int:
    """Print the published versions, the latest first; the champion is marked by a star."""
    from nightjar.serving import registry

    champion, published = registry.champion(models), registry.versions(models)
    for version in published:
        print("*" if champion and version == champion.version else " ", version)
    if champion:
        _report(champion)
    else:
        print(f"no champion; {len(published)} published versions in {models}")
    return 0


@main.command(cls=Job, example="nightjar models inputs 2026-01-05-wide_deep-KEY --models /data/nightjar/models")
@click.argument("version")
@models_option
def inputs(version: str, models: str) -> int:
    """Print what a request to a version brings: its columns, a `*` at those without which it is refused."""
    from nightjar.features.contract import storage
    from nightjar.features.contract.artifact_files import ENCODER
    from nightjar.features.contract.manifests import StateManifest
    from nightjar.features.contract.publishing import read_manifest
    from nightjar.features.encoder.inputs import input_columns

    columns = input_columns(read_manifest(storage.join(models, version, ENCODER), StateManifest).spec)
    width = max(len(column.name) for column in columns)
    for column in columns:
        print(f"{'*' if column.required else ' '} {column.name:{width}}  {column.type:18}  {column.meaning}")
    return 0


@main.command(cls=Job, example="nightjar models card 2026-01-05-wide_deep-KEY --models /data/nightjar/models")
@click.argument("version")
@models_option
def card(version: str, models: str) -> int:
    """Print the card of a version: days, rows, checks, metrics, calibration, limits and lineage, as Markdown."""
    from nightjar.features.contract import storage
    from nightjar.features.contract.artifact_files import ENCODER
    from nightjar.features.contract.manifests import ArtifactManifest, StateManifest
    from nightjar.features.contract.publishing import read_manifest
    from nightjar.serving.reports import model_card
    from nightjar.serving.reports.nights import gather

    artifact = storage.join(models, version)
    manifest = read_manifest(artifact, ArtifactManifest)
    fitted = read_manifest(storage.join(artifact, ENCODER), StateManifest)
    nights = gather(storage.absolute(models).rstrip("/").rpartition("/")[0]).nights
    of_version = [night for night in nights if night.record and night.record.version == version]
    print(model_card.render(version, manifest, fitted, of_version[-1] if of_version else None), end="")
    return 0


@main.command(cls=Job, example="nightjar models promote 2026-01-05-wide_deep-KEY --models /data/nightjar/models")
@click.argument("version")
@models_option
@config_option
@reason_option
def promote(version: str, models: str, config: str | None, reason: str) -> int:
    """Make a version the champion, without asking the gate."""
    from nightjar.serving import registry

    with changing(models, config, "promote") as token:
        _report(registry.promote(models, version, reason, token=token))
    return 0


@main.command(cls=Job, example="nightjar models rollback --models /data/nightjar/models --reason 'too many crashes'")
@models_option
@config_option
@reason_option
def rollback(models: str, config: str | None, reason: str) -> int:
    """Return to the champion before this one. Repeated, it goes back further."""
    from nightjar.serving import registry

    with changing(models, config, "rollback") as token:
        _report(registry.rollback(models, reason, token))
    return 0


@main.command(cls=Job, example="nightjar models prune --models /data/nightjar/models --keep 14")
@models_option
@click.option("--keep", type=int, required=True, metavar="N", help="How many of the latest stay.")
def prune(models: str, keep: int) -> int:
    """Remove old versions, but never the last two champions."""
    from nightjar.serving import registry

    with changing(models, None, "prune") as token:
        removed = registry.prune(models, keep, token)
    print(f"removed {len(removed)}: {', '.join(removed)}" if removed else "nothing to remove")
    return 0


@contextmanager
def changing(models: str, config: str | None, verb: str) -> Iterator[int]:
    """Hold the registry's lease, whose number it gives, for the block; then MLflow follows the champion, if the config
    file says so.

    Raises UsageError if nothing is published there, LockedError if another run is at work, SpecError if the config file
    cannot be used.
    """
    from nightjar.jobs.common.mlflow_mirror import follow
    from nightjar.jobs.nightly.config import NightConfig
    from nightjar.jobs.nightly.lease import lease, lock_of
    from nightjar.serving import registry

    mlflow = NightConfig.read(config).nightly.mlflow if config else None
    if not registry.versions(models):
        raise UsageError(f"{models} holds no published version. Give the folder `models` of a job's output.")
    with lease(lock_of(models), f"promote_model {verb}", after=registry.last_token(models)) as held:
        yield held.number
        if mlflow:
            print(f"MLflow: {mlflow.model}@{mlflow.alias} is version {follow(mlflow, models)}")


def _report(champion: Pointer) -> None:
    print(f"champion: {champion.version} (move {champion.sequence}: {champion.reason})")


if __name__ == "__main__":
    sys.exit(main())
