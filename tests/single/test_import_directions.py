"""Who may import whom, by reading the source and by importing in a fresh process."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("features", "training", "serving", "jobs")
CONTRACT = ("features/contract", "features/encoder")  # what training and serving may know of features
SPARK_FREE = (*CONTRACT, "training", "serving")


@cache
def imports(path: Path) -> frozenset[str]:
    """Absolute names of the modules that a file imports, anywhere in it, except for type checkers only."""
    found: set[str] = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    package = ".".join(("nightjar", *path.relative_to(ROOT).parts[:-1]))
    for node in _executed(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.rsplit(".", node.level - 1)[0] if node.level > 1 else package
            module = f"{base}.{node.module}".rstrip(".") if node.level else str(node.module)
            found.update(f"{module}.{alias.name}" for alias in node.names)
    return frozenset(found)


def _executed(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes below, without the bodies of `if TYPE_CHECKING:`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from _executed(child)


def files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def importers(*modules: str) -> set[str]:
    """Files that import one of the modules, or something of it."""
    return {
        str(path.relative_to(ROOT))
        for path in files(*PACKAGES)
        if any(f"{name}.".startswith(f"{module}.") for name in imports(path) for module in modules)
    }


def namers(pattern: str) -> set[str]:
    """Files with a string that the pattern matches: a module may be started by its name, and not imported."""
    return {
        str(path.relative_to(ROOT))
        for path in files(*PACKAGES)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and re.search(pattern, node.value)
    }


def within(*folders: str) -> set[str]:
    return {str(path.relative_to(ROOT)) for path in files(*folders)}


def ours(*folders: str) -> tuple[str, ...]:
    return tuple("nightjar." + folder.replace("/", ".") for folder in folders)


def test_the_walk_finds_every_package():
    assert all(files(package) for package in PACKAGES)


def test_nothing_is_imported_but_by_its_full_name():
    assert importers(*PACKAGES, "tests", "benchmarks") == set()


def test_nobody_imports_a_job():
    assert importers(*ours("jobs")) <= within("jobs")


def test_no_job_imports_an_entry_point_of_another():
    entry_points = [path.stem for path in (ROOT / "jobs").glob("*_*.py") if not path.stem.startswith("__")]
    assert importers(*ours(*(f"jobs/{name}" for name in entry_points))) == set()


def test_features_import_neither_training_nor_serving():
    assert not importers(*ours("training", "serving")) & within("features")


def test_training_and_serving_do_not_import_each_other():
    assert not importers(*ours("serving")) & within("training")
    assert not importers(*ours("training")) & within("serving")


@pytest.mark.parametrize("folder", SPARK_FREE)
def test_of_features_only_the_contract_and_the_encoder_are_seen_by(folder: str):
    allowed = tuple(f"{name}." for name in ours(*CONTRACT))
    seen = {
        (str(path.relative_to(ROOT)), name)
        for path in files(folder)
        for name in imports(path)
        if f"{name}.".startswith("nightjar.features.") and not f"{name}.".startswith(allowed)
    }
    assert seen == set()


def test_the_contract_does_not_import_the_encoder():
    assert importers(*ours("features/encoder")) & within("features/contract") <= {"features/contract/metrics/sums.py"}


ROOMS_OF_SERVING = ("evaluation", "explain", "gate", "packing", "replay", "reports", "server", "sums")
# What each room may know of the others; what downstream imports, in the top folder, is known to all and knows one: a
# model explains its scores.
KNOWN_ROOMS = {
    ".": ("explain",),
    "sums": (),
    "evaluation": ("sums",),
    "explain": (),
    "packing": (),
    "replay": (),
    "server": ("explain",),
    "gate": ("packing", "sums"),
    "reports": ("evaluation", "gate", "packing"),
}


def test_every_room_of_serving_has_its_place_in_the_order():
    assert {path.parent.name for path in (ROOT / "serving").glob("*/__init__.py")} == set(ROOMS_OF_SERVING)


@pytest.mark.parametrize("room", KNOWN_ROOMS)
def test_a_room_of_serving_knows_only_those_below_it(room: str):
    own = [path for path in files(f"serving/{room}") if room != "." or path.parent == ROOT / "serving"]
    hidden = [f"serving/{other}" for other in ROOMS_OF_SERVING if other not in KNOWN_ROOMS[room]]
    unknown = tuple(f"{name}." for name in ours(*hidden))
    seen = {
        (str(path.relative_to(ROOT)), name)
        for path in own
        for name in imports(path)
        if f"{name}.".startswith(unknown) and not f"{name}.".startswith(f"nightjar.serving.{room}.")
    }
    assert own
    assert seen == set()


def test_pages_are_drawn_in_one_room():
    drawing = importers("jinja2", "markupsafe", "matplotlib")
    assert {name for name in drawing if not name.startswith("serving/reports/")} == set()


def test_pyspark_stays_in_features_spark_rooms_and_in_jobs():
    assert not importers("pyspark", "py4j") & within(*SPARK_FREE)


def test_one_file_imports_horovod_and_one_petastorm():
    assert importers("horovod") == {"training/run/collective.py"}
    assert namers(r"horovod\.\w|\bHOROVOD_") == {"training/run/collective.py"}
    assert importers("petastorm") == {"training/data/loader.py"}


def test_one_file_builds_the_spark_session():
    building = {
        str(path.relative_to(ROOT))
        for path in files(*PACKAGES)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr == "builder" and "SparkSession" in ast.unparse(node.value)
    }
    assert building == {"jobs/common/spark_session.py"}


# What downstream imports, and what it does not have or need.
DOWNSTREAM = ("", ".model", ".tables", ".arrays", ".encoded", ".registry")
FOREIGN_TO_DOWNSTREAM = {"torch", "pyspark", "horovod", "petastorm", "sklearn", "scipy", "matplotlib", "jinja2", "rich"}
FOREIGN_TO_DOWNSTREAM |= {"prometheus_client", "pandas", "onnx", "starlette", "uvicorn"}
FOREIGN_TO_DOWNSTREAM |= {f"nightjar.serving.{room}" for room in ROOMS_OF_SERVING if room not in KNOWN_ROOMS["."]}


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        ("nightjar.training.step.step", {"pyspark", "petastorm", "horovod"}),
        *((f"nightjar.serving{module}", FOREIGN_TO_DOWNSTREAM) for module in DOWNSTREAM),
        ("nightjar.training.config", {"torch", "numba", "pyspark", "matplotlib"}),
    ],
)
def test_importing_a_module_loads_none_of(module: str, forbidden: set[str]):
    program = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not set(done.stdout.split()) & forbidden
