"""The champion by hand: list the published models, promote one, roll back, prune."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from jobs.cli import entry_point
from jobs.mlflow_mirror import follow
from jobs.night import NightConfig
from serving import registry


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

    if args.command == "promote":
        _report(registry.promote(args.models, args.version, args.reason))
    elif args.command == "rollback":
        _report(registry.rollback(args.models, args.reason))
    elif args.command == "prune":
        removed = registry.prune(args.models, args.keep)
        print(f"removed {len(removed)}: {', '.join(removed)}" if removed else "nothing to remove")
    else:
        champion = registry.champion(args.models)
        published = registry.versions(args.models)
        for version in published:
            print("*" if champion and version == champion.version else " ", version)
        if champion:
            _report(champion)
        else:
            print(f"no champion; {len(published)} published versions in {args.models}")
    if mlflow and args.command in ("promote", "rollback"):
        print(f"MLflow: {mlflow.model}@{mlflow.alias} is version {follow(mlflow, args.models)}")
    return 0


def _report(champion: registry.Pointer) -> None:
    print(f"champion: {champion.version} (move {champion.sequence}: {champion.reason})")


if __name__ == "__main__":
    sys.exit(main())
