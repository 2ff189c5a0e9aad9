"""A run that was interrupted and goes on, by as many workers or others, ends as the undisturbed one."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import BrokenBarrierError
from types import ModuleType

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from nightjar.features.contract.manifests import CandidateManifest, DatasetManifest
from nightjar.features.contract.publishing import read_manifest
from nightjar.training.checkpoint import checkpoint, saved_state
from nightjar.training.checkpoint.checkpoint import Position, folder_of, newest_step
from nightjar.training.checkpoint.shards import read_shards, write_shards
from nightjar.training.config import TrainingConfig, WideConfig
from nightjar.training.data.batch import Batch
from nightjar.training.data.dataset import Dataset
from nightjar.training.job import TrainingJob
from nightjar.training.run.collective import Collective, Solo
from nightjar.training.step.step import Learner, Score
from nightjar.training.tables import Shard, Table, wide_table
from nightjar.training.trainer import train
from nightjar.training.warm_start import WarmStart
from tests.kits.cluster import run_cluster
from tests.kits.datasets import make_dataset

FILES, BATCH, EPOCHS = (60, 31, 0, 90, 7, 40), 16, 2
STEPS = -(-sum(FILES) // BATCH)
EVERY = 5


class Interrupted(Exception):
    """What a test ends a run with."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("checkpoint")
    make_dataset(str(place / "dataset"), FILES)
    make_dataset(str(place / "holdout"), [10], seed=1, golden=20)
    return place


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def make_job(place: Path, output: Path | str, **settings: object) -> TrainingJob:
    config = TrainingConfig.model_validate(
        {
            "epochs": EPOCHS,
            "batch_size": BATCH,
            "lanes": 4,
            "wide": {"lambda1": 0.05, "alpha": 0.1},
            "embeddings": {"init_scale": 0.5},
            "deep": {"layers": [8, 4]},
            "checkpoint": {"every_steps": EVERY, "every_minutes": None, "keep": 2},
        }
        | settings
    )
    return TrainingJob.of(config, str(place / "dataset"), str(output), str(place / "holdout"))


def by(world: int, job: TrainingJob) -> None:
    if world == 1:
        train(job, Solo())
    else:
        run_cluster(world, lambda collective: train(job, collective))


@contextmanager
def interrupted_after(done: int) -> Iterator[None]:
    """Every worker's run ends once it has learned `done` global batches, and saved them where that was due."""
    real = checkpoint.Checkpoints.save_if_due

    def counting(self: checkpoint.Checkpoints, at: Position) -> None:
        real(self, at)
        if at.done(self._plan) == done:
            raise Interrupted

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint.Checkpoints, "save_if_due", counting)
        with pytest.raises((Interrupted, BrokenBarrierError)):
            yield


def files(directory: str) -> dict[str, bytes]:
    root = Path(directory)
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def undisturbed(place: Path) -> Callable[[int], dict[str, bytes]]:
    """The candidate's files by the number of workers that trained it without an interruption."""
    known: dict[int, dict[str, bytes]] = {}

    def trained(world: int) -> dict[str, bytes]:
        if world not in known:
            torch.set_num_threads(1)
            job = make_job(place, place / f"undisturbed-{world}")
            by(world, job)
            known[world] = files(job.output)
        return known[world]

    return trained


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


def assert_differs_by_rounding(resumed: Path, alone: Path) -> None:
    """Two candidates: their tables, what the head's optimizer remembers, their statistics."""
    names = sorted(path.relative_to(alone) for path in alone.rglob("*.npy"))
    assert len(names) == 9
    for name in names:
        np.testing.assert_allclose(
            np.load(resumed / name), np.load(alone / name), rtol=5e-5, atol=2e-6, err_msg=str(name)
        )
    actual, expected = (np.load(directory / "optimizer/head.npz") for directory in (resumed, alone))
    for name in expected:
        np.testing.assert_allclose(actual[name], expected[name], rtol=5e-5, atol=2e-6)
    statistics = read_manifest(str(resumed), CandidateManifest).statistics
    assert statistics == pytest.approx(read_manifest(str(alone), CandidateManifest).statistics, rel=1e-6)


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


def test_the_newest_checkpoints_are_kept_until_the_candidate_is_published(place: Path, tmp_path: Path) -> None:
    job = make_job(place, tmp_path / "out")
    with interrupted_after(23):
        by(2, job)
    kept = sorted(path.name.rpartition("-")[2] for path in Path(folder_of(job)).iterdir())
    assert kept == ["0000000015", "0000000020"]
    by(2, job)
    assert not Path(folder_of(job)).exists()


def test_a_damaged_checkpoint_is_not_used_but_the_one_before(
    place: Path, tmp_path: Path, undisturbed: Callable[[int], dict[str, bytes]], caplog: pytest.LogCaptureFixture
) -> None:
    job = make_job(place, tmp_path / "out")
    with interrupted_after(12):
        by(1, job)
    [newest] = Path(folder_of(job)).glob("*-0000000010")
    content = bytearray((newest / "shard-00000.zip").read_bytes())
    content[len(content) // 2] ^= 1
    (newest / "shard-00000.zip").write_bytes(content)
    with caplog.at_level(logging.INFO, "training"):
        by(1, job)
    assert "unusable checkpoint removed" in caplog.text
    assert "going on after step 5 of epoch 1" in caplog.text
    assert files(job.output) == undisturbed(1)


def test_an_unfinished_checkpoint_is_not_used(
    place: Path, tmp_path: Path, undisturbed: Callable[[int], dict[str, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(directory: str, manifest: object) -> None:
        raise Interrupted

    job = make_job(place, tmp_path / "out")
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "commit", killed)
        with pytest.raises(Interrupted):
            by(1, job)
    assert len(list(Path(folder_of(job)).glob("*/shard-00000.zip"))) == 1
    assert newest_step(job) == 0
    by(1, job)
    assert files(job.output) == undisturbed(1)


def test_a_checkpoint_of_other_inputs_is_not_used(
    place: Path, tmp_path: Path, undisturbed: Callable[[int], dict[str, bytes]]
) -> None:
    other = make_job(place, tmp_path / "out", seed=5)
    with interrupted_after(11):
        by(1, other)
    job = make_job(place, tmp_path / "out")
    assert (newest_step(other), newest_step(job)) == (10, 0)
    by(1, job)
    assert files(job.output) == undisturbed(1)


def test_a_checkpoint_that_cannot_be_written_does_not_end_the_run(
    place: Path,
    tmp_path: Path,
    undisturbed: Callable[[int], dict[str, bytes]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def full(directory: str, path: str, tables: object) -> None:
        if "00001" in path:
            raise OSError("No space left on device")
        return write_shards(directory, path, tables)  # type: ignore[arg-type, return-value]

    monkeypatch.setattr(saved_state, "write_shards", full)
    job = make_job(place, tmp_path / "out")
    with interrupted_after(7):
        by(2, job)
    assert newest_step(job) == 0
    by(2, job)
    assert "cannot write" in caplog.text
    assert files(job.output) == undisturbed(2)


@pytest.mark.parametrize(("room", "what"), [(saved_state, "begin"), (checkpoint, "commit")])
def test_what_only_the_first_worker_cannot_write_does_not_end_the_run_of_several(
    room: ModuleType,
    what: str,
    place: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It must not leave the others behind."""

    def full(*arguments: object) -> None:
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(room, what, full)
        job = make_job(place, tmp_path / "out")
        with interrupted_after(7):
            by(2, job)
    assert newest_step(job) == 0
    assert "cannot write" in caplog.text


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


def test_workers_agree_on_the_time_for_a_checkpoint(place: Path, tmp_path: Path) -> None:
    job = make_job(place, tmp_path / "out", checkpoint={"every_minutes": 1e-9})
    with interrupted_after(9):
        by(2, job)
    assert newest_step(job) == 9
    patient = make_job(place, tmp_path / "patient", checkpoint={"every_minutes": 60.0})
    with interrupted_after(9):
        by(2, patient)
    assert newest_step(patient) == 0


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


@pytest.mark.parametrize(("before", "after"), [(1, 1), (1, 3), (3, 2), (2, 4), (4, 2)])
def test_shards_come_back_bit_for_bit_in_any_world(tmp_path: Path, before: int, after: int) -> None:
    rows = 600_011
    rng = np.random.default_rng(3)
    whole = np.zeros((rows, 2), dtype=np.float32)
    touched = rng.choice(rows, 500, replace=False)
    whole[touched] = rng.standard_normal((500, 2))
    whole[touched[:3]] = [[-0.0, 0.0], [np.nan, np.inf], [np.float32(1e-45), 0.0]]
    entries = [
        write_shards(str(tmp_path), f"shard-{rank}", {"wide": table_of(whole, rank, before)}) for rank in range(before)
    ]
    assert sum(entry.bytes for entry in entries) < 60_000
    for rank in range(after):
        table = table_of(np.ones_like(whole), rank, after)
        read_shards([str(tmp_path / entry.path) for entry in entries], {"wide": table})
        assert table.state()["ftrl"].tobytes() == whole[rank::after].tobytes()


def table_of(whole: np.ndarray, rank: int, world: int) -> Table:
    table = wide_table(Shard(len(whole), rank, world), WideConfig(), 0)
    table.state()["ftrl"][:] = whole[rank::world]
    return table


def test_a_checkpoint_holds_the_touched_rows_of_the_wide_table_only(place: Path, tmp_path: Path) -> None:
    dataset = Dataset.of(str(place / "dataset"), read_manifest(str(place / "dataset"), DatasetManifest))

    def sizes(collective: Collective) -> tuple[int, int]:
        learner = Learner(make_job(place, "out").config, dataset.layout, collective)
        assert learner.wide
        fresh = write_shards(str(tmp_path), f"fresh-{collective.rank}", {"wide": learner.wide}).bytes
        learner.wide.update(np.arange(20), np.ones((20, 1), dtype=np.float32))
        return fresh, write_shards(str(tmp_path), f"touched-{collective.rank}", {"wide": learner.wide}).bytes

    for fresh, touched in run_cluster(2, sizes):
        assert touched - fresh == 20 * (8 + 4)
