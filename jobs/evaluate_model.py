"""Artifacts against later data, side by side: metrics.json and report.html."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from nightjar.features.contract import storage
from nightjar.features.contract.artifact_files import REPORT
from nightjar.features.contract.errors import UsageError
from nightjar.jobs.common.cli import entry_point
from nightjar.serving.evaluation.evaluation import evaluate


@entry_point
def main(argv: Sequence[str] | None = None) -> int:
    """Evaluate every artifact on the data set of its encoder state, publish, print one line a model."""
    parser = argparse.ArgumentParser(prog="evaluate_model", description=__doc__)
    parser.add_argument(
        "--artifact",
        required=True,
        action="append",
        nargs="+",
        metavar=("DIR", "NAME"),
        help="a packed model and what the report calls it (the directory's name); repeat to compare models",
    )
    parser.add_argument(
        "--dataset",
        required=True,
        action="append",
        metavar="DIR",
        help="encoded rows of later days; repeat where artifacts have different encoder states",
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="directory to publish")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="threads of the dense layers")
    args = parser.parse_args(argv)
    evaluation = evaluate(_by_name(args.artifact), args.dataset, args.output, threads=args.threads)
    for name, model in evaluation.models.items():
        m = model.metrics
        auc = "undefined" if m.auc is None else f"{m.auc:.5f}"
        regret = "" if m.regret is None else f"  regret {m.regret:.5f}"
        print(f"{name}: log loss {m.log_loss:.5f}  AUC {auc}{regret}")
    print(f"{args.output}/{REPORT}")
    return 0


def _by_name(artifacts: Sequence[Sequence[str]]) -> dict[str, str]:
    named: dict[str, str] = {}
    for directory, *names in artifacts:
        if len(names) > 1:
            raise UsageError(f"--artifact takes a directory and a name; got {[directory, *names]}.")
        name = names[0] if names else storage.name_of(directory.rstrip("/"))
        if name in named:
            raise UsageError(f"two artifacts are called {name!r}: {named[name]} and {directory}. Name them: DIR NAME.")
        named[name] = directory
    return named


if __name__ == "__main__":
    sys.exit(main())
