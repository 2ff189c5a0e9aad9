"""The nightly job, for one date or a range: features, training, packing and evaluation beside the baselines.

    run_nightly --config conf/app_store.yaml --logs LOGS --output ROOT --date 2026-01-05
    run_nightly --config conf/app_store.yaml --logs LOGS --output ROOT --from 2026-01-05 --to 2026-01-07

A date is the newest day in the logs: the night trains on the days before it and evaluates on it. Exit status: 0 if
every night's model is published, 3 if the gate rejected one, 2 if something is wrong.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import date

from rich.console import Console
from rich.table import Table

from features.errors import UsageError
from features.logs import dates_between
from jobs.cli import day, entry_point
from jobs.night import Night, NightConfig
from jobs.spark_session import spark_session
from serving.comparison import Evaluation
from serving.gate import Decision

EXIT_REJECTED = 3


def nights(argv: Sequence[str] | None) -> tuple[list[Night], bool]:
    """The nights that the command line asks for, checked, and whether only their plan is wanted."""
    parser = argparse.ArgumentParser(prog="run_nightly", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--config", required=True, help="YAML file with the sections features, training, nightly")
    parser.add_argument("--logs", required=True, help="folder of date=YYYY-MM-DD folders with Parquet files")
    parser.add_argument("--output", required=True, help="folder that everything is published in")
    parser.add_argument("--date", type=day, help="the newest day in the logs; the same as --from and --to of that day")
    parser.add_argument("--from", type=day, dest="first", metavar="DATE", help="first of several nights")
    parser.add_argument("--to", type=day, dest="last", metavar="DATE", help="last of several nights")
    parser.add_argument("--launcher", choices=("local", "spark"), default="local", help="where the workers run")
    parser.add_argument(
        "--allow",
        action="append",
        default=[],
        metavar="CHECK[:FEATURE]",
        help="let a check of the log's validation fail; repeat for several",
    )
    parser.add_argument("--plan", action="store_true", help="print what would run, and run nothing")
    args = parser.parse_args(argv)
    first, last = args.date or args.first, args.date or args.last
    if not (first and last) or (args.date and (args.first or args.last)):
        raise UsageError("give either --date or both --from and --to.")
    if last < first:
        raise UsageError(f"--to {last} is earlier than --from {first}. Exchange them.")
    config = NightConfig.read(args.config)
    dates = [date.fromisoformat(text) for text in dates_between(str(first), str(last))]
    wanted = [Night(config, args.logs, args.output, newest, args.launcher, tuple(args.allow)) for newest in dates]
    for night in wanted:
        night.check()
    return wanted, args.plan


@entry_point
def main(argv: Sequence[str] | None = None) -> int:
    """Run the nights in order; print where their models and reports are, and how good they are."""
    console = Console(soft_wrap=True)
    console.width = max(console.width, 110)  # room for the table where there is no terminal
    wanted, only_plan = nights(argv)
    if only_plan:
        for night in wanted:
            for directory, published in night.plan().items():
                console.print(f"{night.date}  {'published' if published else 'to do    '}  {directory}")
        return 0
    results: dict[Night, tuple[Evaluation, Decision]] = {}
    with spark_session("run_nightly") as spark:
        for number, night in enumerate(wanted, 1):
            console.rule(f"night {night.date} ({number} of {len(wanted)})")
            began = time.perf_counter()
            results[night] = night.run(spark)
            console.print(f"night {night.date} done in {time.perf_counter() - began:.0f} s")
    console.print(table({night: evaluation for night, (evaluation, _) in results.items()}))
    for night, (_, decision) in results.items():
        console.print(f"{night.date}  model   {night.artifact(night.config.training.model)}: {decision.verdict}")
        console.print(f"{night.date}  report  {night.report}")
    console.print(f"champion: {wanted[-1].promotion.champion}")
    return 0 if all(decision.verdict == "published" for _, decision in results.values()) else EXIT_REJECTED


def table(evaluations: Mapping[Night, Evaluation]) -> Table:
    """Every night's models, the model first and its baselines below; regret is log loss above the known floor."""
    columns = ("night", "model", "log loss", "regret", "NE", "AUC", "GAUC", "calibration")
    result = Table(*columns, title="on the night's own day, which no model was trained on")
    for night, evaluation in evaluations.items():
        for name, model in evaluation.models.items():
            m = model.metrics
            figures = (m.log_loss, m.regret, m.normalized_entropy, m.auc, m.gauc, m.calibration)
            result.add_row(str(night.date), name, *("-" if x is None else f"{x:.4f}" for x in figures))
        result.add_section()
    return result


if __name__ == "__main__":
    sys.exit(main())
