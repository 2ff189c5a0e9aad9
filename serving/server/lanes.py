"""Threads that work off requests, several small ones at a time; the event loop waits for them.

Nothing waits for others to come: a request that finds a thread idle is worked on at once, and those that come meanwhile
are taken together when it is done. So a request waits for the work before it at most, and load makes batches.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from nightjar.serving.server.settings import Refused

log = logging.getLogger(__name__)

SMALL_BYTES = 8 * 1024
TOGETHER = 64
"""Bodies of up to so many bytes are taken together, so many at most."""

T = TypeVar("T")


@dataclass
class Task(Generic[T]):
    """A request that waits. given_up: nobody waits for its answer any more."""

    route: str
    body: bytes
    done: asyncio.Future[T]
    given_up: bool = field(default=False)


class Lane(Generic[T]):
    """A queue and its threads."""

    def __init__(
        self, name: str, work: Callable[[Sequence[Task[T]]], list[T | Exception]], *, workers: int, waiting: int
    ) -> None:
        """Start the threads.

        Args:
            name: of the threads.
            work: an answer, or an error, for each of some tasks.
            workers: how many threads.
            waiting: how many tasks may wait.
        """
        self._work, self._most = work, waiting
        self._tasks: deque[Task[T]] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._threads = [
            threading.Thread(target=self._run, name=f"{name} {number}", daemon=True) for number in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    def __len__(self) -> int:
        return len(self._tasks)

    @property
    def alive(self) -> bool:
        """Whether every thread is at its work."""
        return all(thread.is_alive() for thread in self._threads)

    async def answer(self, route: str, body: bytes, seconds: float) -> T:
        """The answer of a request, within so many seconds. Raises Refused: 503 if too many wait, 504 if it is late."""
        task: Task[T] = Task(route, body, asyncio.get_running_loop().create_future())
        with self._changed:
            if self._closed or len(self._tasks) >= self._most:
                raise Refused(503, f"{len(self._tasks)} requests wait, and no more may. Send it again later.", again=1)
            self._tasks.append(task)
            self._changed.notify()
        try:
            return await asyncio.wait_for(task.done, seconds)
        except TimeoutError as error:
            raise Refused(
                504, "the answer takes longer than the server allows. Send fewer rows, or again later."
            ) from error
        finally:
            task.given_up = True

    def close(self, seconds: float) -> None:
        """Work off what waits, and end. seconds: to wait for that."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(seconds)

    def _run(self) -> None:
        while tasks := self._next():
            _deliver(tasks, self._answers(tasks))

    def _answers(self, tasks: Sequence[Task[T]]) -> list[T | Exception]:
        """One each, whatever happens: the thread goes on, and a bug is that request's alone which meets it."""
        try:
            return self._work(tasks)
        except Exception as error:
            if len(tasks) > 1:
                return [answer for task in tasks for answer in self._answers([task])]
            log.exception("a request to %s failed", tasks[0].route)
            return [error]

    def _next(self) -> list[Task[T]]:
        """The task that has waited longest, with the small ones behind it if it is small; none once it is closed."""
        with self._changed:
            while True:
                while self._tasks and self._tasks[0].given_up:
                    self._tasks.popleft()
                if self._tasks:
                    break
                if self._closed:
                    return []
                self._changed.wait()
            taken = [self._tasks.popleft()]
            while self._tasks and len(taken) < TOGETHER and _small(taken[0]) and _small(self._tasks[0]):
                task = self._tasks.popleft()
                if not task.given_up:
                    taken.append(task)
            return taken


def _small(task: Task[T]) -> bool:
    return len(task.body) <= SMALL_BYTES


def _deliver(tasks: Sequence[Task[T]], answers: Sequence[T | Exception]) -> None:
    def set_all() -> None:
        for task, answer in zip(tasks, answers, strict=True):
            if task.done.done():
                continue
            if isinstance(answer, Exception):
                task.done.set_exception(answer)
            else:
                task.done.set_result(answer)

    try:
        tasks[0].done.get_loop().call_soon_threadsafe(set_all)
    except RuntimeError:  # the server has ended without waiting for them
        log.warning("%d answers came after the server had ended", len(tasks))
