"""A page read strictly: its tags, ids and text."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from itertools import pairwise

VOID = {"meta", "link", "br", "img"}
NAMESPACES = ("http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink")  # names, and nothing that is fetched


class Page(HTMLParser):
    """Collects tags, ids and text, and fails where tags are not nested as they should be."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.drawings: list[str] = []
        """What a screen reader says of each plot, ornaments left out."""
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "svg":
            self._see_drawing(dict(attrs))
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def _see_drawing(self, own: dict[str, str | None]) -> None:
        """An svg is an ornament, or the element around it is an image with a name."""
        _, around = self.tags[-1]
        if own.get("aria-hidden") == "true" or around.get("aria-hidden") == "true":
            return
        assert around.get("role") == "img"
        assert around["aria-label"]
        self.drawings.append(around["aria-label"])

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def require_self_contained(text: str) -> None:
    """Nothing comes from elsewhere, and what points into the page finds its target once."""
    foreign = text
    for namespace in NAMESPACES:
        foreign = foreign.replace(f'="{namespace}"', "")
    assert not re.search(r"https?:|//[a-z]|@import|<script|<link|<img", foreign)
    ids = re.findall(r' id="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:href="|url\()#([^")]+)', text)) <= set(ids)


def require_accessible(page: Page) -> None:
    """Headings without gaps, cells with a scope, labels that exist. (Of drawings, Page itself asks for a name.)"""
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert all(attributes.get("scope") in ("col", "row") for tag, attributes in page.tags if tag == "th")
    ids = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    assert {a["aria-labelledby"] for _, a in page.tags if "aria-labelledby" in a} <= ids
