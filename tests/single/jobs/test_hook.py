"""The hook is told everything, and nothing that it does changes the night."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from nightjar.features.contract.errors import NightjarError
from nightjar.features.contract.records import HookEvent
from nightjar.features.contract.strict import load_yaml
from nightjar.jobs.nightly.hook import MOST_BYTES, HookConfig, call, clean

TOLD = {"event": "rejected", "date": "2026-01-05", "run": "r", "output": "/out", "message": "auc: worse; 'quoted'"}
EVENT = HookEvent.model_validate(TOLD)


def hook(place: Path, program: str, timeout: float = 60.0) -> HookConfig:
    script = place / "a hook.py"
    script.write_text(program)
    return HookConfig(command=f"{sys.executable} '{script}' one", timeout_seconds=timeout)


def test_the_hook_gets_json_on_standard_input_and_plain_values_in_its_environment(tmp_path: Path) -> None:
    told = tmp_path / "told.json"
    program = f"import json, os, sys; open({str(told)!r}, 'w').write(json.dumps(" + (
        "[json.load(sys.stdin), os.environ['NIGHTJAR_EVENT'], os.environ['NIGHTJAR_MESSAGE'], sys.argv[1]]))"
    )
    call(hook(tmp_path, program), EVENT)
    assert json.loads(told.read_text()) == [TOLD, "rejected", TOLD["message"], "one"]


def test_a_hook_that_fails_or_does_not_exist_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    call(hook(tmp_path, "raise SystemExit('no network')"), EVENT)
    call(HookConfig(command="/nowhere/at/all"), EVENT)
    call(hook(tmp_path, "import os; os.close(0)"), EVENT.model_copy(update={"message": "x" * 1_000_000}))
    assert "ended with status 1: no network" in caplog.text
    assert "could not be started" in caplog.text


def test_a_hook_that_hangs_is_stopped_with_its_children(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pids = tmp_path / "pids"
    program = f"""
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
open({str(pids)!r} + ".new", "w").write(f"{{os.getpid()}} {{child.pid}}")
os.rename({str(pids)!r} + ".new", {str(pids)!r})
time.sleep(600)
"""
    call(hook(tmp_path, program, timeout=5.0), EVENT)
    assert "was stopped after 5 s" in caplog.text
    parent, child = map(int, pids.read_text().split())
    with pytest.raises(ProcessLookupError):
        os.kill(parent, 0)
    deadline = time.monotonic() + 30
    while is_running(child) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not is_running(child)


def is_running(pid: int) -> bool:
    """True for a process that is there and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(("command", "message"), [("'open", "No closing quotation"), (" ", "the command is empty")])
def test_a_command_that_cannot_be_split_is_a_mistake_in_the_config(tmp_path: Path, command: str, message: str) -> None:
    (tmp_path / "c.yaml").write_text(json.dumps({"command": command}))
    with pytest.raises(NightjarError, match=message):
        load_yaml(tmp_path / "c.yaml", HookConfig)


@pytest.mark.parametrize(
    "message", ["x" * 200_000, "ä" * 3_000_000, "a\0b", "\ud800", "a\nb\r\x1b[0m", "\U0001f4a9" * 50_000], ids=range(6)
)
def test_the_hook_is_told_whatever_the_message_is(tmp_path: Path, message: str) -> None:
    told = tmp_path / "told.json"
    program = f"import json, os, sys; open({str(told)!r}, 'w').write(json.dumps(" + (
        "[json.load(sys.stdin)['message'], os.environ['NIGHTJAR_MESSAGE']]))"
    )
    call(hook(tmp_path, program), EVENT.model_copy(update={"message": message, "output": message}))
    given, in_environment = json.loads(told.read_text())
    assert given == in_environment == clean(message)
    assert len(given.encode()) <= MOST_BYTES
    assert given[0] == clean(message[0])
    assert given[-1] == clean(message[-1])


def test_what_a_hook_leaves_at_work_is_not_waited_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It has the hook's own standard error."""
    program = f"""import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
open({str(tmp_path / "pid")!r}, "w").write(str(child.pid))"""
    call(hook(tmp_path, program), EVENT)
    child = int((tmp_path / "pid").read_text())
    assert not caplog.records
    assert is_running(child)
    os.kill(child, signal.SIGKILL)


def test_a_hook_that_says_much_is_quoted_from_its_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    call(hook(tmp_path, "import sys; sys.stderr.write('x' * 10_000_000 + 'the end'); sys.exit(3)"), EVENT)
    [record] = caplog.records
    assert record.getMessage().endswith("the end")
    assert len(record.getMessage()) < 1000


def test_a_hook_that_says_what_is_no_text_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    call(hook(tmp_path, "import os; os.write(2, bytes([255, 0, 254])); raise SystemExit(3)"), EVENT)
    assert "ended with status 3" in caplog.text


@pytest.mark.parametrize("command", ["/nowhere/notify --token SECRET", "/bin/sh -c 'echo SECRET >&2; exit 1' SECRET"])
def test_the_hooks_arguments_are_in_no_line_of_the_log(command: str, caplog: pytest.LogCaptureFixture) -> None:
    call(HookConfig(command=command), EVENT)
    call(HookConfig(command=command + "\0"), EVENT)
    assert caplog.records
    assert "SECRET" not in caplog.text
