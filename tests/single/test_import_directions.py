"""Who may import whom, by reading the source and by importing in a fresh process."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("features", "training", "serving", "jobs")
CONTRACT = {
    "admission",
    "categorical",
    "errors",
    "spec",
    "layout",
    "manifest",
    "metrics",
    "ragged",
    "storage",
    "dense",
    "encoder",
    "frequency",
    "hashing",
    "rows",
    "state",
    "summary",
}
SPARK_FREE = ("training", "serving")


@cache
def imports(path: Path) -> frozenset[str]:
    """Absolute names of the modules that a file imports, anywhere in it, except for type checkers only."""
    found: set[str] = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    package = ".".join(path.relative_to(ROOT).parts[:-1])
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


def files(*packages: str) -> list[Path]:
    return sorted(path for package in packages for path in (ROOT / package).rglob("*.py"))


def importers(*modules: str) -> set[str]:
    """Files that import one of the top-level modules."""
    return {
        str(path.relative_to(ROOT))
        for path in files(*PACKAGES)
        if any(name.partition(".")[0] in modules for name in imports(path))
    }


def within(*packages: str) -> set[str]:
    return {str(path.relative_to(ROOT)) for path in files(*packages)}


def test_the_walk_finds_every_package():
    assert all(files(package) for package in PACKAGES)


def test_nobody_imports_a_job():
    assert importers("jobs") <= within("jobs")


def test_features_import_neither_training_nor_serving():
    assert not importers("training", "serving") & within("features")


def test_training_and_serving_do_not_import_each_other():
    assert not importers("serving") & within("training")
    assert not importers("training") & within("serving")


@pytest.mark.parametrize("package", SPARK_FREE)
def test_training_and_serving_see_only_the_contract_and_the_encoder(package: str):
    seen = {
        (str(path.relative_to(ROOT)), name.split(".")[1])
        for path in files(package)
        for name in imports(path)
        if name.startswith("features.")
    }
    assert {(path, module) for path, module in seen if module not in CONTRACT} == set()


@pytest.mark.parametrize("module", sorted(CONTRACT))
def test_the_contract_and_the_encoder_import_only_each_other(module: str):
    own = {name.split(".")[1] for name in imports(ROOT / f"features/{module}.py") if name.startswith("features.")}
    assert own <= CONTRACT


def test_pyspark_stays_in_features_spark_rooms_and_in_jobs():
    spark_free = within(*SPARK_FREE) | {f"features/{module}.py" for module in CONTRACT}
    assert not importers("pyspark", "py4j") & spark_free


def test_one_file_imports_horovod_and_one_petastorm():
    assert importers("horovod") == {"training/collective.py"}
    assert importers("petastorm") == {"training/data.py"}


def test_one_file_builds_the_spark_session():
    building = {
        str(path.relative_to(ROOT))
        for path in files(*PACKAGES)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr == "builder" and "SparkSession" in ast.unparse(node.value)
    }
    assert building == {"jobs/spark_session.py"}


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        ("training.step", {"pyspark", "petastorm", "horovod"}),
        ("serving", {"torch", "pyspark", "horovod", "petastorm", "sklearn", "matplotlib"}),
    ],
)
def test_importing_a_module_loads_none_of(module: str, forbidden: set[str]):
    program = f"import sys, {module}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not set(done.stdout.split()) & forbidden
