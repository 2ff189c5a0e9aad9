"""The command lines on the pages are such as `nightjar` and make take."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from nightjar.cli.verbs import command
from tests.kits.pages import PATHS, ROOT, Page

LINES = sorted(
    {
        line.strip()
        for path in PATHS
        for block in Page(path).blocks("sh")
        for line in block.replace("\\\n", " ").splitlines()
        if re.match(r"(\.venv/bin/)?nightjar ", line.strip())
    }
)
MENTIONED = sorted(
    {code for path in PATHS for code in Page(path).code() if re.fullmatch(r"nightjar [a-z][^\n]*", code)}
)


def verb(words: list[str]) -> tuple[click.Command, list[str]]:
    """The command that a line calls, and the words after its name."""
    found: click.Command = command()
    while isinstance(found, click.Group) and words:
        below = found.get_command(click.Context(found), words[0])
        assert below is not None, f"{found.name} has no verb {words[0]!r}"
        found, words = below, words[1:]
    return found, words


@pytest.mark.parametrize("line", LINES)
def test_a_line_of_a_block_is_complete(line: str) -> None:
    called, words = verb(shlex.split(line, comments=True)[1:])
    called.make_context(called.name, words)


@pytest.mark.parametrize("text", MENTIONED)
def test_a_verb_that_is_mentioned_is_there_with_its_options(text: str) -> None:
    called, words = verb(shlex.split(text)[1:])
    known = {flag for option in called.params for flag in option.opts}
    open_ended = called.context_settings.get("ignore_unknown_options")
    assert open_ended or {word for word in words if word.startswith("--")} <= known


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_every_target_that_is_mentioned_is_one_of_make(path: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    text = "\n".join(Page(path).code())
    assert set(re.findall(r"\bmake ([a-z]+)", text)) <= targets


def test_the_pages_show_lines() -> None:
    assert len(LINES) > 8
    assert len(MENTIONED) > 5
