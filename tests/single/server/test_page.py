"""The page at /: a row is scored and explained in a browser, and nothing comes from elsewhere."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
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


async def done_in(url: str, profile: Path, script: str) -> Any:
    """What a script of the browser's own protocol gives on a page; it may be a promise."""
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", f"--user-data-dir={profile}"]
    command = [str(CHROMIUM), *options, "--remote-debugging-port=0", url]
    browser = await asyncio.create_subprocess_exec(*command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        told = profile / "DevToolsActivePort"
        while not (told.exists() and len(told.read_text().splitlines()) == 2):
            await asyncio.sleep(0.05)
        port = told.read_text().splitlines()[0]
        async with aiohttp.ClientSession() as session:
            pages: list[dict[str, str]] = []
            while not pages:
                async with session.get(f"http://127.0.0.1:{port}/json/list") as found:
                    pages = [page for page in await found.json() if page["type"] == "page" and page["url"] == url]
            async with session.ws_connect(pages[0]["webSocketDebuggerUrl"]) as protocol:
                while await evaluated(protocol, "location.href + document.readyState") != f"{url}complete":
                    await asyncio.sleep(0.05)
                return await evaluated(protocol, script)
    finally:
        browser.terminate()
        await browser.wait()


async def evaluated(protocol: aiohttp.ClientWebSocketResponse, script: str) -> Any:
    asked = {"expression": script, "awaitPromise": True, "returnByValue": True}
    await protocol.send_json({"id": 1, "method": "Runtime.evaluate", "params": asked})
    answer = await protocol.receive_json()
    assert "value" in answer.get("result", {}).get("result", {}), answer
    return answer["result"]["result"]["value"]


CHANGE_AND_CLICK = """
(async () => {
  const until = async (ready) => { while (!ready()) await new Promise((go) => setTimeout(go, 20)); };
  await until(() => document.querySelectorAll("#columns tr").length === COUNT && !of("ask").disabled);
  const row = (name) => document.querySelector(`tr[data-column=${name}]`);
  const set = (name, kind, text) => {
    row(name).querySelector("select").value = kind;
    row(name).querySelector("select").dispatchEvent(new Event("change"));
    row(name).querySelector("input").value = text;
  };
  set("age", "number", "old");
  of("ask").click();
  await until(() => of("problem").textContent);
  const problem = of("problem").textContent;
  for (const [name, kind, text] of CHANGES) set(name, kind, text);
  of("ask").click();
  await until(() => !of("answer").hidden);
  return [problem, of("probability").dataset.exact, of("contributions").rows.length, of("problem").textContent];
})()
"""


@in_a_browser
def test_a_person_corrects_a_golden_row_and_clicks(
    server: Running, client: Client, models: str, tmp_path: Path
) -> None:
    examples = client.get("/openapi.json").json["components"]["schemas"]["Row"]["examples"]
    changes = [("age", "number", "29.5"), ("user", "text", "3"), ("seen", "list", "[1, 5]"), ("premium", "missing", "")]
    row = examples[0] | {"age": 29.5, "user": "3", "seen": [1, 5], "premium": None}
    script = CHANGE_AND_CLICK.replace("COUNT", str(len(row))).replace("CHANGES", json.dumps(changes))
    url = f"http://127.0.0.1:{server.port}/"
    problem, probability, contributions, left = asyncio.run(asyncio.wait_for(done_in(url, tmp_path, script), 120))
    own = model_of(models, "one").explain(row)
    assert problem == "age: old is no number; write it like 1.5."
    assert (probability, contributions, left) == (str(own.probability), len(own.contributions), "")


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
