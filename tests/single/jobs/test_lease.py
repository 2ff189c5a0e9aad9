"""One holder at a time, whatever becomes of it, on a disk and in an object store."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from nightjar.features.contract import storage
from nightjar.features.contract.errors import LockedError
from nightjar.jobs.common.cli import EXIT_TERMINATED
from nightjar.jobs.nightly import lease as lease_module
from nightjar.jobs.nightly.lease import Held, Lease, acquire, lease
from tests.kits.real_hdfs import REAL_HDFS

STALE = 60.0


@pytest.fixture(params=["local", "memory", "bucket", "hdfs", *REAL_HDFS])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "local":
        return str(tmp_path / "lock")
    if request.param == "memory":
        return f"memory://{uuid.uuid4().hex}/lock"
    return f"{request.getfixturevalue(request.param)}/lock"


def entries(folder: str) -> list[Lease]:
    names = storage.list_files(folder)
    return [Lease.model_validate_json(storage.read_bytes(storage.join(folder, name))) for name in names]


def leave_dead(folder: str, number: int = 7) -> None:
    """The entry of an owner here whose process is gone."""
    dead = Lease.mine("dead").model_copy(update={"pid": 2**22 - 7})
    storage.write_bytes(storage.join(folder, f"{number:06d}.json"), dead.model_dump_json().encode())


def test_a_second_run_is_told_who_holds_it_and_gets_it_afterwards(folder: str) -> None:
    with lease(folder, "first", stale_seconds=STALE), pytest.raises(LockedError) as caught:
        acquire(folder, "second", STALE)
    assert "run first (process " in str(caught.value)
    assert caught.value.exit_status == 5
    with lease(folder, "second", stale_seconds=STALE) as held:
        assert [entry.run for entry in entries(folder)] == ["second"]
        held.check()
    assert [entry.released for entry in entries(folder)] == [True]


def test_an_error_releases_it(folder: str) -> None:
    with pytest.raises(KeyError), lease(folder, "first"):
        raise KeyError
    assert acquire(folder, "second", STALE).number == 2


def test_of_many_takers_of_a_dead_lease_one_wins(folder: str) -> None:
    for turn in range(3 if folder.startswith("s3") else 15):
        place = f"{folder}/{turn}"
        leave_dead(place)
        together = threading.Barrier(6)

        def take(n: int, place: str = place, together: threading.Barrier = together) -> bool:
            together.wait(30)
            try:
                return acquire(place, f"taker {n}", STALE).lease.run == f"taker {n}"
            except LockedError:
                return False

        with ThreadPoolExecutor(6) as pool:
            assert sum(pool.map(take, range(6))) == 1
        assert len(entries(place)) == 1


def test_a_taker_who_slept_through_two_others_does_not_win(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between its look and its creation another took the lease, ended, and a third holds the next one."""
    leave_dead(folder)
    real: Callable[[str, bytes], None] = storage.create_bytes

    def slow(url: str, content: bytes) -> None:
        monkeypatch.setattr(storage, "create_bytes", real)
        with lease(folder, "second", stale_seconds=STALE):
            pass
        acquire(folder, "third", STALE)
        real(url, content)

    monkeypatch.setattr(storage, "create_bytes", slow)
    with pytest.raises(LockedError, match="run third"):
        acquire(folder, "slow", STALE)
    assert [entry.run for entry in entries(folder)] == ["third"]


def test_an_owner_that_was_overtaken_is_told_to_stop(folder: str) -> None:
    with lease(folder, "sleeper", stale_seconds=0.0) as held:
        time.sleep(0.01)
        other = acquire(folder, "other", stale_seconds=0.0)
        with pytest.raises(LockedError, match="another took over"):
            held.check()
    assert max(entries(folder), key=lambda entry: entry.since).run == "other"
    other.check()


def test_a_heartbeat_keeps_it_alive(tmp_path: Path) -> None:
    folder = str(tmp_path / "lock")
    with lease(folder, "first", heartbeat_seconds=0.01):
        [before] = entries(folder)
        deadline = time.monotonic() + 30
        while entries(folder)[0].heartbeat == before.heartbeat and time.monotonic() < deadline:
            time.sleep(0.01)
        assert entries(folder)[0].heartbeat > before.heartbeat
        assert entries(folder)[0].since == before.since


HOLDER = """
import sys, time
from nightjar.jobs.common.cli import leaving_in_order
from nightjar.jobs.common.cli import EXIT_TERMINATED
from nightjar.jobs.nightly.lease import lease
with leaving_in_order(), lease(sys.argv[1], "holder"):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_an_owner_that_is_ended_on_this_machine_is_followed_at_once(tmp_path: Path, end: signal.Signals) -> None:
    folder = str(tmp_path / "lock")
    process = subprocess.Popen([sys.executable, "-c", HOLDER, folder], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(LockedError, match=f"run holder \\(process {process.pid} on "):
            acquire(folder, "second", STALE)
    finally:
        process.send_signal(end)
        process.communicate(timeout=60)
    assert process.returncode == (EXIT_TERMINATED if end == signal.SIGTERM else -end)
    assert [entry.released for entry in entries(folder)] == [end == signal.SIGTERM]
    assert acquire(folder, "second", STALE).number == 2


class Unreachable(Exception):
    """As botocore's errors: of no kind that Python knows."""


def test_a_heart_beats_on_after_any_error(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real, failures = storage.write_bytes, [Unreachable("no network"), ValueError("what?"), OSError("disk")]
    beaten = threading.Event()

    def unreliable(url: str, content: bytes) -> None:
        if failures:
            raise failures.pop()
        real(url, content)
        beaten.set()

    with lease(folder, "first", stale_seconds=STALE, heartbeat_seconds=0.01):
        [before] = entries(folder)
        monkeypatch.setattr(storage, "write_bytes", unreliable)
        assert beaten.wait(30)
        [after] = entries(folder)
        assert after.heartbeat > before.heartbeat
    assert not failures


def test_a_lease_that_cannot_be_released_or_looked_at_changes_nothing(
    folder: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise Unreachable("no network")

    def night() -> None:
        with lease(folder, "first", stale_seconds=STALE) as held:
            monkeypatch.setattr(storage, "write_bytes", fail)
            monkeypatch.setattr(storage, "list_files", fail)
            held.check()
            with pytest.raises(LockedError, match="could not be renewed for 0 s"):
                Held(folder, held.number, held.lease, stale_seconds=0.0).check()
            raise KeyError

    with pytest.raises(KeyError):
        night()
    assert "could not be released: no network" in caplog.text


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"null",
        b"\xff",
        b'{"run": "x"}',
        b'{"run": "r", "host": "h", "processes": "p", "pid": -1}',
        b"[" * 9999,
    ],
)
def test_a_damaged_entry_is_as_old_as_its_file(folder: str, content: bytes) -> None:
    storage.write_bytes(f"{folder}/000004.json", content)
    with pytest.raises(LockedError, match="cannot be read"):
        acquire(folder, "first", STALE)
    time.sleep(0.05)
    assert acquire(folder, "second", 0.01).number == 5


def test_an_entry_that_is_listed_and_cannot_be_found_is_no_endless_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_module, "_TORN_SECONDS", 0.0)
    (tmp_path / "000003.json").symlink_to("nowhere")
    with pytest.raises(LockedError, match="are listed and cannot be found"):
        acquire(str(tmp_path), "mine", STALE)


def test_other_files_in_the_folder_are_nobodys_lease(folder: str) -> None:
    for name in ("notes.json", "-1.json", "1e9.json", "000001.json.json", "x/000009.json"):
        storage.write_bytes(f"{folder}/{name}", b"{}")
    assert acquire(folder, "first", STALE).number == 1


@pytest.mark.parametrize("ahead", [-3600.0, 2 * STALE, 3600.0, 1e9, 2e11])
def test_an_owner_whose_clock_is_an_hour_behind_or_ahead_keeps_the_lease_while_it_lives(
    folder: str, ahead: float
) -> None:
    """The entry's own age counts: its file was written a moment ago, and so it is free a moment later."""
    other = Lease.mine("other").model_copy(update={"host": "elsewhere", "heartbeat": time.time() + ahead})
    storage.write_bytes(f"{folder}/000003.json", other.model_dump_json().encode())
    with pytest.raises(LockedError, match="run other"):
        acquire(folder, "first", STALE)
    time.sleep(0.05)
    assert acquire(folder, "second", 0.01).number == 4


@pytest.mark.parametrize("change", [{"boot": "another"}, {"boot": ""}, {"processes": "pid:[1]"}, {"host": "elsewhere"}])
def test_a_process_that_is_gone_here_may_be_alive_on_a_machine_of_the_same_name(
    tmp_path: Path, change: dict[str, str]
) -> None:
    folder = str(tmp_path)
    gone = Lease.mine("other").model_copy(update={"pid": 2**22 - 7})
    storage.write_bytes(f"{folder}/000001.json", gone.model_copy(update=change).model_dump_json().encode())
    with pytest.raises(LockedError, match="run other"):
        acquire(folder, "first", STALE)
    storage.write_bytes(f"{folder}/000001.json", gone.model_dump_json().encode())
    assert acquire(folder, "second", STALE).number == 2


def test_a_lease_has_a_greater_number_than_the_pointer_knows_also_after_its_folder_was_removed(folder: str) -> None:
    with lease(folder, "first", after=41) as held:
        assert held.number == 42
    storage.remove(folder)
    assert acquire(folder, "second", STALE, after=42).number == 43
    assert acquire(folder, "third", 0.0, after=7).number == 44
