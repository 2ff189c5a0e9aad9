"""The champion by hand: list the published models, promote one, roll back, prune; never while a night is at work."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from nightjar.features.contract.errors import UsageError
from nightjar.jobs.common.cli import entry_point
from nightjar.jobs.nightly.lease import lease, lock_of
from nightjar.jobs.nightly.mlflow_mirror import follow
from nightjar.jobs.nightly.night import NightConfig
from nightjar.serving import registry


@entry_point
def main(argv: Sequence[str] | None = None) -> int:
    """Look at or change the registry under `--models`; its champion is marked by a star."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", required=True, help="folder or URL that holds the published models")
    parser.add_argument("--config", help="YAML file whose nightly.mlflow, if there is one, follows the champion")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="published versions, the latest first")
    promote = commands.add_parser("promote", help="make a version the champion, without asking the gate")
    promote.add_argument("version")
    rollback = commands.add_parser("rollback", help="return to the champion before this one")
    for command in (promote, rollback):
        command.add_argument("--reason", default="by hand", help="goes into the history (default: %(default)s)")
    prune = commands.add_parser("prune", help="remove old versions, but never the last two champions")
    prune.add_argument("--keep", type=int, required=True, metavar="N", help="how many of the latest stay")
    args = parser.parse_args(argv)
    mlflow = NightConfig.read(args.config).nightly.mlflow if args.config else None

    if args.command == "list":
        _list(args.models)
        return 0
    if not registry.versions(args.models):
        raise UsageError(f"{args.models} holds no published version. Give the folder `models` of a job's output.")
    with lease(lock_of(args.models), f"promote_model {args.command}"):
        if args.command == "prune":
            removed = registry.prune(args.models, args.keep)
            print(f"removed {len(removed)}: {', '.join(removed)}" if removed else "nothing to remove")
            return 0
        if args.command == "promote":
            _report(registry.promote(args.models, args.version, args.reason))
        else:
            _report(registry.rollback(args.models, args.reason))
        if mlflow:
            print(f"MLflow: {mlflow.model}@{mlflow.alias} is version {follow(mlflow, args.models)}")
    return 0


def _list(models: str) -> None:
    champion, published = registry.champion(models), registry.versions(models)
    for version in published:
        print("*" if champion and version == champion.version else " ", version)
    if champion:
        _report(champion)
    else:
        print(f"no champion; {len(published)} published versions in {models}")


def _report(champion: registry.Pointer) -> None:
    print(f"champion: {champion.version} (move {champion.sequence}: {champion.reason})")


if __name__ == "__main__":
    sys.exit(main())
