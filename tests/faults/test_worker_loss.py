"""Real workers are killed and stopped at the worst of moments: the run ends as if nothing had been."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psutil
import pytest

from nightjar.training import trainer
from nightjar.training.checkpoint.checkpoint import folder_of
from nightjar.training.config import TrainingConfig
from nightjar.training.job import TrainingJob
from nightjar.training.run.launch import Launcher
from nightjar.training.trainer import run_job
from tests.faults.scenarios import Fault, Moment, train_with_faults
from tests.kits.training.datasets import make_dataset

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

FILES, BATCH = (100, 50, 0, 333, 7, 120), 10
STEPS = 2 * -(-sum(FILES) // BATCH)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("faults")
    make_dataset(str(place / "dataset"), FILES)
    return place


def make_job(place: Path, output: Path, **settings: object) -> TrainingJob:
    config = {
        "epochs": 2,
        "batch_size": BATCH,
        "lanes": 4,
        "embeddings": {"init_scale": 0.5},
        "deep": {"layers": [8, 4]},
        "workers": 2,
        "min_workers": 2,
        "threads_per_worker": 1,
        "max_restarts": 10,
        "timeout_seconds": 400,
        "checkpoint": {"every_steps": 7, "every_minutes": None},
    }
    return TrainingJob.of(TrainingConfig.model_validate(config | settings), str(place / "dataset"), str(output))


def run_with(job: TrainingJob, folder: Path, faults: Sequence[Fault], launcher: Launcher = "local") -> list[int]:
    """Carry the job out under these faults, all of which must happen. Returns the process ids of those struck."""
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "train", partial(train_with_faults, faults, str(folder)))
        run_job(job, launcher)
    marks = sorted(folder.iterdir(), key=lambda mark: int(mark.name))
    assert [int(mark.name) for mark in marks] == list(range(len(faults)))
    assert not Path(folder_of(job)).exists()
    return [int(mark.read_text()) for mark in marks]


def files(directory: str) -> dict[str, bytes]:
    root = Path(directory)
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def undisturbed(place: Path) -> dict[str, bytes]:
    job = make_job(place, place / "undisturbed")
    run_job(job)
    return files(job.output)


def test_killed_ten_times_at_random_it_publishes_the_same_bytes(
    place: Path, tmp_path: Path, undisturbed: dict[str, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    rng = np.random.default_rng(20)
    faults = [Fault(int(rng.integers(2)), int(rng.integers(1, STEPS - 40)), later=rng.random() / 50) for _ in range(5)]
    faults += [Fault(int(rng.integers(2)), int(rng.integers(1, STEPS - 7)), "shard") for _ in range(2)]
    faults += [Fault(0, int(rng.integers(1, STEPS - 7)), "commit") for _ in range(2)]
    faults += [Fault(0, 0, "publish")]
    job = make_job(place, tmp_path / "out")
    pids = run_with(job, tmp_path / "marks", faults)
    assert files(job.output) == undisturbed
    assert len(re.findall(r"going on from global batch \d+ with 2 workers", caplog.text)) == 10
    assert not any(psutil.pid_exists(pid) for pid in pids)


def test_a_hung_worker_is_ended_and_when_lost_again_the_rest_goes_on(
    place: Path, tmp_path: Path, undisturbed: dict[str, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    """Both losses come before the first checkpoint, so that one worker, who has no peer, does the rest alone."""
    job = make_job(place, tmp_path / "out", min_workers=1, stall_seconds=15)
    with caplog.at_level(logging.INFO):
        pids = run_with(job, tmp_path / "marks", [Fault(1, 3, how="stop"), Fault(0, 5)])
    assert not any(psutil.pid_exists(pid) for pid in pids)
    assert "of 2 workers, [1] ended without a report" in caplog.text
    assert re.findall(r"going on from global batch (\d+) with (\d) worker", caplog.text) == [("0", "2"), ("0", "1")]
    for name in ("scoring/embedding_3.npy", "scoring/embedding_4.npy", "optimizer/wide_ftrl.npy"):
        np.testing.assert_allclose(
            np.load(Path(job.output) / name), np.load(place / "undisturbed" / name), rtol=5e-5, atol=2e-6
        )


@pytest.mark.parametrize("moment", ["learn", "publish"])
def test_a_worker_that_lives_and_does_nothing_is_ended_with_everyones_stacks(
    place: Path, tmp_path: Path, undisturbed: dict[str, bytes], caplog: pytest.LogCaptureFixture, moment: Moment
) -> None:
    """Its heart beats; the other one waits for it in an operation."""
    job = make_job(place, tmp_path / "out", stall_seconds=15)
    pids = run_with(job, tmp_path / "marks", [Fault(0, 40, moment, how="hang")])
    assert not any(psutil.pid_exists(pid) for pid in pids)
    assert files(job.output) == undisturbed
    assert "2 workers have got nothing done for 15 seconds (training.stall_seconds)" in caplog.text
    assert re.search(r"Worker 0 is at:\nthread MainThread(.|\n)*in lose\n +threading.Event\(\).wait\(\)", caplog.text)
    assert re.search(r"Worker 1 is at:\nthread MainThread(.|\n)*in synchronize|in barrier", caplog.text)
    assert re.findall(r"going on from global batch \d+ with (\d) workers", caplog.text) == ["2"]


def test_a_single_worker_that_does_nothing_goes_on_from_its_checkpoint(
    place: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It runs in this process, which has no launcher to look after it."""
    alone = make_job(place, tmp_path / "undisturbed", workers=1, min_workers=1)
    run_job(alone)
    job = make_job(place, tmp_path / "out", workers=1, min_workers=1, stall_seconds=10)
    run_with(job, tmp_path / "marks", [Fault(0, 40, how="hang")])
    assert files(job.output) == files(alone.output)
    assert "the only worker has got nothing done for 10 seconds" in caplog.text
    assert "threading.Event().wait()" in caplog.text
    assert re.findall(r"going on from global batch (\d+)", caplog.text) == ["35"]


# Horovod's thread that waits for the Spark job dies of the job's end with a traceback; nothing can catch it.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_lost_and_hung_workers_and_lost_tasks_of_spark_are_made_up_for(
    place: Path, tmp_path: Path, undisturbed: dict[str, bytes], spark: SparkSession
) -> None:
    job = make_job(place, tmp_path / "out", stall_seconds=15)
    faults = [Fault(1, 10), Fault(1, 30, how="stop"), Fault(1, 40, how="hang"), Fault(0, 50, how="kill_task")]
    pids = run_with(job, tmp_path / "marks", faults, "spark")
    assert not any(psutil.pid_exists(pid) for pid in pids)
    assert files(job.output) == undisturbed
