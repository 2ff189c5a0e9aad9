"""What is published of every night, gathered for its report: whatever is absent or was pruned is None or empty."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from pydantic import BaseModel

from nightjar.features.contract import storage
from nightjar.features.contract.artifact_files import CHAMPION, DECISION, DRY_RUN, WARM_START, training_log
from nightjar.features.contract.manifests import Manifest, NightManifest, ValidationManifest
from nightjar.features.contract.outputs import (
    ENCODE,
    EVALUATE,
    GATE,
    METRICS,
    MODELS,
    NIGHTS,
    SUMMARIES,
    SUMMARIZE,
    TRAIN,
    VALIDATE,
    VALIDATIONS,
    DatasetName,
    metrics_file,
    names_of_day,
)
from nightjar.features.contract.publishing import MANIFEST, is_published, read_manifest
from nightjar.features.contract.strict import Strict
from nightjar.serving import registry
from nightjar.serving.evaluation.comparison import Evaluation, ModelEvaluation
from nightjar.serving.evaluation.evaluation import read_evaluation
from nightjar.serving.gate.decision import Decision
from nightjar.serving.packing.dry_run import DryRun

_STEP_SECONDS = re.compile(r'^nightjar_step_seconds\{step="([^"]+)"\} (\S+)$', re.MULTILINE)

S = TypeVar("S", bound=Strict)
M = TypeVar("M", bound=Manifest)


class CarriedSlot(BaseModel):
    """What a warm start carried over of a column's rows in one table, of training's warm_start.json."""

    table: str
    slot: str
    parent_rows: int
    rows: int
    carried: int


@dataclass(frozen=True)
class CurvePoint:
    """A log loss at a step of training. kind: progress (rows not learned from yet) or validation (held-out rows)."""

    kind: str
    step: int
    value: float | None


@dataclass(frozen=True)
class PublishedNight:
    """One night. record: None if the validation ended it. summary, holdout: where the figures of its day's
    features are, and its day encoded; against: the champion that the model was judged by.
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
    dry_run: DryRun | None = None
    curves: tuple[CurvePoint, ...] = ()
    parent: str | None = None
    carried: tuple[CarriedSlot, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        """`published`, `rejected`, or `stopped` by the validation."""
        return self.record.verdict if self.record else "stopped"

    @property
    def start(self) -> str | None:
        """What its model began with, and why: `warm: <parent>` or `cold: <reason>`."""
        return self.record.ingredients.get("start.reason") if self.record else None

    @property
    def published(self) -> bool:
        """True if the gate let the model through."""
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
        figures = self.decision.parts[0].figures if self.decision and self.decision.parts else ()
        return next((figure.candidate for figure in figures if figure.metric == name and name != "calibration"), None)

    @property
    def compared(self) -> Evaluation | None:
        """The night's models and, last, the champion that it was judged by."""
        if self.evaluation is None or self.against is None:
            return self.evaluation
        models = {**self.evaluation.models, "champion before": self.against}
        return self.evaluation.model_copy(update={"models": models})


def gather(output: str) -> list[PublishedNight]:
    """Every night of an output, by date; of several records of one date, the one published last."""
    pointer = registry.champion(storage.join(output, MODELS))
    champion = pointer.version if pointer else None
    records = dict(_latest(storage.join(output, NIGHTS), NightManifest))
    validations = dict(_latest(storage.join(output, VALIDATIONS), ValidationManifest))
    stopped = {day for day, found in validations.items() if not found.passed} - records.keys()
    nights = [_night(output, record, champion) for record in records.values()]
    nights += [PublishedNight(day, validation=validations[day], summary=_summary(output, day)) for day in stopped]
    return sorted(nights, key=lambda night: night.date)


def _night(output: str, record: NightManifest, champion: str | None) -> PublishedNight:
    made = {step: [storage.join(output, d) for d in directories] for step, directories in record.directories.items()}
    gate = next(iter(made.get(GATE, [])), "")
    candidate = next(iter(made.get(TRAIN, [])), "")
    evaluation = _published(made.get(EVALUATE, []))
    validation = _published(made.get(VALIDATE, []))
    warm = _json(storage.join(candidate, WARM_START))
    return PublishedNight(
        date=record.date,
        record=record,
        is_champion=record.version == champion,
        validation=read_manifest(validation, ValidationManifest) if validation else None,
        summary=_published(made.get(SUMMARIZE, [])),
        holdout=next((directory for directory in made.get(ENCODE, []) if _is_holdout(directory)), None),
        evaluation=read_evaluation(evaluation) if evaluation else None,
        decision=_model(storage.join(gate, DECISION), Decision),
        against=_model(storage.join(gate, CHAMPION), ModelEvaluation),
        dry_run=_model(storage.join(gate, DRY_RUN), DryRun),
        curves=tuple(_curves(training_log(candidate))),
        parent=warm.get("parent"),
        carried=tuple(CarriedSlot.model_validate(slot) for slot in warm.get("slots", [])),
        seconds=_seconds(storage.join(output, METRICS, metrics_file(record.date))),
    )


def _latest(folder: str, kind: type[M]) -> Iterator[tuple[str, M]]:
    """Every manifest below a folder by its date, those published later after those before."""
    urls = [storage.join(folder, name) for name in storage.list_files(folder, f"/{MANIFEST}")]
    for url in sorted(urls, key=lambda url: (storage.modified(url), url)):
        manifest = read_manifest(url.removesuffix(f"/{MANIFEST}"), kind)
        yield getattr(manifest, "date"), manifest  # noqa: B009 (both kinds have one; Manifest has none)


def _summary(output: str, day: str) -> str | None:
    """The day's, of several the one published last."""
    folder = storage.join(output, SUMMARIES)
    of_day = [storage.join(folder, name) for name in names_of_day(storage.list_folders(folder), day)]
    found = [directory for directory in of_day if is_published(directory)]
    return max(found, key=lambda d: (storage.modified(storage.join(d, MANIFEST)), d), default=None)


def _is_holdout(directory: str) -> bool:
    dataset = DatasetName.parse(storage.name_of(directory))
    return dataset is not None and dataset.kind == "holdout"


def _published(directories: Sequence[str]) -> str | None:
    return next((directory for directory in directories if is_published(directory)), None)


def _read(url: str) -> str | None:
    try:
        return storage.read_bytes(url).decode()
    except (FileNotFoundError, NotADirectoryError):
        return None


def _model(url: str, model: type[S]) -> S | None:
    text = _read(url)
    return model.model_validate_json(text) if text else None


def _json(url: str) -> dict:
    text = _read(url)
    return json.loads(text) if text else {}


def _curves(url: str) -> Iterator[CurvePoint]:
    for line in (_read(url) or "").splitlines():
        record = json.loads(line)
        name = "log_loss" if record["kind"] == "validation" else "recent_log_loss"
        yield CurvePoint(record["kind"], record["step"], record[name])


def _seconds(url: str) -> dict[str, float]:
    return {step: float(value) for step, value in _STEP_SECONDS.findall(_read(url) or "")}
