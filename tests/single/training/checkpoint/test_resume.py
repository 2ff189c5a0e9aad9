"""A run that was interrupted and goes on, by as many workers or others, ends as the undisturbed one."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import ValidationError

from nightjar.features.contract.manifests import CandidateManifest
from nightjar.features.contract.publishing import read_manifest
from nightjar.training.checkpoint.checkpoint import folder_of, newest_step
from nightjar.training.data.batch import Batch
from nightjar.training.step.step import Learner, Score
from nightjar.training.warm_start import WarmStart
from tests.kits.training.checkpoint_kit import (
    EVERY,
    FILES,
    STEPS,
    assert_differs_by_rounding,
    by,
    files,
    interrupted_after,
    make_job,
)


@pytest.mark.parametrize("world", [1, 2])
@pytest.mark.parametrize("done", [13, STEPS + 3])
def test_resumed_by_as_many_workers_it_publishes_the_same_bytes(
    place: Path, tmp_path: Path, undisturbed: Callable[[int], dict[str, bytes]], world: int, done: int
) -> None:
    job = make_job(place, tmp_path / "out")
    with interrupted_after(done):
        by(world, job)
    assert newest_step(job) == done // EVERY * EVERY
    by(world, job)
    assert files(job.output) == undisturbed(world)


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1), (2, 3)])
def test_resumed_by_another_number_of_workers_it_differs_by_rounding(
    place: Path, tmp_path: Path, undisturbed: Callable[[int], dict[str, bytes]], before: int, after: int
) -> None:
    undisturbed(1)
    job = make_job(place, tmp_path / "out")
    with interrupted_after(17):
        by(before, job)
    by(after, job)
    assert_differs_by_rounding(tmp_path / "out", place / "undisturbed-1")


@pytest.mark.parametrize("done", [7, 22])
def test_a_ramp_is_gone_on_with_by_another_number_of_workers(place: Path, tmp_path: Path, done: int) -> None:
    """The first 100 of 228 rows in batches of 5: 20 steps, 8 more, then 15 of the second epoch."""
    ramp = {"batch_size": 5, "rows": 100}
    alone, parts = (make_job(place, tmp_path / name, batch_ramp=ramp) for name in ("alone", "parts"))
    by(1, alone)
    with interrupted_after(done):
        by(1, parts)
    by(2, parts)
    assert read_manifest(alone.output, CandidateManifest).statistics["steps"] == 20 + 8 + 15
    assert_differs_by_rounding(tmp_path / "parts", tmp_path / "alone")


def test_a_warm_start_and_an_evaluation_have_no_ramp(place: Path) -> None:
    job = make_job(place, "unused", batch_ramp={"batch_size": 5, "rows": 100})
    dataset = job.open()
    assert job.plan(dataset).epoch(0).steps == 28
    assert job.evaluation_plan(dataset).epoch(0).steps == STEPS
    assert replace(job, warm_start=WarmStart("parent", "state", "state")).plan(dataset).epoch(0).steps == STEPS


@pytest.mark.parametrize("batch_size", [3, 17])
def test_a_ramp_goes_up_and_serves_every_lane(place: Path, batch_size: int) -> None:
    with pytest.raises(ValidationError, match=f"batch_ramp.batch_size is {batch_size}"):
        make_job(place, "unused", batch_ramp={"batch_size": batch_size, "rows": 100})


@pytest.mark.parametrize(
    ("wide", "embeddings"),
    [
        ({"precision": "q2.13", "alpha": 0.1}, {"rule": "adam", "placement": "replicated"}),
        ({"rule": "lazy_adam"}, {"rule": "row_adagrad"}),
    ],
)
def test_rules_with_counters_and_replicated_tables_come_back_too(
    place: Path, tmp_path: Path, wide: dict[str, object], embeddings: dict[str, object]
) -> None:
    whole, parts = (make_job(place, tmp_path / name, wide=wide, embeddings=embeddings) for name in ("whole", "parts"))
    by(2, whole)
    with interrupted_after(STEPS + 6):
        by(2, parts)
    by(2, parts)
    assert files(parts.output) == files(whole.output)


def test_a_checkpoint_at_the_end_of_an_epoch_goes_on_with_the_next(
    place: Path, tmp_path: Path, undisturbed: Callable[[int], dict[str, bytes]]
) -> None:
    job = make_job(place, tmp_path / "out", checkpoint={"every_steps": STEPS})
    with interrupted_after(STEPS):
        by(1, job)
    assert newest_step(job) == STEPS
    by(1, job)
    assert files(job.output) == undisturbed(1)


def test_a_resumed_run_goes_on_with_the_rows_that_come_next(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And with no others: an epoch's rows before and after add up to each row once."""
    seen: list[list[int]] = []
    step = Learner.step

    def noting(learner: Learner, batch: Batch) -> Score:
        seen.append([round((float(weight) - 1) * 2**20) for weight in batch.weight_B])
        return step(learner, batch)

    monkeypatch.setattr(Learner, "step", noting)
    job = make_job(place, tmp_path / "out", epochs=1)
    with interrupted_after(10):
        by(1, job)
    before = len(seen)
    by(1, job)
    assert before == 10
    assert sorted(row for rows in seen for row in rows) == list(range(sum(FILES)))


@pytest.mark.parametrize("world", [1, 2])
def test_a_best_state_that_was_found_after_the_checkpoint_is_found_again(
    place: Path, tmp_path: Path, world: int
) -> None:
    """Beside the newest best state, those stay that the checkpoints would go on with."""
    validation, saved = {"every_steps": 1, "publish": "best", "early_stopping": {"patience": 6}}, {"every_steps": 3}
    wide, deep = {"alpha": 0.02}, {"learning_rate": 0.02, "layers": [8]}
    settings: dict[str, object] = {"validation": validation, "checkpoint": saved, "wide": wide, "deep": deep}
    whole, parts = (make_job(place, tmp_path / name, **settings) for name in ("whole", "parts"))
    by(world, whole)
    with interrupted_after(8):
        by(world, parts)
    kept = [int(path.name.rpartition("-")[2]) for path in Path(folder_of(parts)).glob("best-*")]
    assert newest_step(parts) == 6
    assert sorted(kept) == [3, 6, 8]
    by(world, parts)
    assert files(parts.output) == files(whole.output)


def test_metrics_go_on_where_the_checkpoint_was_taken(place: Path, tmp_path: Path) -> None:
    job = make_job(place, tmp_path / "out")
    assert job.metrics
    with interrupted_after(STEPS + 6):
        by(1, job)
    metrics = Path(job.metrics)
    later = json.loads(metrics.read_text().splitlines()[0]) | {"epoch": 1, "step": STEPS + 6}
    metrics.write_text(metrics.read_text() + json.dumps(later) + "\n")
    by(1, job)
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    assert [(line["epoch"], line["step"]) for line in lines] == [(0, STEPS), (1, 2 * STEPS)]
