"""Whole runs with held-out evaluation: what it reports, what it changes, and what it must leave alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nightjar.features.contract.errors import DataError, UsageError
from nightjar.features.contract.manifests import CandidateManifest
from nightjar.features.contract.publishing import read_manifest
from nightjar.features.contract.records import ProgressRecord, ValidationRecord, read_records
from nightjar.training.checkpoint.snapshot import Snapshot
from nightjar.training.config import TrainingConfig
from nightjar.training.evaluation.validation import HeldOutValidation
from nightjar.training.job import TrainingJob
from nightjar.training.run.collective import Solo
from nightjar.training.step.step import Learner
from nightjar.training.tracking.progress import RankLog
from nightjar.training.tracking.trackers import Trackers
from nightjar.training.trainer import run_job, train
from tests.kits.training.cluster import run_cluster
from tests.kits.training.datasets import SPEC, make_dataset

FILES = (100, 50, 0, 333, 7, 120)
ROWS, STEPS = sum(FILES), 10
SETTINGS: dict[str, Any] = {
    "model": "wide_deep",
    "epochs": 6,
    "batch_size": 64,
    "lanes": 3,
    "wide": {"lambda1": 0.1, "alpha": 0.3},
    "embeddings": {"learning_rate": 0.3, "init_scale": 0.5},
    "deep": {"layers": [8, 4], "learning_rate": 0.1},
}
GROUPED = SPEC.model_copy(update={"group": "user"})


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("validation")
    make_dataset(str(place / "dataset"), FILES, spec=GROUPED)
    make_dataset(str(place / "holdout"), [150, 90], spec=GROUPED, seed=1, golden=25)
    return place


def job(place: Path, output: str, validation: dict[str, Any] | None = None, **settings: Any) -> TrainingJob:
    config = TrainingConfig.model_validate({**SETTINGS, "validation": validation, **settings})
    return TrainingJob.of(config, str(place / "dataset"), str(place / output), str(place / "holdout"))


def files_of(work: TrainingJob) -> dict[str, str]:
    return {entry.path: entry.sha256 for entry in read_manifest(work.output, CandidateManifest).files}


def validations(work: TrainingJob) -> list[ValidationRecord]:
    assert work.metrics
    return [record for record in read_records(work.metrics) if isinstance(record, ValidationRecord)]


def test_validation_that_only_looks_changes_no_byte_of_the_model(place: Path) -> None:
    plain, watched = job(place, "plain", epochs=2), job(place, "watched", {"every_steps": 7}, epochs=2)
    train(plain, Solo())
    statistics = train(watched, Solo())
    assert files_of(watched) == files_of(plain)
    records = validations(watched)
    assert [record.step for record in records] == [7, 14, 20]
    assert all(record.rows == 240 for record in records)
    assert statistics["validation_step"] == 20
    assert statistics["validation_auc"] == records[-1].auc


def test_the_best_state_is_published_and_training_ends_when_it_gets_no_better(place: Path) -> None:
    """The oracle is a run of just as many epochs as the best validation had seen."""
    stopping = {"publish": "best", "early_stopping": {"patience": 2}}
    work = job(place, "stopped", stopping, epochs=30)
    statistics = train(work, Solo())
    records = validations(work)
    losses = [record.log_loss for record in records]
    best = int(np.argmin(losses))
    assert len(losses) == best + 3 < 30
    assert statistics["steps"] == STEPS * len(losses)
    assert statistics["validation_step"] == STEPS * (best + 1)
    assert statistics["validation_log_loss"] == losses[best]
    shorter = job(place, "shorter", epochs=best + 1)
    train(shorter, Solo())
    assert files_of(work) == files_of(shorter)


def test_workers_that_stop_early_in_mid_epoch_all_stop(place: Path) -> None:
    settings = {"every_steps": 4, "metric": "gauc", "min_delta": 0.5, "early_stopping": {"patience": 3}}
    work = job(place, "together", settings, epochs=30)
    found = run_cluster(3, lambda collective: train(work, collective))
    assert [statistics["steps"] for statistics in found] == [16.0] * 3
    assert found[0] == found[1] == found[2]
    assert read_manifest(work.output, CandidateManifest).statistics["rows"] < 2 * ROWS
    alone = job(place, "alone", settings, epochs=30)
    assert train(alone, Solo()) == pytest.approx(found[0], rel=1e-5)
    golden = [np.load(f"{one.output}/scoring/golden_scores.npy") for one in (work, alone)]
    np.testing.assert_allclose(*golden, rtol=1e-4, atol=1e-5)


def test_on_a_plateau_learning_rates_fall_and_what_is_published_starts_at_full_scale(place: Path) -> None:
    """min_delta makes every validation but the first a disappointment."""
    validation = {"min_delta": 1.0, "plateau": {"factor": 0.5, "patience": 1}}
    plain, slowed = job(place, "full_rates"), job(place, "slowed", validation)
    train(plain, Solo())
    train(slowed, Solo())
    scales = [record.learning_rate_scale for record in validations(slowed)]
    assert scales == [1.0, 1.0, 0.5, 0.25, 0.125, 0.0625]
    wide = np.load(f"{slowed.output}/optimizer/wide_ftrl.npy").astype(np.float64)
    ids = np.load(f"{slowed.output}/optimizer/wide_ids.npy")
    expected = -(wide[:, 0] - np.sign(wide[:, 0]) * np.where(ids == 0, 0.0, 0.1)) / ((1.0 + np.sqrt(wide[:, 1])) / 0.3)
    expected[np.abs(wide[:, 0]) <= np.where(ids == 0, 0.0, 0.1)] = 0.0
    published = dict(
        zip(
            np.load(f"{slowed.output}/scoring/wide_ids.npy").tolist(),
            np.load(f"{slowed.output}/scoring/wide_weights.npy").tolist(),
            strict=True,
        )
    )
    found = np.array([published.get(row, 0.0) for row in ids.tolist()])
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    for name in ("embedding_3", "embedding_4"):
        moved = [np.load(f"{work.output}/scoring/{name}.npy") for work in (plain, slowed)]
        assert not np.array_equal(*moved)


def test_a_snapshot_is_the_learner_as_it_was(place: Path) -> None:
    work = job(place, "snapshot")
    learner = Learner(work.config, work.open().layout, Solo())
    rng = np.random.default_rng(0)

    def disturb() -> None:
        for table in learner.tables:
            table.update(np.arange(8), rng.normal(size=(8, table.width)).astype(np.float32))
        for parameter in learner.head.parameters():
            parameter.grad = torch.full_like(parameter, 0.1)
        assert learner.optimizer
        learner.optimizer.step()

    def state() -> list[bytes]:
        arrays = [array for table in learner.tables for array in table.state().values()]
        arrays += [tensor.numpy() for tensor in learner.head.state_dict().values()]
        assert learner.optimizer
        arrays += [learner.optimizer.state[parameter]["sum"].numpy() for parameter in learner.head.parameters()]
        return [array.tobytes() for array in arrays]

    snapshot = Snapshot(work, Solo())
    disturb()
    learner.scale_learning_rates(0.5)
    expected = state()
    snapshot.keep(learner, 7)
    disturb()
    learner.scale_learning_rates(0.5)
    assert state() != expected
    snapshot.restore(learner, 7)
    assert state() == expected
    assert learner.learning_rate_scale == 0.5
    assert learner.optimizer
    assert learner.optimizer.param_groups[0]["lr"] == 0.05


def test_a_damaged_snapshot_is_not_put_back(place: Path) -> None:
    work = job(place, "damaged")
    learner, snapshot = Learner(work.config, work.open().layout, Solo()), Snapshot(work, Solo())
    snapshot.keep(learner, 7)
    [head] = Path(f"{work.output}.checkpoints").glob("best-*/head.pt")
    head.write_bytes(head.read_bytes()[:100])
    with pytest.raises(DataError, match=r"is damaged: \['head.pt'\] differ"):
        snapshot.restore(learner, 7)
    with pytest.raises(DataError, match="is not a published directory"):
        snapshot.restore(learner, 8)


def test_what_a_validation_remembers_goes_through_json(place: Path) -> None:
    work = job(place, "remembered", {"every_steps": 1, "early_stopping": {"patience": 2}, "min_delta": 1.0})
    learner = Learner(work.config, work.open().layout, Solo())

    def begin() -> HeldOutValidation:
        return HeldOutValidation(work, work.plan(work.open()), learner, Solo(), RankLog(Solo()))

    first, second = begin(), begin()
    first.after(1, Trackers())
    first.after(2, Trackers())
    second.go_on(2, json.loads(json.dumps(first.state())))
    assert not second.stopped
    second.after(3, Trackers())
    assert second.stopped
    assert second.finish(3, Trackers())["validation_step"] == 3


@pytest.mark.parametrize("seed", [0, 7])
def test_a_share_is_held_back_in_whole_files_whatever_the_seed(place: Path, seed: int) -> None:
    work = job(place, f"share_{seed}", {"share": 0.25}, seed=seed, epochs=1)
    kept, held = work.open(), work.open_validation()
    assert held
    assert held.grouped
    assert not kept.grouped
    assert sorted([*kept.files, *held.files], key=lambda entry: entry.path) == list(job(place, "all").open().files)
    assert sum(held.rows) >= 0.25 * ROWS
    assert held.files == job(place, "other", {"share": 0.25}, seed=seed + 1).open_validation().files  # type: ignore[union-attr]
    statistics = train(work, Solo())
    assert statistics["rows"] == ROWS - sum(held.rows)
    assert validations(work)[0].rows == sum(held.rows)


def test_few_files_are_trained_on_by_as_many_workers(place: Path) -> None:
    """Few rows fill few files, however many a night asks for, and one more is held back: that ends no night."""
    make_dataset(str(place / "few"), [60, 60], spec=GROUPED)
    works = []
    for workers in (1, 3):
        settings = {**SETTINGS, "lanes": 4, "workers": workers, "min_workers": workers}
        config = TrainingConfig.model_validate({**settings, "validation": {"share": 0.1}})
        works.append(TrainingJob.of(config, str(place / "few"), str(place / f"few_{workers}")))
        run_job(works[-1])
    assert works[1].within_files().config.workers == 1
    assert files_of(works[0]) == files_of(works[1])


def test_rows_to_validate_on_can_be_any_data_set_of_the_same_state(place: Path) -> None:
    make_dataset(str(place / "other"), [30], spec=GROUPED, seed=5)
    work = job(place, "on_other", {"dataset": str(place / "other")}, epochs=1)
    train(work, Solo())
    assert validations(work)[0].rows == 30
    manifest = read_manifest(work.output, CandidateManifest)
    assert "validation" in manifest.inputs
    assert str(place) not in json.dumps(manifest.model_dump(mode="json"))


def test_what_cannot_be_validated_is_said_before_anything_starts(place: Path) -> None:
    alone = TrainingJob(job(place, "x", {}).config, str(place / "dataset"), str(place / "x"))
    with pytest.raises(UsageError, match=r"training\.validation has no rows to evaluate on"):
        alone.open()
    with pytest.raises(UsageError, match=r"share is 0\.9999.* none with rows would be left"):
        job(place, "x", {"share": 0.9999}).open()
    make_dataset(str(place / "ungrouped"), [30, 30])
    with pytest.raises(DataError, match="another feature state"):
        job(place, "x", {"dataset": str(place / "ungrouped")}).open()
    ungrouped = TrainingJob(job(place, "x", {"metric": "gauc", "share": 0.5}).config, str(place / "ungrouped"), "x")
    with pytest.raises(UsageError, match="metric is gauc, but the data set has no groups"):
        ungrouped.open()
    with pytest.raises(ValueError, match="give share or dataset, not both"):
        job(place, "x", {"share": 0.1, "dataset": "d"})


def test_records_are_json_lines_of_the_two_kinds(place: Path) -> None:
    work = job(place, "recorded", {}, epochs=2)
    statistics = train(work, Solo())
    assert work.metrics
    lines = [json.loads(line) for line in Path(work.metrics).read_text().splitlines()]
    assert [(line["kind"], line["step"], line["epoch"]) for line in lines] == [
        ("progress", 10, 0), ("validation", 10, 0), ("progress", 20, 1), ("validation", 20, 1)
    ]  # fmt: skip
    progress, validation = lines[2], lines[3]
    assert set(progress) == set(ProgressRecord.model_fields)
    assert set(validation) == set(ValidationRecord.model_fields)
    assert progress["rows"] == ROWS
    assert progress["log_loss"] == pytest.approx(statistics["last_epoch_log_loss"])
    assert progress["rows_per_second"] > 0
    assert 10**7 < progress["memory_bytes"] < 10**11
    assert progress["learning_rate_scale"] == 1.0
    assert 0 < validation["log_loss"] < 2
    assert 0 <= validation["gauc"] <= 1
