"""Workers that never say anything end a run in bounded time, too: whether they were given a place or not."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from nightjar.training.run import launch
from nightjar.training.run.launch import LostWorkers, TooFewWorkers
from nightjar.training.run.reports import Reports, line_to


@dataclass
class Crew:
    """Processes that live. started: how many were given a place."""

    started: int
    ended: bool = False

    def last_words(self) -> str:
        return "Last words: importing"

    def end(self, reports: Reports, orderly: bool) -> None:
        """There is none."""


def watched(started: int, heard: int) -> launch.WorkerError | None:
    with Reports("127.0.0.1", "127.0.0.1") as reports:
        if not heard:
            return launch._watch(reports, Crew(started), 2, 60, 0.3, 60)
        with line_to(reports.address, 0):
            return launch._watch(reports, Crew(started), 2, 60, 2.0, 60)


@pytest.mark.parametrize(("heard", "left", "who"), [(1, 1, r"\[1\]"), (0, 2, r"\[0, 1\]")])
def test_workers_that_live_and_say_nothing_are_lost(heard: int, left: int, who: str) -> None:
    error = watched(2, heard)
    assert isinstance(error, LostWorkers)
    assert not isinstance(error, TooFewWorkers)
    assert error.left == left
    assert error.args[0].startswith(f"of 2 workers, {who.replace(chr(92), '')} have said nothing within")
    assert "Last words: importing" in str(error)


def test_workers_without_a_place_are_too_few() -> None:
    error = watched(1, 0)
    assert isinstance(error, TooFewWorkers)
    assert error.left == 1
    assert "only 1 of 2 workers have started within 0.3 seconds (training.start_seconds)" in str(error)
