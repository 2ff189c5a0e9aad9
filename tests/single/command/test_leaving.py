"""However a job ends, it ends with one message and the right status."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest

from nightjar.features.contract import storage
from nightjar.features.contract.errors import NightjarError
from nightjar.jobs.common.cli import EXIT_ERROR, EXIT_INTERRUPTED, EXIT_TERMINATED, Job

# The way out fails as Spark's does: whatever is raised there must not take the place of the signal's status.
WAITING = """
import sys, time
import click
from nightjar.jobs.common.cli import Job

@click.command("waiting", cls=Job, example="")
def main():
    try:
        try:
            print("at work", flush=True)
            time.sleep(600)
        finally:
            raise RuntimeError("the gateway is out of step")
    finally:
        print("released", flush=True)

sys.exit(main([]))
"""


@pytest.mark.parametrize(
    ("number", "status", "said"),
    [(signal.SIGTERM, EXIT_TERMINATED, ""), (signal.SIGINT, EXIT_INTERRUPTED, "waiting: interrupted\n")],
)
def test_a_signal_decides_the_status_whatever_fails_on_the_way_out(
    number: signal.Signals, status: int, said: str
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", WAITING], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "at work\n"
    process.send_signal(number)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out, err) == (status, "released\n", said)


def chained(text: str, cause: BaseException) -> NightjarError:
    error = NightjarError(text)
    error.__cause__ = cause
    return error


FULL = OSError(errno.ENOSPC, "No space left on device", "/data/out/x")
JAVA = "An error occurred while calling o1.x.\n: org.apache.spark.SparkException: Job aborted due to stage failure:\n"


@pytest.mark.parametrize(
    ("error", "where"),
    [
        (FULL, "/data/out/x"),
        (OSError(errno.EDQUOT, "Disk quota exceeded", "/data/scratch"), "/data/scratch"),
        (chained("worker 1 failed:\nTraceback (most recent call last):\n ...", FULL), "/data/out/x"),
        (NightjarError("worker 1 failed:\n  OSError: [Errno 28] No space left on device: '/dev/shm/t'"), "/dev/shm/t"),
        (
            RuntimeError(JAVA + "java.io.FileNotFoundException: /tmp/blockmgr-1/0a (No space left on device)"),
            "/tmp/block",
        ),
        (
            RuntimeError(JAVA + "java.nio.file.FileSystemException: /spark/temp_1: No space left on device"),
            "/spark/temp_1",
        ),
        (RuntimeError(JAVA + "java.io.IOException: No space left on device"), "MiB free"),
        (OSError(errno.ENOSPC, "No space left on device"), "MiB free"),
    ],
)
def test_a_full_disk_is_one_message_with_the_place(
    error: Exception, where: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise error

    assert Job("job", callback=fail, example="")([]) == EXIT_ERROR
    said = capsys.readouterr().err
    assert said.startswith("job: error: no space left on device: ")
    assert where in said
    assert said.count("\n") == 1


def test_what_nobody_expected_is_still_raised() -> None:
    def fail() -> None:
        raise RuntimeError("space is curved")

    with pytest.raises(RuntimeError, match="curved"):
        Job("job", callback=fail, example="")([])


def test_a_write_says_what_it_could_not_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device") as caught:
        storage.write_bytes(str(tmp_path / "x"), b"1")
    assert caught.value.filename == str(tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_a_click_error_stays_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise click.UsageError("no such thing")

    assert Job("job", callback=fail, example="")([]) == EXIT_ERROR
    assert "no such thing" in capsys.readouterr().err
