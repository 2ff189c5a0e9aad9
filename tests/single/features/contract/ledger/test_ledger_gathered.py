"""A night's ledger is gathered from what its steps have published, each figure from its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nightjar.features.contract.errors import DataError
from nightjar.features.contract.manifests import (
    AggregateManifest,
    CandidateManifest,
    DatasetManifest,
    EvaluationManifest,
    FileEntry,
    Manifest,
)
from nightjar.features.contract.publishing import begin, commit
from nightjar.features.contract.records import DayRows, EncodedRows, Ledger, TrainedRows
from nightjar.features.dataset.plan import BuildPlan, BuildSettings, BuiltFeatures
from nightjar.features.input.folders import LogPartition
from nightjar.jobs.common.ledger import ledger_of
from tests.kits.feature_logs import SPEC

DAYS = ("2026-01-01", "2026-01-02", "2026-01-03")


def file_of(path: str, rows: int) -> FileEntry:
    return FileEntry(path=path, bytes=1, sha256="0" * 64, rows=rows)


def dataset(rows: tuple[int, ...], read: int, positives: int) -> DatasetManifest:
    files = [file_of(f"data/part-{n}.parquet", each) for n, each in enumerate(rows)]
    return DatasetManifest(
        spec_fingerprint="s",
        state="0",
        first_date=DAYS[0],
        last_date=DAYS[1],
        rows=sum(rows),
        positives=positives,
        log_rows=read,
        columns=(),
        files=(*files, file_of("golden/raw.parquet", 7)),
    )


def candidate(rows: int, **settings: Any) -> CandidateManifest:
    return CandidateManifest(
        files=(),
        model="m",
        spec_fingerprint="s",
        state="0",
        columns=(),
        settings={"epochs": 3, **settings},
        statistics={"rows": rows},
    )


def aggregate(day: str, rows: int, positives: int, left_out: dict[str, int]) -> AggregateManifest:
    return AggregateManifest(
        files=(), spec_fingerprint="s", date=day, rows=rows, positives=positives, left_out=left_out
    )


PUBLISHED: dict[str, Manifest] = {
    "first": aggregate(DAYS[0], 100, 10, {}),
    "second": aggregate(DAYS[1], 95, 11, {"no label": 5}),
    "judged": aggregate(DAYS[2], 60, 12, {}),
    "train": dataset((40, 30), 195, 21),
    "holdout": dataset((60,), 60, 12),
    "wide": candidate(210),
    "early": candidate(70, validation={"share": 0.1}),
    "finished": candidate(60, epochs=1),
    "evaluation": EvaluationManifest(files=(), first_date=DAYS[2], last_date=DAYS[2], rows=60),
}


def gathered(place: Path, finished: str | None = "finished", judged: int | None = 60, **changed: Manifest) -> Ledger:
    for name, manifest in {**PUBLISHED, **changed}.items():
        begin(str(place / name))
        commit(str(place / name), manifest)
    in_files = (100, 100, None)
    days = tuple(LogPartition(d, "", n, (), f"print of {d}") for d, n in zip(DAYS, in_files, strict=True))
    plan = BuildPlan(
        spec=SPEC,
        output=str(place),
        settings=BuildSettings(),
        history=days[:2],
        train=days[:2],
        fit=days[:2],
        holdout=days[2],
        aggregate_dirs={day: str(place / name) for day, name in zip(DAYS, PUBLISHED, strict=False)},
        rollup_dirs={},
        built=BuiltFeatures("", str(place / "train"), str(place / "holdout")),
    )
    candidates = {name: str(place / name) for name in ("wide", "early")}
    return ledger_of(plan, candidates, str(place / "evaluation"), judged, finished and str(place / finished))


def test_every_figure_is_there(tmp_path: Path) -> None:
    assert gathered(tmp_path) == Ledger(
        days=(
            DayRows(date=DAYS[0], in_files=100, counted=100, positives=10),
            DayRows(date=DAYS[1], in_files=100, counted=95, positives=11, left_out={"no label": 5}),
            DayRows(date=DAYS[2], in_files=None, counted=60, positives=12),
        ),
        train=EncodedRows(directory="train", read=195, kept=70, positives=21, files=(40, 30)),
        holdout=EncodedRows(directory="holdout", read=60, kept=60, positives=12, files=(60,)),
        trained=(
            TrainedRows(model="wide", epochs=3, rows=210, held_out=False),
            TrainedRows(model="early", epochs=3, rows=70, held_out=True),
        ),
        evaluated=60,
        judged=60,
        finished=60,
    )


def test_a_night_that_learns_no_judged_day_and_judges_nothing_has_no_such_rows(tmp_path: Path) -> None:
    ledger = gathered(tmp_path, finished=None, judged=None)
    assert (ledger.finished, ledger.judged) == (None, None)


def test_all_problems_are_told_at_once_before_anything_is_promoted(tmp_path: Path) -> None:
    changed = {"wide": candidate(209), "early": candidate(300), "train": dataset((40, 29), 195, 21)}
    with pytest.raises(DataError) as error:
        gathered(tmp_path, **changed)
    assert str(error.value) == (
        "rows were lost or came in between two steps; nothing was promoted:\n"
        "  wide has trained on 209 rows; 3 epochs of 69 are 207\n"
        "  early has trained on 300 rows; 3 epochs of 69 are 207"
    )
    changed = {"evaluation": EvaluationManifest(files=(), first_date=DAYS[2], last_date=DAYS[2], rows=59)}
    with pytest.raises(DataError, match="60 rows of the day were encoded, 59 evaluated, 60 judged"):
        gathered(tmp_path / "again", **changed)
