"""What the pages name is there: files, modules, keys of a config, places of other pages."""

from __future__ import annotations

import importlib
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from docs.configuration import models_by_path
from tests.kits.pages import PATHS, README, ROOT, Page

FOLDERS = ("features", "training", "serving", "jobs", "nightjar", "tests", "conf", "docs", "benchmarks", ".ci")
FILE = re.compile(r"(?<![\w./{}-])(?:[\w.{}*-]+/)*[\w.{},*-]+\.(?:py|md|sh|env|toml|lock)\b")
FOLDER = re.compile(rf"(?<![\w./<>-])(?:{'|'.join(map(re.escape, FOLDERS))})/[\w./{{}},*-]*")
DOTTED = re.compile(r"(?<![\w./$\"-])(?:nightjar|features|training|serving|jobs)(?:\.\w+)+")

pages = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)


def alternatives(name: str) -> Iterator[str]:
    """`test_{a,b}.py` is two names."""
    braces = re.search(r"\{([^{}]*)\}", name)
    if not braces:
        yield name
        return
    for choice in braces[1].split(","):
        yield from alternatives(name.replace(braces[0], choice, 1))


def is_there(name: str, beside: Path) -> bool:
    """True if a path or pattern, from the repository's root or from the page's folder, has a file or folder."""
    return any(any(base.glob(name.rstrip("/"))) for base in (ROOT, beside))


@cache
def keys() -> frozenset[str]:
    """Paths of everything that a config file may hold."""
    return frozenset(f"{path}.{name}".lstrip(".") for path, model in models_by_path() for name in model.model_fields)


def can_be_imported(name: str) -> bool:
    """True for a module's full name, with or without `nightjar.`, and for what a module or a class of it holds."""
    parts = name.removeprefix("nightjar.").split(".")
    for length in range(len(parts), -1, -1):
        module = "/".join(["nightjar", *parts[:length]])
        if (ROOT / f"{module}.py").is_file() or (ROOT / module / "__init__.py").is_file():
            found = importlib.import_module(module.replace("/", "."))
            for part in parts[length:]:
                found = getattr(found, part, None)
            return found is not None
    return False


@pages
def test_every_file_and_folder_that_a_page_names_is_there(path: Path) -> None:
    text = "\n".join(Page(path).code())
    named = {name for pattern in (FILE, FOLDER) for name in pattern.findall(text)}
    missing = sorted(n for one in named for n in alternatives(one.rstrip(".,:")) if not is_there(n, path.parent))
    assert missing == []


@pages
def test_every_dotted_name_is_a_module_something_of_it_or_a_key(path: Path) -> None:
    named = {name for code in Page(path).code() for name in DOTTED.findall(code)}
    assert sorted(name for name in named - keys() if not can_be_imported(name)) == []


@pages
def test_every_link_leads_somewhere(path: Path) -> None:
    for link in Page(path).links():
        if not link.startswith(("http://", "https://")):
            target, _, anchor = link.partition("#")
            found = (path.parent / target).resolve() if target else path
            assert found.exists(), link
            assert not anchor or anchor in Page(found).anchors(), link


def test_every_page_is_reached_from_the_readme() -> None:
    reached, to_do = set[Path](), [README]
    while to_do:
        page = to_do.pop()
        reached.add(page)
        linked = ((page.parent / link.partition("#")[0]).resolve() for link in Page(page).links() if "://" not in link)
        to_do += [found for found in linked if found.suffix == ".md" and found not in reached]
    assert set(PATHS) - reached == set()


def test_what_the_pages_install_is_declared() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = {
        name for path in PATHS for code in Page(path).code() for name in re.findall(r"(?:nightjar|\.)\[(\w+)\]", code)
    }
    assert {"s3", "mlflow"} <= named <= set(extras)


@pytest.mark.parametrize(
    ("name", "there"),
    [
        ("nightjar.features.contract.storage", True),
        ("features.dataset.build.encode_days", True),
        ("training.step.step", True),
        ("nightjar.features.spec", False),
        ("training.lookup", False),
    ],
)
def test_a_name_is_looked_up_in_modules(name: str, there: bool) -> None:
    assert can_be_imported(name) is there
