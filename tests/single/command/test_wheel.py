"""The wheel where only the base dependencies are installed, beside a project with packages of our folders' names.

Needs no network: the wheel is built without isolation, installed without its dependencies into an empty folder, and
the libraries are links to those of the tests' own environment.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from nightjar.serving.packing.pack import pack
from tests.kits.serving.serving_kit import make_world

ROOT = Path(__file__).resolve().parents[3]
SOURCES = ("nightjar", "features", "training", "serving", "jobs", "pyproject.toml", "README.md")
FOREIGN = ("features", "training", "serving", "jobs")
# The base dependencies of pyproject.toml, and what they import themselves.
BASE = (
    "click",
    "fsspec",
    "numpy",
    "numpy.libs",
    "onnxruntime",
    "pyarrow",
    "pydantic",
    "pydantic_core",
    "yaml",
    "_yaml",
)
BASE += ("xxhash", "annotated_types", "typing_extensions", "typing_inspection", "google", "flatbuffers")

SCORE = """
import features, jobs, serving, training
assert features.MINE and jobs.MINE and serving.MINE and training.MINE
import sys, numpy as np, pyarrow.parquet as pq, nightjar
artifact = sys.argv[1]
rows = pq.read_table(f"{artifact}/golden/raw.parquet")
np.testing.assert_allclose(nightjar.load(artifact).score(rows), np.load(f"{artifact}/golden/scores.npy"), atol=1e-5)
print(nightjar.__file__)
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources, links as links: setuptools would take what an earlier build has left in build/."""
    copy = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, copy / name)
    return copy


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(source, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def project(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's project, and beside it `site`: the wheel and the base dependencies, nothing else."""
    place = tmp_path_factory.mktemp("installed")
    pip("install", "--no-deps", "--target", place / "site", wheel)
    libraries = Path(sysconfig.get_path("purelib"))
    for library in (libraries / file for name in BASE for file in (name, f"{name}.py")):
        if library.exists():
            (place / "site" / library.name).symlink_to(library)
    for name in FOREIGN:
        (place / "project" / name).mkdir(parents=True)
        (place / "project" / name / "__init__.py").write_text("MINE = True\n")
    return place / "project"


def pip(*arguments: str | Path) -> None:
    subprocess.run([sys.executable, "-m", "pip", "-q", *map(str, arguments)], check=True, capture_output=True)


def built(source: Path, folder: Path) -> Path:
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, source)
    [wheel] = folder.glob("*.whl")
    return wheel


def python(project: Path, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run Python in the project. -S: without the site-packages that the interpreter would add."""
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join((str(project), str(project.parent / "site"))),
    }
    command = [sys.executable, "-S", *arguments]
    return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)


def test_the_wheel_holds_every_module_and_template_and_no_test(wheel: Path):
    names = set(zipfile.ZipFile(wheel).namelist())
    packaged = {name for name in names if ".dist-info/" not in name}
    modules = [*ROOT.glob("nightjar/*.py"), *ROOT.glob("nightjar/cli/*.py")]
    expected = {str(path.relative_to(ROOT)) for path in modules}
    expected |= {f"nightjar/{path.relative_to(ROOT)}" for folder in FOREIGN for path in (ROOT / folder).rglob("*.py")}
    expected |= {f"nightjar/{path.relative_to(ROOT)}" for path in ROOT.glob("serving/reports/templates/*.html")}
    expected |= {f"nightjar/{path.relative_to(ROOT)}" for path in ROOT.glob("serving/server/page/*")}
    assert packaged == expected
    assert any(name.endswith(".html") for name in names)


def test_an_artifact_is_scored_beside_foreign_packages_of_the_same_names(project: Path, tmp_path: Path):
    world = make_world(tmp_path)
    artifact = str(tmp_path / "artifact")
    pack(world.candidate, world.state, world.holdout, artifact)
    done = python(project, ["-c", SCORE, artifact])
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{project.parent / 'site' / 'nightjar' / '__init__.py'}\n"


def test_the_libraries_of_training_cannot_be_reached_there(project: Path):
    for library in ("torch", "pyspark", "pandas", "horovod"):
        assert "ModuleNotFoundError" in python(project, ["-c", f"import {library}"]).stderr


@pytest.mark.parametrize(
    "arguments", [["-m", "nightjar", "--version"], ["-m", "nightjar", "night", "--help"], ["-m", "nightjar", "doctor"]]
)
def test_the_command_answers_there(project: Path, arguments: list[str]):
    done = python(project, arguments)
    assert "Traceback" not in done.stderr
    assert done.stdout


@pytest.mark.parametrize("command", [["nightjar", "models"], ["nightjar.jobs.promote_model"]])
def test_models_are_listed_there(project: Path, command: list[str], tmp_path: Path):
    done = python(project, ["-m", *command, "list", "--models", str(tmp_path)])
    assert (done.returncode, done.stdout) == (0, f"no champion; 0 published versions in {tmp_path}\n"), done.stderr


def test_the_sdist_makes_the_same_wheel(source: Path, wheel: Path, tmp_path: Path):
    program = f"from setuptools.build_meta import build_sdist; build_sdist({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", program], cwd=source, check=True, capture_output=True)
    [archive] = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path, filter="data")
    [unpacked] = (path for path in tmp_path.iterdir() if path.is_dir())
    again = built(unpacked, tmp_path / "wheel")
    names = [sorted(zipfile.ZipFile(path).namelist()) for path in (wheel, again)]
    assert names[0] == names[1]
