"""Lack of memory is told from other failures, whatever a library makes of it."""

from __future__ import annotations

import errno
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from nightjar.features.contract.errors import DataError, OutOfMemoryError
from nightjar.training.run import memory_limits
from nightjar.training.run.collective import Collective
from nightjar.training.run.launch import run
from nightjar.training.run.memory_limits import memory_limit, oom_kills, ran_out_of_memory

TOO_MUCH = 1 << 60


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        pa.ArrowMemoryError("malloc of size 64 failed"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        RuntimeError("can't start new thread"),
        RuntimeError("std::bad_alloc"),
        caused(DataError("part-7 cannot be read"), pa.ArrowMemoryError("malloc of size 64 failed")),
    ],
)
def test_lack_of_memory_is_seen_through_what_it_was_turned_into(error: Exception) -> None:
    assert ran_out_of_memory(error)


@pytest.mark.parametrize("error", [ValueError("out of memory"), OSError(errno.ENOSPC, "full"), RuntimeError("a bug")])
def test_other_failures_are_not(error: Exception) -> None:
    assert not ran_out_of_memory(error)


def numpy_array(collective: Collective) -> None:
    np.ones(TOO_MUCH, dtype=np.int8)


def torch_tensor(collective: Collective) -> None:
    torch.empty(TOO_MUCH, dtype=torch.int8)


def arrow_buffer(collective: Collective) -> None:
    pa.allocate_buffer(TOO_MUCH)


@pytest.mark.parametrize("function", [numpy_array, torch_tensor, arrow_buffer])
def test_a_single_worker_that_runs_out_says_so(function: object) -> None:
    with pytest.raises(OutOfMemoryError, match=r"the only worker ran out of memory: .* It holds .* GB of the"):
        run(function, 1)  # type: ignore[type-var, arg-type]


def test_the_least_limit_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "memory.max").write_text("123456789\n")
    (tmp_path / "memory.events").write_text("low 0\nhigh 0\nmax 7\noom 2\noom_kill 2\n")
    monkeypatch.setattr(memory_limits, "_own_cgroups", lambda: [tmp_path])
    monkeypatch.setattr(memory_limits, "_MACHINE", tmp_path / "vmstat")
    assert memory_limit() == (123456789, "the control group, memory.max")
    assert oom_kills() == 2
    (tmp_path / "memory.max").write_text("max\n")
    assert memory_limit()[0] > 1e9
    (tmp_path / "vmstat").write_text("nr_free_pages 5\noom_kill 7\n")
    assert oom_kills() == 7


def test_the_first_version_of_control_groups_is_read_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "memory.limit_in_bytes").write_text("1000000\n")
    (tmp_path / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 1\n")
    monkeypatch.setattr(memory_limits, "_own_cgroups", lambda: [tmp_path])
    monkeypatch.setattr(memory_limits, "_MACHINE", tmp_path / "vmstat")
    assert memory_limit() == (1000000, "the control group, memory.limit_in_bytes")
    assert oom_kills() == 1


def test_a_limit_of_the_process_is_seen() -> None:
    code = (
        "import resource\n"
        "from nightjar.training.run.memory_limits import memory_limit\n"
        "resource.setrlimit(resource.RLIMIT_AS, (9 << 30, resource.RLIM_INFINITY))\n"
        "print(memory_limit())\n"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    size, place = eval(said)
    assert size <= 9 << 30
    assert place == "ulimit -v" or size < 9 << 30
    assert resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY
