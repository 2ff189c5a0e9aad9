"""The messages that the troubleshooting page quotes are messages of the code."""

from __future__ import annotations

import ast
from functools import cache

import pytest

from tests.kits.pages import ROOT, Page

MESSAGES = [cell[0] for cell in Page(ROOT / "docs" / "troubleshooting.md").first_cells()]
VALUE = "…"


@cache
def templates() -> tuple[str, ...]:
    """Every string of the code, its values as `…`."""
    folders = ("features", "training", "serving", "jobs", "nightjar", ".ci")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    found = []
    for path in files:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                found.append("".join(str(v.value) if isinstance(v, ast.Constant) else VALUE for v in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return tuple(found)


def says(template: str, message: str) -> bool:
    """True if the message's constant parts are in the template, in their order."""
    place = 0
    for part in filter(None, (part.strip() for part in message.split(VALUE))):
        place = template.find(part, place)
        if place < 0:
            return False
        place += len(part)
    return True


@pytest.mark.parametrize("message", MESSAGES)
def test_every_message_is_in_the_code(message: str) -> None:
    assert len(message.replace(VALUE, "").strip()) > 12, "too short to be told apart"
    assert any(says(template, message) for template in templates())


def test_the_page_has_many_messages_each_once() -> None:
    assert len(MESSAGES) > 60
    assert len(set(MESSAGES)) == len(MESSAGES)


@pytest.mark.parametrize(
    ("message", "found"),
    [("… has no champion", True), ("no champion … has", False), ("has no … champion", True), ("has a champion", False)],
)
def test_parts_are_looked_for_in_their_order(message: str, found: bool) -> None:
    assert says(f"{VALUE} has no champion.", message) is found
