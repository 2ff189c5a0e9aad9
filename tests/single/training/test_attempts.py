"""After a loss: how many workers go on, from where, and when a run gives up."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from pydantic import ValidationError

from nightjar.features.contract.errors import DataError
from nightjar.training.config import TrainingConfig
from nightjar.training.run.attempts import carry_out
from nightjar.training.run.launch import LostWorkers, TooFewWorkers, WorkerError


class Runs:
    """Attempts that end as told: each with the global batch of the newest checkpoint by then."""

    def __init__(self, ends: Sequence[tuple[int, Exception | None]]) -> None:
        self.ends, self.workers, self.step, self.done = list(ends), list[int](), 0, False

    def attempt(self, workers: int, seconds: float) -> None:
        self.workers.append(workers)
        self.step, error = self.ends.pop(0)
        if error:
            raise error

    def carry_out(self, **settings: int) -> list[int]:
        carry_out(self.attempt, TrainingConfig(**settings), lambda: self.step, lambda: self.done)
        return self.workers


def lost(left: int) -> LostWorkers:
    return LostWorkers("lost", left)


def test_the_first_restart_has_as_many_workers() -> None:
    assert Runs([(0, lost(3)), (0, None)]).carry_out(workers=4) == [4, 4]


def test_a_second_loss_without_a_checkpoint_leaves_fewer_workers() -> None:
    assert Runs([(0, lost(3)), (0, lost(3)), (0, None)]).carry_out(workers=4) == [4, 4, 3]


def test_losses_with_a_checkpoint_in_between_do_not_add_up() -> None:
    ends = [(10 * i, lost(3)) for i in range(1, 9)]
    assert Runs([*ends, (90, None)]).carry_out(workers=4, max_restarts=1) == [4] * 9


def test_never_fewer_than_min_workers() -> None:
    ends = [(0, lost(1)), (0, lost(1)), (0, lost(1)), (0, None)]
    assert Runs(ends).carry_out(workers=4, min_workers=3) == [4, 4, 3, 3]


def test_what_spark_has_no_place_for_is_not_asked_for_again() -> None:
    assert Runs([(0, TooFewWorkers("late", 2)), (0, None)]).carry_out(workers=4) == [4, 2]


def test_a_run_gives_up_after_max_restarts_without_a_checkpoint() -> None:
    runs = Runs([(7, lost(3))] * 4)
    with pytest.raises(WorkerError, match=r"Given up after 2 restarts .* goes on from global batch 7"):
        runs.carry_out(workers=4, min_workers=4, max_restarts=2)
    assert runs.workers == [4, 4, 4]


@pytest.mark.parametrize("error", [DataError("part-7 is broken"), WorkerError("worker 1 failed: a bug")])
def test_what_would_come_again_is_not_retried(error: Exception) -> None:
    runs = Runs([(5, error)])
    with pytest.raises(type(error), match=str(error)):
        runs.carry_out(workers=4)
    assert runs.workers == [4]


def test_a_loss_after_the_result_stands_is_none() -> None:
    runs = Runs([(5, lost(1))])
    runs.done = True
    assert runs.carry_out(workers=2) == [2]


def test_more_workers_at_least_than_at_most_is_an_error() -> None:
    with pytest.raises(ValidationError, match="min_workers is 3, but workers is only 2"):
        TrainingConfig(workers=2, min_workers=3)


def test_how_a_run_is_carried_out_is_no_part_of_what_it_computes() -> None:
    attempts = {"workers": 8, "min_workers": 2, "max_restarts": 9, "checkpoint": {"every_steps": 5}}
    other = TrainingConfig.model_validate({**attempts, "stall_seconds": 7, "device": "cpu"})
    assert other.settings == TrainingConfig().settings
    assert TrainingConfig(seed=1).settings != TrainingConfig().settings
