"""Make the virtual environment that every make target runs in. Called by `make setup`; standard library only.

Idempotent: when the stamp in the environment records the same inputs, nothing happens. Otherwise each step
starts from whatever is there, so the same command also completes a set-up that was interrupted, and updates
one that a newer requirements.lock has made stale. The stamp is written last.

Python 3.9 and later can run this file, to be able to say that 3.11 is missing.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from horovod_wheel import BUILT, GPU_VARIABLES, SetupError, horovod_wheel

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "nightjar" / "cli"))  # the module alone: the package wants what is not installed yet

from prerequisites import Missing, first_output, missing_compiler, missing_java  # noqa: E402

LOCK, CUDA_LOCK = ROOT / "requirements.lock", ROOT / "requirements.cuda.lock"
INPUTS = (LOCK, CUDA_LOCK, ROOT / "pyproject.toml", Path(__file__).resolve(), ROOT / ".ci" / "horovod_wheel.py")
STAMP = ".nightjar-setup"

PYTHON_VERSION = "3.11"

# The one complaint of `pip check` that is known to be harmless: see requirements.lock.
STALE_BOUND = re.compile(r"petastorm \S+ has requirement setuptools<70, but you have setuptools \S+")

SMOKE_TEST = """
import horovod.torch as hvd, petastorm.reader, pyarrow, pyspark, torch
hvd.init()
assert hvd.gloo_built() and hvd.allreduce(torch.ones(2), op=hvd.Sum).tolist() == [1.0, 1.0]
import sys
assert sys.argv[1] != "nccl" or hvd.nccl_built(), "Horovod was built without NCCL"
print(f"    torch {torch.__version__}, pyspark {pyspark.__version__}, pyarrow {pyarrow.__version__}")
"""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", default="python3.11", help="the interpreter to make the environment from")
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv")
    parser.add_argument(
        "--gpu",
        choices=("none", "nccl"),
        default=os.environ.get("NIGHTJAR_GPU") or "none",
        help="install torch's CUDA build, and build Horovod with NCCL (default: $NIGHTJAR_GPU, else none)",
    )
    args = parser.parse_args(argv)
    venv = args.venv.absolute()
    try:
        set_up(args.python, venv, args.gpu)
    except SetupError as error:
        print(f"\nset-up failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nset-up was interrupted; run `make setup` again to go on", file=sys.stderr)
        return 130
    return 0


def set_up(python: str, venv: Path, gpu: str) -> None:
    stamp = venv / STAMP
    inputs = fingerprint(venv, gpu)
    if stamp.exists() and stamp.read_text() == inputs and os.access(venv / "bin" / "python", os.X_OK):
        stamp.touch()  # newer than its inputs again, so that make does not ask before one of them changes
        return

    missing = missing_prerequisites(python)
    if missing:
        lines = "\n".join(f"  {item.what}\n      {item.command}" for item in missing)
        raise SetupError(f"these prerequisites are missing (nothing was changed):\n{lines}")

    stamp.unlink(missing_ok=True)
    pins, cuda_pins = read_lock(LOCK), read_lock(CUDA_LOCK)
    torch, horovod = pins.pop("torch"), pins.pop("horovod")
    with step(f"virtual environment {venv}"):
        ensure_venv(python, venv)
        remove_half_installed(venv)
    cuda = gpu == "nccl"
    if not cuda:
        with step(f"torch {torch.version}"):
            cuda = not offered(venv, torch)
            if cuda:
                print(f"    no index has it: its CUDA build, {CUDA_LOCK.name}, is taken instead", flush=True)
            else:
                install(venv, [torch])
    if cuda:
        with step(f"the {len(cuda_pins)} packages of {CUDA_LOCK.name} (gigabytes)"):
            if torch_version(venv) == torch.version:
                pip(venv, "uninstall", "-q", "-y", "torch")
            install(venv, cuda_pins.values())
    with step(f"the other {len(pins)} packages of {LOCK.name}"):
        install(venv, pins.values())
    with step(f"horovod {horovod.version}"):
        wheel = horovod_wheel(venv / "bin" / "python", gpu)
        # Forced: pip would take another build of the same version for this one.
        pip(venv, "install", "-q", "--no-deps", "--force-reinstall", str(wheel))
    with step("nightjar itself, editable"):
        pip(venv, "install", "-q", "--no-deps", "--no-build-isolation", "-e", str(ROOT))
    with step("checks"):
        check_requirements(venv)
        smoke_test(venv, gpu)
    stamp.write_text(inputs)


def fingerprint(venv: Path, gpu: str) -> str:
    """Everything whose change makes an environment stale; paths too: scripts in a venv hold absolute ones."""
    state = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in INPUTS}
    state.update(root=str(ROOT), venv=str(venv), gpu=gpu)
    if gpu != "none":
        state.update({name: os.environ.get(name, "") for name in GPU_VARIABLES})
    return json.dumps(state, indent=2) + "\n"


class Pin(NamedTuple):
    """A line of a lock: a version, and the files that it may be installed from."""

    version: str
    requirement: str


def read_lock(lock: Path) -> dict[str, Pin]:
    """The pins by name, in the order of the file."""
    pins = {}
    for line in lock.read_text().replace("\\\n", " ").splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        pin, *hashes = line.split()
        name, separator, version = pin.partition("==")
        known = bool(hashes) or name in BUILT
        if not (separator and known and all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", item) for item in hashes)):
            raise SetupError(
                f"{lock.name} reads {line[:80]!r}; expected name==version and its hashes.\n"
                f"python .ci/lock_hashes.py {lock.name} writes them."
            )
        pins[name] = Pin(version, line)
    return pins


# --- Prerequisites


def missing_prerequisites(python: str) -> list[Missing]:
    """All that is missing at once, each with the one command that provides it (on Debian and its like)."""
    return [*missing_python(python), *missing_java(), *missing_compiler(), *missing_tools()]


def missing_python(python: str) -> Iterator[Missing]:
    package = f"python{PYTHON_VERSION}"
    probe = (
        "import importlib.util, os, sys, sysconfig\n"
        "print('%d.%d' % sys.version_info[:2])\n"
        "print(all(importlib.util.find_spec(name) for name in ('venv', 'ensurepip')))\n"
        "print(os.path.exists(os.path.join(sysconfig.get_path('include'), 'Python.h')))\n"
    )
    output = first_output([python, "-c", probe])
    if output is None:
        yield Missing(
            f"Python {PYTHON_VERSION} ({python!r} does not run)",
            f"sudo apt-get install -y {package}-dev {package}-venv",
        )
        return
    version, has_venv, has_headers = output.split()
    if version != PYTHON_VERSION:
        yield Missing(
            f"Python {PYTHON_VERSION} ({python!r} is {version}; choose another by `make setup PYTHON=...`)",
            f"sudo apt-get install -y {package}-dev {package}-venv",
        )
        return
    if has_venv != "True":
        yield Missing(f"the venv module of {python}", f"sudo apt-get install -y {package}-venv")
    if has_headers != "True":
        yield Missing(f"the C headers of {python} (to build Horovod)", f"sudo apt-get install -y {package}-dev")


def missing_tools() -> Iterator[Missing]:
    if shutil.which("make") is None:
        yield Missing("make", "sudo apt-get install -y make")


# --- The environment


def ensure_venv(python: str, venv: Path) -> None:
    """Keep a working environment of the right Python, else make one; never over files that are not one."""
    if (venv / "pyvenv.cfg").exists():
        probe = "import sys, pip; print('%d.%d' % sys.version_info[:2])"
        output = first_output([str(venv / "bin" / "python"), "-c", probe])
        if output is not None and output.strip() == PYTHON_VERSION:
            return
    elif venv.exists() and any(venv.iterdir()):
        raise SetupError(f"{venv} holds files but is no virtual environment. Remove it, or choose another: VENV=...")
    run([python, "-m", "venv", "--clear", str(venv)])


def remove_half_installed(venv: Path) -> None:
    """Let pip install again what it was killed in the middle of.

    pip writes a package's RECORD last, but takes its METADATA as proof that it is installed.
    """
    for metadata in venv.glob("lib/python*/site-packages/*.dist-info"):
        if not (metadata / "RECORD").exists():
            print(f"    {metadata.name} was left half installed", flush=True)
            shutil.rmtree(metadata)


def check_requirements(venv: Path) -> None:
    command = [str(venv / "bin" / "python"), "-m", "pip", "check"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode == 0:
        return
    complaints = [line for line in done.stdout.splitlines() if line and not STALE_BOUND.match(line)]
    if complaints:
        shown = "\n".join(f"  {line}" for line in complaints)
        raise SetupError(
            f"the installed packages contradict each other:\n{shown}\nCorrect {LOCK.name} or {CUDA_LOCK.name}."
        )


def smoke_test(venv: Path, gpu: str) -> None:
    # Away from the checkout, so that nothing is imported from the working directory.
    with tempfile.TemporaryDirectory(prefix="nightjar-smoke-") as elsewhere:
        run([str(venv / "bin" / "python"), "-W", "ignore", "-c", SMOKE_TEST, gpu], cwd=elsewhere)


def torch_version(venv: Path) -> str | None:
    """As installed, its build included; torch is not imported, since a CUDA build needs libraries for that."""
    for metadata in venv.glob("lib/python*/site-packages/torch-*.dist-info"):
        return metadata.name.removeprefix("torch-").removesuffix(".dist-info")
    return None


def offered(venv: Path, pin: Pin) -> bool:
    """Whether it is installed, or some index that pip asks has a file for this machine."""
    if torch_version(venv) == pin.version:
        return True
    command = [str(venv / "bin" / "python"), "-m", "pip", "download", "-q", "--no-deps", "--require-hashes"]
    with tempfile.TemporaryDirectory(prefix="nightjar-torch-") as scratch:
        command += ["--dest", scratch, "-r", "/dev/stdin"]
        done = subprocess.run(command, input=pin.requirement, text=True, stderr=subprocess.PIPE)
    if done.returncode and "No matching distribution found" not in done.stderr:
        raise SetupError(f"pip could not fetch torch {pin.version}:\n{done.stderr.strip()}")
    return done.returncode == 0


# --- Running commands


def install(venv: Path, pins: Iterable[Pin]) -> None:
    """Install exactly these files: one whose hash the lock does not know is refused, and no dependency is asked for."""
    lines = "\n".join(pin.requirement for pin in pins)
    pip(venv, "install", "-q", "--no-deps", "--require-hashes", "-r", "/dev/stdin", stdin=lines)


def pip(venv: Path, *arguments: str, stdin: str | None = None) -> None:
    env = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    run([str(venv / "bin" / "python"), "-m", "pip", *arguments], env=env, stdin=stdin)


def run(
    command: Sequence[str],
    *,
    cwd: str | None = None,
    env: dict[str, str] | None = None,
    stdin: str | None = None,
) -> None:
    code = subprocess.run(command, cwd=cwd, env=env, input=stdin, text=True).returncode
    if code:
        shown = " ".join(command if len(" ".join(command)) < 300 else [*command[:3], "..."])
        raise SetupError(f"`{shown}` ended with status {code} (its messages are above)")


@contextmanager
def step(title: str) -> Iterator[None]:
    print(f"==> {title}", flush=True)
    start = time.monotonic()
    yield
    print(f"    {time.monotonic() - start:.0f} s", flush=True)


if __name__ == "__main__":
    sys.exit(main())
