"""Several nights, one after the other, under one lease; what is printed of them."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace

from rich.console import Console
from rich.table import Table

from nightjar.features.contract import storage
from nightjar.features.contract.errors import DataError, LockedError, NightjarError, ValidationFailed
from nightjar.features.contract.manifests import NightManifest
from nightjar.features.contract.metrics.registry import AUC, CALIBRATION, GAUC, LOG_LOSS, NORMALIZED_ENTROPY, REGRET
from nightjar.features.contract.outputs import INDEX, METRICS, PAGES, REPORTS, VALIDATE, metrics_file, night_page
from nightjar.features.contract.publishing import is_published, read_manifest
from nightjar.features.contract.records import NightVerdict
from nightjar.features.input.days import listed
from nightjar.features.input.timestamped import GetSpark
from nightjar.jobs.common.cli import EXIT_NOTHING_TO_DO, EXIT_REJECTED, EXIT_SUPERSEDED
from nightjar.jobs.nightly.chain import carry_out, records, why
from nightjar.jobs.nightly.lease import lease, lock_of
from nightjar.jobs.nightly.night import Night
from nightjar.jobs.nightly.steps import notify, steps_of
from nightjar.jobs.nightly.telemetry import JobRun, page_metrics, structured_log
from nightjar.serving import registry
from nightjar.serving.evaluation.comparison import Evaluation
from nightjar.serving.evaluation.evaluation import read_evaluation
from nightjar.serving.reports import night_report

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class NightlyRequest:
    """What the command line asks for. only: names of steps."""

    nights: tuple[Night, ...]
    only: tuple[str, ...]
    plan: bool


@dataclass
class Problems:
    """What is wrong with nights of a range, told together: each problem once, with the nights that have it."""

    _days: dict[str, list[str]] = field(default_factory=dict)
    _first: NightjarError | None = None

    @property
    def found(self) -> bool:
        """Whether there are any."""
        return self._first is not None

    @contextmanager
    def of(self, night: Night, kind: type[NightjarError] = NightjarError) -> Iterator[None]:
        """Keep an error of this kind for people that ends the block, unless it is of another run's."""
        try:
            yield
        except LockedError:
            raise
        except kind as error:
            self._first = self._first or error
            day = night.date.isoformat()
            self._days.setdefault(str(error).removeprefix(f"night {day}: "), []).append(day)

    def refuse(self) -> None:
        """Raises the one error that was kept, or one of its kind that tells all of them."""
        if self._first is None:
            return
        if sum(map(len, self._days.values())) > 1:
            raise type(self._first)("\n".join(f"night {listed(days)}: {text}" for text, days in self._days.items()))
        raise self._first


def run_nights(request: NightlyRequest, spark: GetSpark) -> int:
    """Run the nights in order; print where their models and reports are, and how good they are. The exit status."""
    run = JobRun(output=request.nights[0].output)
    console = Console(soft_wrap=True)
    console.width = max(console.width, 110)  # room for the table where there is no terminal
    request = replace(request, nights=nights_with_log(request.nights))
    problems = Problems()
    for night in request.nights:
        with problems.of(night), _told(night, run):
            night.check()
    problems.refuse()
    if request.plan:
        _print_plan(console, request, run)
        return 0
    first = request.nights[0]
    lock, stale_seconds = lock_of(first.promotion.models), first.config.nightly.lease_minutes * 60
    after = registry.last_token(first.promotion.models)
    worked, only = False, request.only
    looks = only == (VALIDATE,)
    nights: list[Night] = []
    with ExitStack() as stack:
        held = stack.enter_context(lease(lock, run.id, stale_seconds=stale_seconds, after=after))
        run.token = held.number
        stack.enter_context(structured_log(first.output, run))
        pages: list[str] = []
        # However the run ends, so that a night that the validation stopped has its page, too.
        stack.callback(draw_pages, first.output, pages)
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
            # Validations need nothing of each other: once one has failed, what is wrong with the others is told, too.
            with problems.of(night, ValidationFailed if not looks else NightjarError), _told(night, run):
                following = next(iter(request.nights[number:]), None) if VALIDATE in only else None
                worked |= carry_out(steps_of(night, run, following, own_first=looks), only, spark, run, held.check)
            if problems.found:
                looks, only = True, (VALIDATE,)
                continue
            steps = ", ".join(f"{step} {seconds:.0f}" for step, seconds in run.seconds.items())
            console.print(f"night {night.date} done in {time.perf_counter() - began:.0f} s: {steps}")
    problems.refuse()
    verdicts = _report(console, nights)
    if not worked:
        console.print("nothing to do: everything is published already")
    return exit_status(verdicts, worked=worked)


def exit_status(verdicts: Collection[NightVerdict], *, worked: bool) -> int:
    """That of a run: what became of its nights' models; worked: something was left to do."""
    for verdict, status in (("rejected", EXIT_REJECTED), ("superseded", EXIT_SUPERSEDED)):
        if verdict in verdicts:
            return status
    return 0 if worked else EXIT_NOTHING_TO_DO


def nights_with_log(nights: tuple[Night, ...]) -> tuple[Night, ...]:
    """Of a range, where days without a log are skipped, the nights whose own day has one."""
    if len(nights) == 1 or nights[0].config.nightly.missing_days == "fail":
        return nights
    logged = tuple(night for night in nights if night.is_logged)
    for night in nights:
        if night not in logged:
            log.warning("night %s is skipped: there is no log of its day", night.date)
    if not logged:
        raise DataError(f"there is no log of any night from {nights[0].date} to {nights[-1].date}. Write one.")
    return logged


def draw_pages(output: str, dates: Sequence[str]) -> None:
    """Draw the pages of some nights. What cannot be drawn is a warning: a night does not depend on its page."""
    if not dates:
        return
    try:
        problems = night_report.draw(output, dates).problems
    except Exception as error:
        log.debug("the pages", exc_info=True)
        problems = (f"no page could be drawn: {type(error).__name__}: {error}",)
    for problem in problems:
        log.warning("pages: %s", problem)
    try:
        url = storage.join(output, METRICS, metrics_file(PAGES))
        storage.write_bytes(url, page_metrics(len(problems), time.time()).encode())
    except Exception as error:  # such as a full disk
        log.warning("the pages' metrics could not be written: %s", error)


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


def _print_plan(console: Console, request: NightlyRequest, run: JobRun) -> None:
    known = records(request.nights[0].output)
    undecided: Night | None = None
    for night in request.nights:
        over, made_from = is_published(night.record), night.made_from
        console.print(f"{night.date}  {'start':9}         {night.start.record}")
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


def _report(console: Console, nights: Sequence[Night]) -> set[NightVerdict]:
    """Print what the nights that are over found; their verdicts."""
    over = {night: read_manifest(night.record, NightManifest) for night in nights if is_published(night.record)}
    evaluations = {}
    for night in over:
        try:
            if is_published(night.evaluation):
                evaluations[night] = read_evaluation(night.evaluation)
        except DataError as error:  # the night is over all the same
            log.warning("%s", error)
    if evaluations:
        console.print(table(evaluations, {night: record.verdict for night, record in over.items()}))
    reports = storage.join(nights[-1].output, REPORTS)
    for night in over:
        console.print(f"{night.date}  {night.start.record}")
        console.print(f"{night.date}  model   {night.artifact(night.config.training.model)}")
        console.print(f"{night.date}  page    {storage.join(reports, night_page(night.date.isoformat()))}")
    console.print(f"every night: {storage.join(reports, INDEX)}")
    console.print(f"champion: {nights[-1].promotion.champion}")
    return {record.verdict for record in over.values()}


def table(evaluations: Mapping[Night, Evaluation], verdicts: Mapping[Night, str]) -> Table:
    """Every night's models, the model first and its baselines below; regret is log loss above the known floor."""
    metrics = (LOG_LOSS, REGRET, NORMALIZED_ENTROPY, AUC, GAUC, CALIBRATION)
    columns = ("night", "model", "start", "verdict", *(metric.label for metric in metrics))
    result = Table(*columns, title="on the night's own day, which no model was trained on")
    for night, evaluation in evaluations.items():
        for name, model in evaluation.models.items():
            start = night.start.record.how if name == night.config.training.model else ""
            verdict = verdicts[night] if start else "baseline"
            cells = (metric.text(getattr(model.metrics, metric.name)) for metric in metrics)
            result.add_row(str(night.date), name, start, verdict, *cells)
        result.add_section()
    return result
