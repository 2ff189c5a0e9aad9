"""The set-up installs what the locks name, file by file, and finds NVIDIA's compiler among what it has installed."""

from __future__ import annotations

import re
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.version import Version

from tests.kits.submit import REPOSITORY

sys.path.insert(0, str(REPOSITORY / ".ci"))

import horovod_wheel
import setup_environment
from horovod_wheel import SetupError


@pytest.mark.parametrize("lock", [setup_environment.LOCK, setup_environment.CUDA_LOCK], ids=lambda path: path.name)
def test_every_pin_names_the_files_that_it_may_come_from(lock: Path) -> None:
    pins = setup_environment.read_lock(lock)
    assert len(pins) == len(re.findall(r"^[^#\s]\S*==", lock.read_text(), re.MULTILINE))
    without = {name for name, pin in pins.items() if "--hash=sha256:" not in pin.requirement}
    assert without <= horovod_wheel.BUILT


def test_this_environment_is_the_lock() -> None:
    pins = setup_environment.read_lock(setup_environment.LOCK)
    installed = {name: Version(version(name)).public for name in pins}
    assert installed == {name: Version(pin.version).public for name, pin in pins.items()}


def test_both_locks_pin_one_torch_in_two_builds() -> None:
    ours, cuda = (
        setup_environment.read_lock(lock)["torch"] for lock in (setup_environment.LOCK, setup_environment.CUDA_LOCK)
    )
    assert (Version(ours.version).public, Version(ours.version).local) == (cuda.version, "cpu")
    assert set(ours.requirement.split()).isdisjoint(cuda.requirement.split())


@pytest.mark.parametrize(
    "line",
    ["numpy==1.26.4", "numpy>=1 --hash=sha256:" + "0" * 64, "numpy==1 --hash=md5:" + "0" * 64, "horovod"],
)
def test_a_line_that_leaves_the_file_open_is_refused(tmp_path: Path, line: str) -> None:
    lock = tmp_path / "requirements.lock"
    lock.write_text(f"# a comment\n{line}\n")
    with pytest.raises(SetupError, match="expected name==version and its hashes"):
        setup_environment.read_lock(lock)


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """An interpreter whose packages are NVIDIA's, laid out as their wheels are."""
    packages = tmp_path / "packages"
    toolkit = ("cu13/bin/nvcc", "cu13/include/cuda.h", "cu13/lib/libcudart.so.13", "cu13/lib/libcudart_static.a")
    for file in (*toolkit, "nccl/include/nccl.h", "nccl/lib/libnccl.so.2"):
        (packages / "nvidia" / file).parent.mkdir(parents=True, exist_ok=True)
        (packages / "nvidia" / file).touch()
    script = tmp_path / "python"
    script.write_text(f"#!/bin/sh\necho {packages}\n")
    script.chmod(0o755)
    return script


def test_the_packages_are_a_toolkit_that_a_linker_can_use(tmp_path: Path, python: Path) -> None:
    variables = horovod_wheel.cuda_toolkit(python, tmp_path, {})
    cuda, nccl = Path(variables["HOROVOD_CUDA_HOME"]), Path(variables["HOROVOD_NCCL_HOME"])
    assert (cuda / "bin" / "nvcc").exists()
    assert (cuda / "include" / "cuda.h").exists()
    assert (cuda / "lib64" / "libcudart.so").samefile(tmp_path / "packages/nvidia/cu13/lib/libcudart.so.13")
    assert (nccl / "lib" / "libnccl.so").samefile(tmp_path / "packages/nvidia/nccl/lib/libnccl.so.2")
    assert variables["PATH"].startswith(f"{cuda}/bin:")
    assert variables["CUDA_HOME"] == str(cuda)


def test_a_toolkit_of_the_machine_comes_first(tmp_path: Path, python: Path) -> None:
    variables = horovod_wheel.cuda_toolkit(python, tmp_path, {"HOROVOD_CUDA_HOME": "/opt/cuda"})
    assert "HOROVOD_CUDA_HOME" not in variables
    assert variables["CUDA_HOME"] == "/opt/cuda"
    assert variables["PATH"].startswith("/opt/cuda/bin:")


def test_a_build_without_nccl_says_what_to_install(tmp_path: Path, python: Path) -> None:
    for path in sorted((tmp_path / "packages" / "nvidia" / "nccl").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    with pytest.raises(SetupError, match=r"requirements\.cuda\.lock, or name a folder in HOROVOD_NCCL_HOME"):
        horovod_wheel.cuda_toolkit(python, tmp_path, {})
