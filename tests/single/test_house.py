"""The house stays small: no long module, no crowded folder."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("features", "training", "serving", "jobs", "nightjar/cli", "tests", "benchmarks", ".ci")
LINES, MODULES = 350, 15


def modules() -> list[Path]:
    """Every module, links not followed."""
    return sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))


def test_the_walk_finds_every_room():
    assert {path.relative_to(ROOT).parts[0] for path in modules()} == {room.partition("/")[0] for room in ROOMS}


@pytest.mark.parametrize("room", ROOMS)
def test_no_module_is_long(room: str):
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in (ROOT / room).rglob("*.py")}
    assert {path: lines for path, lines in lengths.items() if lines > LINES} == {}


def test_no_folder_is_crowded():
    crowds = Counter(str(path.parent.relative_to(ROOT)) for path in modules() if path.name != "__init__.py")
    assert {folder: count for folder, count in crowds.items() if count > MODULES} == {}
