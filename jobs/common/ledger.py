"""A night's rows from step to step, gathered from what the steps have published (features.contract.records.Ledger)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nightjar.features.contract import storage
from nightjar.features.contract.errors import DataError
from nightjar.features.contract.manifests import (
    AggregateManifest,
    CandidateManifest,
    DatasetManifest,
    EvaluationManifest,
)
from nightjar.features.contract.publishing import read_manifest
from nightjar.features.contract.records import DayRows, EncodedRows, Ledger, TrainedRows
from nightjar.features.dataset.plan import BuildPlan
from nightjar.features.input.folders import LogPartition


def ledger_of(
    plan: BuildPlan, candidates: Mapping[str, str], evaluation: str, judged: int | None, finished: str | None = None
) -> Ledger:
    """Of a night whose steps are published. Raises DataError that lists every step with other rows than the one before.

    Args:
        plan: the days, and the data sets made of them.
        candidates: directories by model.
        evaluation: its directory.
        judged: rows that the gate has judged; None if it looked at none.
        finished: directory of the candidate that has learned the judged day; None if there is none.
    """
    days = [*plan.train, *([plan.holdout] if plan.holdout else [])]
    ledger = Ledger(
        days=tuple(_day(day, plan.aggregate_dirs[day.date]) for day in days),
        train=_encoded(plan.built.train_dir),
        holdout=_encoded(str(plan.built.holdout_dir)),
        trained=tuple(_trained(model, directory) for model, directory in candidates.items()),
        evaluated=read_manifest(evaluation, EvaluationManifest).rows,
        judged=judged,
        finished=_trained("finish", finished).rows if finished else None,
    )
    if problems := ledger.problems():
        raise DataError("rows were lost or came in between two steps; nothing was promoted:" + _lines(problems))
    return ledger


def _day(day: LogPartition, aggregate: str) -> DayRows:
    counted = read_manifest(aggregate, AggregateManifest)
    return DayRows(
        date=day.date,
        in_files=day.counted,
        counted=counted.rows,
        positives=counted.positives,
        left_out=counted.left_out,
    )


def _encoded(directory: str) -> EncodedRows:
    manifest = read_manifest(directory, DatasetManifest)
    return EncodedRows(
        directory=storage.name_of(directory),
        read=manifest.log_rows,
        kept=manifest.rows,
        positives=manifest.positives,
        files=tuple(entry.rows or 0 for entry in manifest.data_files),
    )


def _trained(model: str, directory: str) -> TrainedRows:
    manifest = read_manifest(directory, CandidateManifest)
    return TrainedRows(
        model=model,
        epochs=int(manifest.settings["epochs"]),
        rows=int(manifest.statistics["rows"]),
        held_out=manifest.settings.get("validation") is not None,
    )


def _lines(problems: Sequence[str]) -> str:
    return "".join(f"\n  {problem}" for problem in problems)
