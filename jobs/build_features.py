"""Logs to features: daily counts, the encoder's state, encoded data sets.

    spark-submit jobs/build_features.py --config conf/app_store.yaml --logs logs --output features \\
        --train-from 2026-01-05 --train-to 2026-01-11 --holdout 2026-01-12

PYTHONPATH must hold the repository, on executors too (spark.executorEnv.PYTHONPATH, or --py-files). What is
published already is found again and left alone. Exit status 2, with a message, if the input cannot be used.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from nightjar.features.contract.spec import FeatureSpec
from nightjar.features.contract.strict import load_yaml
from nightjar.features.dataset.build import BuildPlan, BuildSettings, build, plan_build, report
from nightjar.features.input.config import PARQUET, InputConfig
from nightjar.features.input.timestamped import GetSpark, logs_at
from nightjar.jobs.common.cli import LOGS_HELP, entry_point
from nightjar.jobs.common.spark_session import session_on_demand


def command_line(prog: str, description: str | None) -> argparse.ArgumentParser:
    """What days of which logs are built under which config, and where to."""
    parser = argparse.ArgumentParser(prog=prog, description=description)
    parser.add_argument("--config", required=True, help="YAML file with the section `features`, and `input` if need be")
    parser.add_argument("--logs", help=LOGS_HELP)
    parser.add_argument("--output", required=True, help="folder to publish into")
    parser.add_argument("--train-from", required=True, metavar="DATE", help="first training day")
    parser.add_argument("--train-to", required=True, metavar="DATE", help="last training day")
    parser.add_argument("--history-from", metavar="DATE", help="first day of vocabularies and counts")
    parser.add_argument("--holdout", metavar="DATE", help="the day after the last training day")
    parser.add_argument("--min-files", type=int, default=BuildSettings.min_files)
    parser.add_argument("--rows-per-file", type=int, default=BuildSettings.rows_per_file)
    return parser


def plan_of(args: argparse.Namespace, spark: GetSpark) -> BuildPlan:
    """Check the input. spark: for a log whose days only Spark can tell; other logs are checked without it."""
    return plan_build(
        load_yaml(args.config, FeatureSpec, "features"),
        logs_at(load_yaml(args.config, InputConfig, "input", PARQUET), args.logs, spark),
        args.output,
        train_from=args.train_from,
        train_to=args.train_to,
        history_from=args.history_from,
        holdout=args.holdout,
        settings=BuildSettings(args.min_files, args.rows_per_file),
    )


@entry_point
def main(argv: Sequence[str] | None = None) -> int:
    """Build what is not published yet and print where everything is."""
    args = command_line("build_features", __doc__).parse_args(argv)
    with session_on_demand("build_features") as spark:
        plan = plan_of(args, spark)
        if not plan.is_built():
            build(spark(), plan)
    print(report(plan.built))
    return 0


if __name__ == "__main__":
    sys.exit(main(None))
