"""The page at /: a row is scored and explained in a browser, and nothing comes from elsewhere."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.kits.html_page import Page, require_accessible
from tests.kits.serving.server_kit import Client, Running, json_rows, model_of

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ROWS = json_rows(8, seed=4)
in_a_browser = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")


def shown(url: str, profile: Path) -> str:
    """The page's document once its scripts have come to rest."""
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", f"--user-data-dir={profile}"]
    command = [str(CHROMIUM), *options, "--virtual-time-budget=10000", "--dump-dom", url]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    return done.stdout


def text_of(document: str, name: str) -> str:
    (found,) = re.findall(rf' id="{name}"[^>]*>(.*?)</(?:strong|span|p|tbody|section)>', document, re.DOTALL)
    return re.sub(r"<[^>]+>", " ", found)


@in_a_browser
def test_a_row_in_the_address_is_scored_and_explained(server: Running, models: str, tmp_path: Path) -> None:
    row: dict[str, Any] = ROWS[2] | {"user": "<img src=x onerror=alert(1)>"}
    found = shown(f"http://127.0.0.1:{server.port}/#row={quote(json.dumps(row))}", tmp_path)
    own = model_of(models, "one").explain(row)
    assert f'data-exact="{own.probability}"' in found
    assert text_of(found, "probability") == f"{own.probability:.6f}"
    assert text_of(found, "problem") == ""
    told = text_of(found, "contributions")
    for contribution in own.contributions[:5]:
        assert f"{contribution.logit:+.4f}" in told
    assert "<img" not in found
    assert len(re.findall(r"<tr data-column=", found)) == len(row)


@in_a_browser
def test_a_golden_row_stands_in_the_form_and_a_refusal_is_shown(
    server: Running, client: Client, tmp_path: Path
) -> None:
    examples = client.get("/openapi.json").json["components"]["schemas"]["Row"]["examples"]
    found = shown(f"http://127.0.0.1:{server.port}/", tmp_path / "one")
    assert "one, counters as of 2024-05-03" in text_of(found, "served")
    assert len(re.findall(r"golden row \d", found)) == len(examples)
    assert re.search(r'<section id="answer" hidden', found)
    refused = shown(
        f"http://127.0.0.1:{server.port}/#row={quote(json.dumps(ROWS[0] | {'user': [1]}))}", tmp_path / "two"
    )
    assert "user" in text_of(refused, "problem")
    assert re.search(r'<section id="answer" hidden', refused)


def test_the_page_is_accessible_and_allows_no_foreign_script(client: Client) -> None:
    found = client.get("/")
    page = Page(found.content.decode())
    require_accessible(page)
    policy = found.headers["content-security-policy"]
    assert "default-src 'none'; script-src 'self'; style-src 'self'" in policy
    assert "unsafe" not in policy
    for path in ("/", "/page.js", "/page.css"):
        content = client.get(path).content.decode()
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)|@import|innerHTML|\bstyle=|\bon[a-z]+=", content)
    targets = {a.get("src") or a.get("href") for tag, a in page.tags if tag in ("script", "link", "a")}
    assert targets - {"data:,"} == {"/page.js", "/page.css", "/openapi.json", "/readyz", "/metrics"}
