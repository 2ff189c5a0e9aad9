"""The launcher's end of the line: strangers cost nothing, and who gets nothing done is known."""

from __future__ import annotations

import pickle
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client
from pathlib import Path

import pytest

from nightjar.features.contract import liveness
from nightjar.training.run import reports as reports_module
from nightjar.training.run.reports import Address, Outcome, Reports, line_to


@pytest.fixture
def reports() -> Iterator[Reports]:
    with Reports("127.0.0.1", "127.0.0.1") as listening:
        yield listening


def gets_in(reports: Reports) -> bool:
    """Whether a worker is heard while nobody else leaves."""

    def work() -> None:
        with line_to(reports.address, 0) as line:
            line.report(Outcome(0, "done"))

    threading.Thread(target=work, daemon=True).start()
    return eventually(lambda: 0 in reports.heard and reports.heard[0].outcome == Outcome(0, "done"))


def eventually(what: Callable[[], bool], seconds: float = 60.0) -> bool:
    deadline = time.monotonic() + seconds
    while not what() and time.monotonic() < deadline:
        time.sleep(0.02)
    return what()


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, ...]]:
        return Path.mkdir, (self.path,)


def framed(content: bytes) -> bytes:
    """As multiprocessing.connection sends it."""
    return len(content).to_bytes(4, "big") + content


GREETINGS = {
    "nothing": b"",
    "a request": b"GET / HTTP/1.0\r\n\r\n",
    "a TLS hello": bytes.fromhex("16030100c8010000c4030300"),
    "zeros": bytes(1000),
    "noise": random.Random(1).randbytes(10_000),
    "a huge length": (2**31 - 1).to_bytes(4, "big"),
    "a negative length": (2**32 - 1).to_bytes(4, "big") + (2**63).to_bytes(8, "big"),
    "half a length": b"\0\0",
    "a wrong answer": framed(b"#WELCOME#") * 3,
}


@pytest.mark.parametrize("leaves", [True, False])
@pytest.mark.parametrize("greeting", GREETINGS)
def test_a_stranger_keeps_no_worker_out(reports: Reports, greeting: str, leaves: bool) -> None:
    with socket.create_connection(("127.0.0.1", reports.address.port)) as stranger:
        stranger.sendall(GREETINGS[greeting])
        if leaves:
            stranger.close()
        assert gets_in(reports)


def test_hundreds_of_silent_strangers_keep_no_worker_out_and_are_hung_up_on(reports: Reports) -> None:
    with ExitStack() as stack:
        strangers = [
            stack.enter_context(socket.create_connection(("127.0.0.1", reports.address.port))) for _ in range(300)
        ]
        assert gets_in(reports)
        strangers[0].settimeout(60)
        said = b""
        while part := strangers[0].recv(1000):
            said += part
        assert b"#CHALLENGE#" in said


def test_a_stranger_who_never_proves_himself_is_hung_up_on(reports: Reports, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports_module, "_PROOF_SECONDS", 0.2)
    with socket.create_connection(("127.0.0.1", reports.address.port)) as stranger:
        stranger.settimeout(60)
        while stranger.recv(1000):
            pass
    assert eventually(lambda: not reports._strangers)


def test_nothing_is_unpickled_of_one_who_does_not_know_the_secret(reports: Reports, tmp_path: Path) -> None:
    bomb = framed(pickle.dumps(Bomb(tmp_path / "exploded")))
    with socket.create_connection(("127.0.0.1", reports.address.port)) as stranger:
        stranger.sendall(bomb * 3)
        assert gets_in(reports)
    with pytest.raises(AuthenticationError):
        Client(("127.0.0.1", reports.address.port), authkey=b"a guess")
    assert not (tmp_path / "exploded").exists()


def test_a_worker_does_not_speak_to_one_who_does_not_know_the_secret(reports: Reports) -> None:
    with pytest.raises(AuthenticationError), line_to(replace(reports.address, key=b"another"), 0):
        pass


def test_an_outcome_that_cannot_be_unpickled_is_a_failure_of_that_worker(reports: Reports) -> None:
    class Unreadable:
        def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
            return eval, ("1 / 0",)

    with line_to(reports.address, 0) as line:
        line.report(Outcome(0, Unreadable()))
        assert eventually(lambda: 0 in reports.heard and reports.heard[0].outcome is not None)
    outcome = reports.heard[0].outcome
    assert outcome is not None
    assert "ZeroDivisionError" in repr(outcome.error)


def test_beats_alone_are_no_progress_and_work_is(reports: Reports, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two workers in this process share its count of work."""
    monkeypatch.setattr(reports_module, "_BEAT_SECONDS", 0.05)
    with line_to(reports.address, 0):
        assert not reports.at_a_standstill(2, 0.5)  # one is not here yet
        with line_to(reports.address, 1):
            assert eventually(lambda: reports.at_a_standstill(2, 0.5))
            assert reports.silent(30) == []

            def gets_on() -> bool:
                liveness.advance()
                return not reports.at_a_standstill(2, 0.5)

            assert eventually(gets_on)


def test_a_worker_says_where_its_threads_are(reports: Reports) -> None:
    over = threading.Event()

    def stuck_in_here() -> None:
        over.wait()

    threading.Thread(target=stuck_in_here, name="a reader", daemon=True).start()
    with line_to(reports.address, 0):
        assert eventually(lambda: 0 in reports.heard)
        [text] = reports.ask_for_stacks().values()
    over.set()
    assert text is not None
    assert text.startswith("thread MainThread, the innermost call last:")
    assert "thread a reader" in text
    assert "in stuck_in_here\n    over.wait()" in text


def test_workers_wait_for_each_other_or_do_not(reports: Reports, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports_module, "_BEAT_SECONDS", 0.05)
    with line_to(reports.address, 0), liveness.waiting():
        assert eventually(lambda: 0 in reports.heard and reports.heard[0].beat.waiting)
        assert reports.heard[0].beat.resident > 1e6
        assert reports.heard[0].memory[0] > 1e6


def test_the_launcher_listens_where_it_is_told_to() -> None:
    with Reports("localhost", "127.0.0.1") as listening:
        assert listening._socket.getsockname()[0] == "127.0.0.1"
        assert listening.address == Address("localhost", listening._socket.getsockname()[1], listening.address.key)
        assert len(listening.address.key) == 32
