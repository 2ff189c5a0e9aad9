"""Waiting in line: bounded in number and in time, and taken together when there is a line."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence

import pytest

from nightjar.serving.server.lanes import SMALL_BYTES, TOGETHER, Lane, Task
from nightjar.serving.server.settings import Refused

SECONDS = 60.0


class Work:
    """Answers a body with itself once it may; says which bodies it was given together."""

    def __init__(self) -> None:
        self.may, self.began = threading.Event(), threading.Event()
        self.batches: list[list[bytes]] = []

    def __call__(self, tasks: Sequence[Task[bytes]]) -> list[bytes | Exception]:
        self.batches.append([task.body for task in tasks])
        self.began.set()
        assert self.may.wait(SECONDS)
        if any(task.body == b"bug" for task in tasks):
            raise KeyError("a bug")
        return [task.body for task in tasks]


def run(work: Work, use: Callable[[Lane[bytes]], Coroutine[None, None, None]], waiting: int = 100) -> None:
    """Use a lane of one thread in an event loop."""
    lane = Lane("test", work, workers=1, waiting=waiting)
    try:
        asyncio.run(use(lane))
    finally:
        work.may.set()
        lane.close(SECONDS)


async def until_busy(work: Work, lane: Lane[bytes]) -> asyncio.Task[bytes]:
    first = asyncio.create_task(lane.answer("/score", b"first", SECONDS))
    assert await asyncio.to_thread(work.began.wait, SECONDS)
    return first


def test_an_idle_lane_works_at_once_and_a_busy_one_takes_the_small_ones_together() -> None:
    work, large = Work(), b"x" * (SMALL_BYTES + 1)

    async def use(lane: Lane[bytes]) -> None:
        first = await until_busy(work, lane)
        bodies = [b"a", b"b", large, b"c", b"d"]
        others = [asyncio.create_task(lane.answer("/score", body, SECONDS)) for body in bodies]
        await asyncio.sleep(0)
        work.may.set()
        assert await asyncio.gather(first, *others) == [b"first", *bodies]

    run(work, use)
    assert work.batches == [[b"first"], [b"a", b"b"], [large], [b"c", b"d"]]


def test_no_more_than_so_many_are_taken_together() -> None:
    work = Work()

    async def use(lane: Lane[bytes]) -> None:
        first = await until_busy(work, lane)
        others = [asyncio.create_task(lane.answer("/score", b"a", SECONDS)) for _ in range(TOGETHER + 5)]
        await asyncio.sleep(0)
        work.may.set()
        await asyncio.gather(first, *others)

    run(work, use)
    assert [len(batch) for batch in work.batches] == [1, TOGETHER, 5]


def test_a_full_line_refuses_and_says_when_to_come_again() -> None:
    work = Work()

    async def use(lane: Lane[bytes]) -> None:
        first = await until_busy(work, lane)
        others = [asyncio.create_task(lane.answer("/score", b"a", SECONDS)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(Refused, match="2 requests wait, and no more may") as refused:
            await lane.answer("/score", b"b", SECONDS)
        assert (refused.value.status, refused.value.again) == (503, 1)
        work.may.set()
        await asyncio.gather(first, *others)

    run(work, use, waiting=2)


def test_what_is_late_is_refused_and_not_worked_on() -> None:
    work = Work()

    async def use(lane: Lane[bytes]) -> None:
        first = await until_busy(work, lane)
        with pytest.raises(Refused, match="takes longer than the server allows") as refused:
            await lane.answer("/score", b"late", 0.01)
        assert refused.value.status == 504
        last = asyncio.create_task(lane.answer("/score", b"last", SECONDS))
        await asyncio.sleep(0)
        work.may.set()
        assert await asyncio.gather(first, last) == [b"first", b"last"]

    run(work, use)
    assert work.batches == [[b"first"], [b"last"]]


def test_a_bug_ends_its_own_request_and_not_the_thread() -> None:
    work = Work()

    async def use(lane: Lane[bytes]) -> None:
        first = await until_busy(work, lane)
        others = [asyncio.create_task(lane.answer("/score", body, SECONDS)) for body in (b"a", b"bug", b"c")]
        await asyncio.sleep(0)
        work.may.set()
        found = await asyncio.gather(first, *others, return_exceptions=True)
        assert isinstance(found.pop(2), KeyError)
        assert found == [b"first", b"a", b"c"]
        assert lane.alive

    run(work, use)
    assert work.batches[1:] == [[b"a", b"bug", b"c"], [b"a"], [b"bug"], [b"c"]]


def test_a_closed_lane_answers_what_waits_and_takes_no_more() -> None:
    work = Work()

    async def use(lane: Lane[bytes]) -> None:
        first = await until_busy(work, lane)
        second = asyncio.create_task(lane.answer("/score", b"second", SECONDS))
        await asyncio.sleep(0)
        closing = asyncio.create_task(asyncio.to_thread(lane.close, SECONDS))
        work.may.set()
        assert await asyncio.gather(first, second) == [b"first", b"second"]
        await closing
        with pytest.raises(Refused):
            await lane.answer("/score", b"third", SECONDS)

    run(work, use)
