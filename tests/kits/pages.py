"""The project's pages, taken apart: README, ARCHITECTURE and docs/."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
PATHS = (README, ROOT / "ARCHITECTURE.md", *sorted((ROOT / "docs").glob("*.md")))


@dataclass(frozen=True)
class Page:
    """A Markdown file."""

    path: Path

    @cached_property
    def _blocks(self) -> list[Token]:
        return MarkdownIt("commonmark").enable("table").parse(self.path.read_text(encoding="utf-8"))

    def blocks(self, language: str) -> list[str]:
        """Contents of the fenced blocks of a language."""
        return [block.content for block in self._blocks if block.type == "fence" and block.info == language]

    def code(self) -> Iterator[str]:
        """Every code span and every block."""
        for block in self._blocks:
            if block.type == "fence":
                yield block.content
            yield from (token.content for token in block.children or () if token.type == "code_inline")

    def links(self) -> list[str]:
        """Targets of all links."""
        inline = (token for block in self._blocks for token in block.children or ())
        return [str(token.attrGet("href")) for token in inline if token.type == "link_open"]

    def anchors(self) -> set[str]:
        """Where a link can lead to within the page, by GitHub's rule."""
        following = zip(self._blocks, self._blocks[1:], strict=False)
        titles = [text.content for block, text in following if block.type == "heading_open"]
        return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}

    def first_cells(self) -> Iterator[list[str]]:
        """Of every row of every table: the code spans of its first cell."""
        row = -1
        for block, inline in zip(self._blocks, self._blocks[1:], strict=False):
            row = 0 if block.type == "tr_open" else row + (block.type == "td_open")
            if block.type == "td_open" and row == 1:
                yield [token.content for token in inline.children or () if token.type == "code_inline"]
