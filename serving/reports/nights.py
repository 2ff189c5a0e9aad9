"""What is published of every night, gathered for its report. What is absent or was pruned is None or empty.

So is what is damaged: an old night must not cost a new one its pages. It is told in `unreadable`.

A directory is published, a model is accepted: by the gate, whose verdict of it is called `published` on disk.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import date
from typing import TypeVar

from nightjar.features.contract import storage
from nightjar.features.contract.artifact_files import CHAMPION, DECISION, DRY_RUN, LEDGER, WARM_START, training_log
from nightjar.features.contract.manifests import (
    CountersManifest,
    DecisionManifest,
    NightManifest,
    ValidationManifest,
)
from nightjar.features.contract.outputs import (
    ENCODE,
    EVALUATE,
    FINISH,
    GATE,
    METRICS,
    MODELS,
    NIGHTS,
    RENEW,
    SUMMARIES,
    SUMMARIZE,
    TRAIN,
    VALIDATE,
    VALIDATIONS,
    DatasetName,
    judged_of,
    log_input,
    names_of_day,
    seconds_file,
)
from nightjar.features.contract.publishing import MANIFEST, is_published, read_manifest
from nightjar.features.contract.records import (
    Ledger,
    NightStart,
    SlotCoverage,
    StepSeconds,
    ValidationRecord,
    WarmStartReport,
    read_records,
)
from nightjar.features.contract.strict import Strict
from nightjar.features.contract.summary import SummaryManifest
from nightjar.serving import registry
from nightjar.serving.evaluation.comparison import Evaluation, ModelEvaluation
from nightjar.serving.evaluation.evaluation import read_evaluation
from nightjar.serving.gate.decision import Decision
from nightjar.serving.packing.dry_run import DryRun

log = logging.getLogger(__name__)

S = TypeVar("S", bound=Strict)
R = TypeVar("R", NightManifest, ValidationManifest)


@dataclass(frozen=True)
class CurvePoint:
    """A log loss at a step of training. kind: progress (rows not learned from yet) or validation (held-out rows)."""

    kind: str
    step: int
    value: float | None


@dataclass(frozen=True)
class NightFindings:
    """One night. record: None if the validation ended it. summary, holdout: directories of its day's features and of
    its day encoded. against: the champion that the model was judged by, and champion its version. finish: what came of
    learning the judged day; counters: those that the next day is served with. seconds: by step. unreadable: what is
    damaged.
    """

    date: str
    record: NightManifest | None = None
    is_champion: bool = False
    validation: ValidationManifest | None = None
    summary: str | None = None
    holdout: str | None = None
    evaluation: Evaluation | None = None
    decision: Decision | None = None
    against: ModelEvaluation | None = None
    champion: str | None = None
    finish: Decision | None = None
    counters: CountersManifest | None = None
    dry_run: DryRun | None = None
    curves: tuple[CurvePoint, ...] = ()
    parent: str | None = None
    carried: tuple[SlotCoverage, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    ledger: Ledger | None = None
    unreadable: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        """`published`, `rejected`, `superseded`, or `stopped` by the validation."""
        return self.record.verdict if self.record else "stopped"

    @property
    def outcome(self) -> str:
        """The verdict for people: a model that was rejected in doubt is `inconclusive`."""
        return "inconclusive" if self.decision and self.decision.outcome == "inconclusive" else self.verdict

    @property
    def accumulated(self) -> float | None:
        """What serving has lost against the reference until this night, in nats."""
        found = self.decision and self.decision.accumulated
        return found.total if found else None

    @property
    def start(self) -> NightStart | None:
        """What its model began with."""
        return self.record.start if self.record else None

    @property
    def accepted(self) -> bool:
        """True if its model was made champion."""
        return self.verdict == "published"

    @property
    def rows(self) -> int | None:
        """Impressions of the night's day."""
        counted = (self.validation and self.validation.rows, self.evaluation and self.evaluation.rows)
        return next((rows for rows in (*counted, self.decision and self.decision.rows) if rows), None)

    def metric(self, name: str) -> float | None:
        """The model's, from the evaluation or, where that was pruned, from the decision."""
        if self.evaluation:
            value: float | None = getattr(next(iter(self.evaluation.models.values())).metrics, name)
            return value
        compared = self.decision.parts[0].figures if self.decision and self.decision.parts else ()
        return next((one.candidate for one in compared if one.metric == name), None)

    @property
    def counters_age(self) -> int | None:
        """How many days before this one the counters were for that the champion served with; 0 is renewed in time."""
        as_of = self.decision and self.decision.counters_as_of.get("champion")
        return (date.fromisoformat(self.date) - date.fromisoformat(as_of)).days if as_of else None

    def counters_mib(self, folder: str) -> float:
        """Size in MiB of the next day's counters: of the tables (FREQUENCY), or of what has changed in them (DELTA)."""
        files = self.counters.files if self.counters else ()
        return sum(entry.bytes for entry in files if entry.path.startswith(f"{folder}/")) / 2**20

    def judged(self, nights: Sequence[NightFindings]) -> NightFindings | None:
        """Of all nights the one that judged the champion which served on this night's day; None if it is not known."""
        version = self.champion and judged_of(self.champion)
        return next((night for night in nights if night.record and night.record.version == version), None)

    @property
    def compared(self) -> Evaluation | None:
        """The night's models and, last, the champion that it was judged by."""
        if self.evaluation is None or self.against is None:
            return self.evaluation
        models = {**self.evaluation.models, "champion before": self.against}
        return self.evaluation.model_copy(update={"models": models})


@dataclass(frozen=True)
class Gathered:
    """Every night of an output, by date; of several records of one date, the last attempt. unreadable: what is damaged
    and belongs to no night that is known.
    """

    nights: tuple[NightFindings, ...]
    unreadable: tuple[str, ...]


@dataclass(frozen=True)
class Damage:
    """What could not be read or drawn, in words."""

    found: list[str] = field(default_factory=list)

    @contextmanager
    def noted(self, what: str) -> Iterator[None]:
        """An error of the block is noted: nothing that a page shows is worth a night."""
        try:
            yield
        except Exception as error:
            log.debug("%s", what, exc_info=True)
            self.found.append(f"{what}: {type(error).__name__}: {' '.join(str(error).split())[:300]}")


def gather(output: str) -> Gathered:
    """What there is of every night. Nothing damaged is an error."""
    damage = Damage()
    champion = None
    with damage.noted("the champion pointer"):
        pointer = registry.champion(storage.join(output, MODELS))
        champion = judged_of(pointer.version) if pointer else None
    records = {m.date: (m, url) for m, url in _latest(storage.join(output, NIGHTS), NightManifest, damage)}
    validations = {m.date: m for m, _ in _latest(storage.join(output, VALIDATIONS), ValidationManifest, damage)}
    stopped = {day for day, found in validations.items() if not found.passed} - records.keys()
    nights = []
    for record, directory in records.values():
        with damage.noted(f"night {record.date}"):
            nights.append(_night(output, record, directory, champion))
    nights += [_stopped(output, validations[day]) for day in stopped]
    return Gathered(tuple(sorted(nights, key=lambda night: night.date)), tuple(damage.found))


def _night(output: str, record: NightManifest, published: str, champion: str | None) -> NightFindings:
    made = {step: [storage.join(output, d) for d in directories] for step, directories in record.directories.items()}
    gate, finish = (next(iter(made.get(step, [])), "") for step in (GATE, FINISH))
    candidate = next(iter(made.get(TRAIN, [])), "")
    damage = Damage()
    ledger = _model(storage.join(published, LEDGER), Ledger, damage)
    warm = _model(storage.join(candidate, WARM_START), WarmStartReport, damage)
    took = _model(storage.join(output, METRICS, seconds_file(record.date)), StepSeconds, damage)
    validation, evaluation, curves = None, None, list[CurvePoint]()
    with damage.noted("the validation"):
        if directory := _first_published(made.get(VALIDATE, [])):
            validation = read_manifest(directory, ValidationManifest)
    with damage.noted("the evaluation"):
        if directory := _first_published(made.get(EVALUATE, [])):
            evaluation = read_evaluation(directory)
    against, counters = None, None
    with damage.noted("what the model was judged against"):
        if is_published(gate):
            against = read_manifest(gate, DecisionManifest).champion
    with damage.noted("the counters"):
        if directory := _first_published(made.get(RENEW, [])):
            counters = read_manifest(directory, CountersManifest)
    with damage.noted("the training's log"):
        curves += _curves(training_log(candidate))
    return NightFindings(
        date=record.date,
        record=record,
        is_champion=record.version == champion,
        validation=validation,
        summary=_first_published(made.get(SUMMARIZE, [])),
        holdout=next((directory for directory in made.get(ENCODE, []) if _is_holdout(directory)), None),
        evaluation=evaluation,
        decision=_model(storage.join(gate, DECISION), Decision, damage),
        against=_model(storage.join(gate, CHAMPION), ModelEvaluation, damage),
        champion=against,
        finish=_model(storage.join(finish, DECISION), Decision, damage),
        counters=counters,
        dry_run=_model(storage.join(gate, DRY_RUN), DryRun, damage),
        curves=tuple(curves),
        parent=warm.parent if warm else None,
        carried=warm.slots if warm else (),
        seconds=took.seconds if took else {},
        ledger=ledger,
        unreadable=tuple(damage.found),
    )


def _latest(folder: str, kind: type[R], damage: Damage) -> Iterator[tuple[R, str]]:
    """Every manifest below a folder with its directory, later attempts after earlier ones."""
    found: list[tuple[R, str]] = []
    for path in storage.list_files(folder, f"/{MANIFEST}"):
        directory = storage.join(folder, path.removesuffix(f"/{MANIFEST}"))
        with damage.noted(storage.join(directory, MANIFEST)):
            found.append((read_manifest(directory, kind), directory))
    yield from sorted(found, key=lambda one: (one[0].attempt, one[1]))


def _stopped(output: str, by: ValidationManifest) -> NightFindings:
    """A night that its validation ended."""
    damage = Damage()
    summary = _summary(output, by, damage)
    return NightFindings(by.date, validation=by, summary=summary, unreadable=tuple(damage.found))


def _summary(output: str, of: ValidationManifest, damage: Damage) -> str | None:
    """The day's, of several the one of the log that was validated."""
    folder, log = storage.join(output, SUMMARIES), log_input(of.date)
    of_day = [storage.join(folder, name) for name in names_of_day(storage.list_folders(folder), of.date)]
    logs: dict[str, str | None] = {}
    for directory in filter(is_published, of_day):
        with damage.noted(directory):
            logs[directory] = read_manifest(directory, SummaryManifest).inputs.get(log)
    return max(logs, key=lambda directory: (logs[directory] == of.inputs.get(log), directory), default=None)


def _is_holdout(directory: str) -> bool:
    dataset = DatasetName.parse(storage.name_of(directory))
    return dataset is not None and dataset.kind == "holdout"


def _first_published(directories: Sequence[str]) -> str | None:
    return next((directory for directory in directories if is_published(directory)), None)


def _model(url: str, model: type[S], damage: Damage) -> S | None:
    with damage.noted(url), suppress(FileNotFoundError, NotADirectoryError):
        return model.model_validate_json(storage.read_bytes(url))
    return None


def _curves(url: str) -> Iterator[CurvePoint]:
    for record in read_records(url):
        loss = record.log_loss if isinstance(record, ValidationRecord) else record.recent_log_loss
        yield CurvePoint(record.kind, record.step, loss)
