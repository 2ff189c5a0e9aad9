"""The nightly job, for one date or a range: features, training, packing, evaluation, gate and champion.

    run_nightly --config conf/app_store.yaml --logs LOGS --output ROOT --date 2026-01-05
    run_nightly --config conf/app_store.yaml --logs LOGS --output ROOT --from 2026-01-05 --to 2026-01-07

A date is the newest day in the logs: the night trains on the days before it and evaluates on it. The nights of a range
run in order: a rejected one does not stop it, a failed one does. What is published already is not done again.

Exit status: 0 published; 1 failed unexpectedly, with a traceback; 2 failed, with a message; 3 the gate rejected a
model; 4 nothing to do; 5 another run is at work in the output.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import date

from rich.console import Console
from rich.table import Table

from nightjar.features.contract import storage
from nightjar.features.contract.errors import NightjarError, UsageError
from nightjar.features.contract.manifest import NightManifest, is_published, read_manifest
from nightjar.features.input.folders import dates_between
from nightjar.features.input.timestamped import GetSpark, logs_at
from nightjar.jobs.common.cli import (
    EXIT_NOTHING_TO_DO,
    EXIT_REJECTED,
    LOGS_HELP,
    day,
    entry_point,
    leaving_in_order,
)
from nightjar.jobs.common.spark_session import session_on_demand
from nightjar.jobs.nightly.chain import STEPS, carry_out, records, why
from nightjar.jobs.nightly.lease import lease, lock_of
from nightjar.jobs.nightly.night import Night, NightConfig
from nightjar.jobs.nightly.steps import notify, steps_of
from nightjar.jobs.nightly.telemetry import JobRun, structured_log
from nightjar.serving.evaluation.comparison import Evaluation
from nightjar.serving.evaluation.evaluation import read_evaluation
from nightjar.serving.reports import night_report

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class NightlyArguments:
    """What the command line asks for. only: names of steps."""

    nights: tuple[Night, ...]
    only: tuple[str, ...]
    plan: bool


def parse(argv: Sequence[str] | None, spark: GetSpark) -> NightlyArguments:
    """The command line and the config file; the logs are not looked at yet. spark: see input.timestamped.logs_at."""
    parser = argparse.ArgumentParser(
        prog="run_nightly", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", required=True, help="YAML file with the sections features, training, nightly")
    parser.add_argument("--logs", help=LOGS_HELP)
    parser.add_argument("--output", required=True, help="folder that everything is published in")
    parser.add_argument("--date", type=day, help="the newest day in the logs; the same as --from and --to of that day")
    parser.add_argument("--from", type=day, dest="first", metavar="DATE", help="first of several nights")
    parser.add_argument("--to", type=day, dest="last", metavar="DATE", help="last of several nights")
    parser.add_argument("--launcher", choices=("local", "spark"), default="local", help="where the workers run")
    parser.add_argument(
        "--only", nargs="+", choices=STEPS, default=STEPS, metavar="STEP", help=f"of {', '.join(STEPS)}"
    )
    parser.add_argument("--cold", action="store_true", help="begin with nothing, whatever nightly.warm_start says")
    parser.add_argument(
        "--allow",
        action="append",
        default=[],
        metavar="CHECK[:FEATURE]",
        help="let a check of the log's validation fail; repeat for several",
    )
    parser.add_argument("--plan", action="store_true", help="print what would run, and why, and run nothing")
    args = parser.parse_args(argv)
    first, last = args.date or args.first, args.date or args.last
    if not (first and last) or (args.date and (args.first or args.last)):
        raise UsageError("give either --date or both --from and --to.")
    if last < first:
        raise UsageError(f"--to {last} is earlier than --from {first}. Exchange them.")
    config = NightConfig.read(args.config)
    if args.cold:
        config = config.without_parents()
    dates = [date.fromisoformat(text) for text in dates_between(str(first), str(last))]
    if not args.date:  # a range goes on after a day without traffic, which has nothing to be evaluated on
        dates = [newest for newest in dates if newest not in config.input.empty_days]
    if not dates:
        raise UsageError(f"--from {first} to {last}: all days are listed under input.empty_days. Choose other dates.")
    logs, output = logs_at(config.input, args.logs, spark), storage.absolute(args.output)
    allow = tuple(args.allow)
    return NightlyArguments(
        tuple(Night(config, logs, output, newest, args.launcher, allow) for newest in dates),
        tuple(args.only),
        args.plan,
    )


@entry_point
def main(argv: Sequence[str] | None = None) -> int:
    """Run the nights in order; print where their models and reports are, and how good they are."""
    with leaving_in_order(), session_on_demand("run_nightly") as spark:
        return _run(parse(argv, spark), spark)


def _run(request: NightlyArguments, spark: GetSpark) -> int:
    run = JobRun()
    console = Console(soft_wrap=True)
    console.width = max(console.width, 110)  # room for the table where there is no terminal
    for night in request.nights:
        with _told(night, run):
            night.check()
    if request.plan:
        _print_plan(console, request, run)
        return 0
    first = request.nights[0]
    lock, stale_seconds = lock_of(first.promotion.models), first.config.nightly.lease_minutes * 60
    worked = False
    nights: list[Night] = []
    with ExitStack() as stack:
        held = stack.enter_context(lease(lock, run.id, stale_seconds=stale_seconds))
        stack.enter_context(structured_log(first.output, run))
        pages: list[str] = []
        # However the run ends, so that a night that the validation stopped has its page, too.
        stack.callback(lambda: pages and night_report.publish(first.output, pages))
        for number, planned in enumerate(request.nights, 1):
            night = replace(planned)  # nights before it may have published its parent since it was checked
            nights.append(night)
            if is_published(night.record):
                log.info("night %s is over already", night.date)
                if not storage.exists(night_report.page_of(first.output, night.date.isoformat())):
                    pages.append(night.date.isoformat())  # killed before it was drawn
                continue
            pages.append(night.date.isoformat())
            console.rule(f"night {night.date} ({number} of {len(request.nights)})")
            began = time.perf_counter()
            with _told(night, run):
                following = next(iter(request.nights[number:]), None) if "validate" in request.only else None
                worked |= carry_out(steps_of(night, run, following), request.only, spark, run, held.check)
            steps = ", ".join(f"{step} {seconds:.0f}" for step, seconds in run.seconds.items())
            console.print(f"night {night.date} done in {time.perf_counter() - began:.0f} s: {steps}")
    rejected = _report(console, nights)
    if not worked:
        console.print("nothing to do: everything is published already")
    return EXIT_REJECTED if rejected else 0 if worked else EXIT_NOTHING_TO_DO


@contextmanager
def _told(night: Night, run: JobRun) -> Iterator[None]:
    """Whatever ends the block's night is told to the hook; an error for people names the night."""
    run.begin(night.date.isoformat())
    try:
        yield
    except Exception as error:
        if isinstance(error, NightjarError):
            error.args = (f"night {night.date}: {error}",)
        notify(night, run, "failed", str(error))
        raise


def _print_plan(console: Console, request: NightlyArguments, run: JobRun) -> None:
    known = records(request.nights[0].output)
    undecided: Night | None = None
    for night in request.nights:
        over, made_from = is_published(night.record), night.made_from
        console.print(f"{night.date}  {'start':9}         {night.start.reason}")
        if undecided and not night.config.nightly.warm_start.cold_reason(night.date):
            console.print(f"{'':30}unless {undecided.date} or a later night publishes: its model is the parent then")
        undecided = undecided if over else undecided or night
        for step in steps_of(night, run):
            if step.name in request.only:
                reason = "over" if over else why(step, night.date.isoformat(), made_from, known)
                state = "done " if over or step.is_done() else "to do"
                console.print(f"{night.date}  {step.name:9}  {state}  {reason}")
                for directory in step.directories:
                    if not is_published(directory):
                        console.print(f"{'':30}missing  {directory}")


def _report(console: Console, nights: Sequence[Night]) -> bool:
    """Print what the nights that are over found; true if the gate rejected one."""
    over = {night: read_manifest(night.record, NightManifest) for night in nights if is_published(night.record)}
    evaluations = {night: read_evaluation(night.evaluation) for night in over if is_published(night.evaluation)}
    if evaluations:
        console.print(table(evaluations, {night: record.verdict for night, record in over.items()}))
    reports = storage.join(nights[-1].output, night_report.REPORTS)
    for night in over:
        console.print(f"{night.date}  {night.start.reason}")
        console.print(f"{night.date}  model   {night.artifact(night.config.training.model)}")
        console.print(f"{night.date}  page    {storage.join(reports, f'{night.date}.html')}")
    console.print(f"every night: {storage.join(reports, night_report.INDEX)}")
    console.print(f"champion: {nights[-1].promotion.champion}")
    return any(record.verdict == "rejected" for record in over.values())


def table(evaluations: Mapping[Night, Evaluation], verdicts: Mapping[Night, str]) -> Table:
    """Every night's models, the model first and its baselines below; regret is log loss above the known floor."""
    columns = ("night", "model", "start", "verdict", "log loss", "regret", "NE", "AUC", "GAUC", "calibr.")
    result = Table(*columns, title="on the night's own day, which no model was trained on")
    for night, evaluation in evaluations.items():
        for name, model in evaluation.models.items():
            m = model.metrics
            figures = (m.log_loss, m.regret, m.normalized_entropy, m.auc, m.gauc, m.calibration)
            start = night.start.reason.partition(":")[0] if name == night.config.training.model else ""
            verdict = verdicts[night] if start else "baseline"
            cells = ("-" if x is None else f"{x:.4f}" for x in figures)
            result.add_row(str(night.date), name, start, verdict, *cells)
        result.add_section()
    return result


if __name__ == "__main__":
    sys.exit(main())
