"""`nightjar doctor`: what this machine can do with Nightjar, and the command that adds what is missing.

Works in an installation that only scores: every library is looked for, none is needed. What a library needs of the
machine is tried in a process of its own, since Spark, Horovod and CUDA may end the process that they fail in.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import click

import nightjar
from nightjar.cli.prerequisites import Missing, missing_compiler, missing_java
from nightjar.features.contract.errors import UsageError
from nightjar.jobs.common.cli import EXIT_ERROR, Job

EXAMPLE = """
nightjar doctor
nightjar doctor --output /data/nightjar
nightjar doctor --output /data/nightjar --config night.yaml
"""

SCORING = ("numpy", "pyarrow", "onnxruntime", "pydantic", "PyYAML", "fsspec", "xxhash", "click")
TRAINING = ("pyspark", "petastorm", "horovod", "torch", "numba", "pandas", "scikit-learn", "matplotlib", "onnx")
EXTRAS = (("s3fs", "s3"), ("mlflow-skinny", "mlflow"), ("starlette", "serve"), ("uvicorn", "serve"))

SETUP = "make setup    (in a clone of the repository; needs Python 3.11)"
ENOUGH_ROOM = 10  # GiB; below it, doctor says so
TRY_SECONDS = 60
SHOWN = 3  # of what may go

_PETASTORM = "import petastorm.reader"
_HOROVOD = """
import horovod.torch as hvd
hvd.init()
print("gloo" if hvd.gloo_built() else "no gloo", "and", "nccl" if hvd.nccl_built() else "no nccl")
"""
_GPU = """
import torch
print(", ".join(torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())) or "none")
"""


class Finding(NamedTuple):
    """One line of the report. command: adds what is missing; None where nothing is. needed: doctor fails without it."""

    subject: str
    found: str
    command: str | None = None
    needed: bool = True


@click.command("doctor", cls=Job, example=EXAMPLE)
@click.option("--output", metavar="DIR", help="Folder that nights publish in: is there room, what takes how much?")
@click.option(
    "--config", metavar="FILE", help="YAML file of the nights: what of --output its nightly.keep would remove."
)
def main(output: str | None, config: str | None) -> int:
    """Say what is missing on this machine: for scoring, for training, for an output.

    Prints versions, and beside what is missing the command that adds it. A part of training is missing only if
    training is installed at all.

    Exit status: 0 nothing is missing; 2 something is.
    """
    installed = any(_version(name) for name in TRAINING)
    missing = _print("scoring", scoring())
    missing += _print("training", training()) if installed else _say_scoring_only()
    missing += _print("optional", optional())
    if config and not output:
        raise UsageError("--config says what of an output may go. Give --output, too.")
    if output:
        missing += _print("output", room(output))
        missing += _print("taken", taken(output, config))
    print(f"{missing} missing." if missing else "Nothing is missing.")
    return EXIT_ERROR if missing else 0


def scoring() -> Iterator[Finding]:
    """What loading a model and scoring with it takes."""
    yield Finding("nightjar", nightjar.__version__)
    right = sys.version_info >= (3, 11)
    yield Finding("Python", platform.python_version(), None if right else "install Python 3.11 or later")
    for name in SCORING:
        yield _library(name, f"pip install {name}")


def training() -> Iterator[Finding]:
    """What building features and training takes."""
    if sys.version_info[:2] != (3, 11):
        yield Finding("Python", f"{platform.python_version()}; petastorm and its pyarrow 14 need 3.11", SETUP)
    for name in TRAINING:
        yield _library(name, SETUP)
    yield from _program("Java", missing_java())
    if find_spec("petastorm"):
        yield _tried("petastorm reads Parquet", _PETASTORM, SETUP)
    if find_spec("horovod"):
        yield _tried("Horovod starts", _HOROVOD, SETUP)
    else:
        yield from _program("C++ compiler", missing_compiler())


def optional() -> Iterator[Finding]:
    """What only some configs ask for."""
    for name, extra in EXTRAS:
        yield _library(name, f"pip install 'nightjar[{extra}]'", needed=False)
    if find_spec("torch"):
        yield _tried("GPU", _GPU, "see https://pytorch.org/get-started/locally", needed=False)


def room(output: str) -> Iterator[Finding]:
    """Whether nights can publish into a local folder, or reach a URL."""
    if "://" in output:
        protocol = output.partition("://")[0]
        code = f"import fsspec; fsspec.filesystem({protocol!r})"
        yield _tried(output, code, f"pip install what fsspec needs for {protocol}://")
        return
    existing = Path(output).absolute()
    while not existing.exists():
        existing = existing.parent
    writable = existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)
    yield Finding(
        str(existing), "writable" if writable else "not writable", None if writable else f"sudo chown $USER {existing}"
    )
    free = shutil.disk_usage(existing).free / 2**30
    enough = free >= ENOUGH_ROOM
    yield Finding("free", f"{free:,.1f} GiB", None if enough else "remove old nights: nightly.keep in the config file")


def taken(output: str, config: str | None) -> Iterator[Finding]:
    """What an output takes, by kind, and what of it may go. Raises SpecError if the config cannot be used."""
    from nightjar.cli import usage  # storage, once it is asked for

    for found in usage.usages(output):
        yield Finding(found.kind, str(found))
    if config:
        doomed = list(usage.may_go(output, config))
        shown = [path for path, _ in doomed[:SHOWN]] + ["..."] * (len(doomed) > SHOWN)
        said = f"{usage.size(sum(count for _, count in doomed))} in {len(doomed)}"
        yield Finding("may go", ": ".join(filter(None, (said, ", ".join(shown)))))


def _program(name: str, missing: Iterator[Missing]) -> Iterator[Finding]:
    problems = [Finding(name, f"missing: {what}", command) for what, command in missing]
    yield from problems or [Finding(name, "runs")]


def _library(name: str, command: str, needed: bool = True) -> Finding:
    found = _version(name)
    return Finding(name, found or "not installed", None if found else command, needed)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _tried(subject: str, code: str, command: str, needed: bool = True) -> Finding:
    """What a piece of Python in a process of its own says, or the last line of its error."""
    ran, said = _run([sys.executable, "-W", "ignore", "-c", code])
    last = said.strip().rpartition("\n")[2]
    return Finding(subject, (last or "yes") if ran else f"no: {last}", None if ran else command, needed)


def _run(command: Sequence[str]) -> tuple[bool, str]:
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", timeout=TRY_SECONDS
        )
    except subprocess.TimeoutExpired:
        return False, f"no answer in {TRY_SECONDS} seconds"
    except OSError as error:
        return False, str(error)
    return done.returncode == 0, done.stdout


def _say_scoring_only() -> int:
    print(f"training\n  not installed; to train: {SETUP}")
    return 0


def _print(title: str, findings: Iterator[Finding]) -> int:
    """Print findings as they come; how many of what is needed are missing."""
    print(title)
    missing = 0
    for finding in findings:
        mark = " " if finding.command is None else "!" if finding.needed else "-"
        print(f"{mark} {finding.subject:<24}{finding.found}")
        if finding.command:
            print(f"{'':<26}{finding.command}")
            missing += finding.needed
    return missing
