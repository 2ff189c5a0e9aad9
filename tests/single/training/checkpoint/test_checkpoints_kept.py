"""Which checkpoints are kept and used, and what a full disk costs."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from nightjar.training.checkpoint import checkpoint, saved_state
from nightjar.training.checkpoint.checkpoint import folder_of, newest_step
from nightjar.training.checkpoint.shards import write_shards
from tests.kits.training.checkpoint_kit import Interrupted, by, files, interrupted_after, make_job


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


def test_workers_agree_on_the_time_for_a_checkpoint(place: Path, tmp_path: Path) -> None:
    job = make_job(place, tmp_path / "out", checkpoint={"every_minutes": 1e-9})
    with interrupted_after(9):
        by(2, job)
    assert newest_step(job) == 9
    patient = make_job(place, tmp_path / "patient", checkpoint={"every_minutes": 60.0})
    with interrupted_after(9):
        by(2, patient)
    assert newest_step(patient) == 0
