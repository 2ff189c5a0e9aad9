"""Install the wheel in fresh environments, one a Python, and score there with the newest libraries: `make compat`.

    python compat.py --output build/nightly [--python python3.12 ...]

Takes the champion of an output of nights and its golden rows. Scores must be the artifact's to 1e-5, and ids those that
Spark wrote, to the bit. Nothing of the trainer is installed. Needs a package index; standard library only.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("nightjar", "features", "training", "serving", "jobs", "pyproject.toml", "README.md")
FOREIGN = ("features", "training", "serving", "jobs")
MINORS = range(11, 16)


class CompatError(Exception):
    """What keeps the check from running, or what it found."""


def main(argv: Sequence[str] | None = None) -> int:
    """Check every interpreter, also after one has failed; 1 if any has."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("build/nightly"), help="what nights have published in")
    parser.add_argument("--python", nargs="+", help="interpreters; default: every Python 3.11 or later that is found")
    args = parser.parse_args(argv)
    failed = []
    try:
        artifact, encoded = golden(args.output)
        with tempfile.TemporaryDirectory(prefix="nightjar-compat-") as folder:
            wheel = build_wheel(Path(folder))
            for python in args.python or list(interpreters()):
                print(f"==> {python}", flush=True)
                try:
                    check(python, wheel, Path(folder), artifact, encoded)
                except CompatError as error:
                    print(f"    failed: {error}", flush=True)
                    failed.append(python)
    except CompatError as error:
        print(f"compat: error: {error}", file=sys.stderr)
        return 1
    print(f"failed: {', '.join(failed)}" if failed else "every Python scores as the trainer did")
    return 1 if failed else 0


def golden(output: Path) -> tuple[Path, Path]:
    """The champion's artifact, and its golden rows as Spark encoded them."""
    pointer = output / "models" / "champion.json"
    if not pointer.exists():
        raise CompatError(f"there is no {pointer}. Run `make nightly`, or give the --output of nights.")
    artifact = pointer.parent / json.loads(pointer.read_text())["version"]
    rows = sorted(output.glob(f"datasets/holdout-{artifact.name[:10]}-*/golden/encoded.parquet"))
    if not rows:
        raise CompatError(f"{output}/datasets does not hold the hold-out of {artifact.name} any more.")
    return artifact.absolute(), rows[-1].absolute()


def interpreters() -> Iterator[str]:
    """One of every minor version: from the PATH, else pyenv's latest."""
    for minor in MINORS:
        found = shutil.which(f"python3.{minor}")
        installed = sorted(Path.home().glob(f".pyenv/versions/3.{minor}.*/bin/python"))
        for python in [*([found] if found else []), *map(str, reversed(installed))]:
            if subprocess.run([python, "-c", "import ensurepip, venv"], capture_output=True).returncode == 0:
                yield python
                break


def build_wheel(folder: Path) -> Path:
    """Build from a copy: setuptools would take what an earlier build has left in build/."""
    copy = folder / "source"
    for name in SOURCES:
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=ignored)
        else:
            shutil.copy(ROOT / name, copy / name)
    run([sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, copy])
    return next(folder.glob("*.whl"))


def check(python: str, wheel: Path, folder: Path, artifact: Path, encoded: Path) -> None:
    """Install the wheel, score, and call the command, beside a project that has packages with our folders' names."""
    place = Path(tempfile.mkdtemp(dir=folder))
    project = place / "project"
    for name in FOREIGN:
        (project / name).mkdir(parents=True)
        (project / name / "__init__.py").write_text("MINE = True\n")
    shutil.copy(ROOT / ".ci" / "score_golden.py", project)
    run([python, "-m", "venv", place / "venv"])
    binaries = place / "venv" / "bin"
    run([binaries / "python", "-m", "pip", "install", "-q", "--disable-pip-version-check", wheel])
    run([binaries / "python", "score_golden.py", artifact, encoded], project)
    run([binaries / "nightjar", "--version"], project)
    run([binaries / "nightjar", "models", "list", "--models", artifact.parent], project)
    run([binaries / "nightjar", "doctor"], project)
    shutil.rmtree(place)


def run(command: Sequence[str | Path], cwd: Path | None = None) -> None:
    """Print what a command says, indented. Raises CompatError if it fails."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    for line in done.stdout.splitlines():
        print(f"    {line}", flush=True)
    if done.returncode:
        raise CompatError(f"{' '.join(map(str, command))} ended with status {done.returncode}")


if __name__ == "__main__":
    sys.exit(main())
