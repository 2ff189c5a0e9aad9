"""The card of a model: what its night left, in Markdown that no value of a log breaks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from nightjar.features.contract.manifests import ArtifactManifest, StateManifest
from nightjar.features.contract.publishing import read_manifest
from nightjar.jobs import promote_model
from nightjar.serving.packing.pack import pack
from nightjar.serving.reports import model_card
from nightjar.serving.reports.night_report import draw
from nightjar.serving.reports.nights import NightFindings, gather
from tests.kits.html_page import Page
from tests.kits.night_kit import GOOD, STOPPED, make_night, validate
from tests.kits.serving.serving_kit import make_world

VERSION = f"{GOOD}-wide_deep-key"


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("root") / "out"
    make_night(output, GOOD, seed=1)
    validate(output, STOPPED, passed=False)
    assert draw(str(output)).problems == ()
    return output


def night_of(output: Path) -> NightFindings:
    return next(night for night in gather(str(output)).nights if night.date == GOOD)


def card_of(output: Path, night: NightFindings) -> str:
    artifact = output / "models" / VERSION
    fitted = read_manifest(str(artifact / "encoder"), StateManifest)
    return model_card.render(VERSION, read_manifest(str(artifact), ArtifactManifest), fitted, night)


def table(card: str, heading: str) -> list[list[str]]:
    """The cells below the head of the first table under a heading."""
    lines = card.split(f"\n## {heading}\n")[1].split("\n## ")[0].splitlines()
    rows = [line for line in lines if line.startswith("|")]
    return [[cell.strip() for cell in row[1:-1].split(" | ")] for row in rows[2:]]


def test_the_card_has_the_figures_that_the_night_left(output: Path) -> None:
    card, night = (output / "reports" / f"{GOOD}-card.md").read_text(), night_of(output)
    assert card == card_of(output, night)
    assert night.evaluation
    assert night.decision
    days = {row[0]: row[1:] for row in table(card, "Days and rows")}
    assert days[f"log of {GOOD}"] == [GOOD, "1,230 rows, 56 positives"]
    assert days["wide_deep trained on"] == ["3 epochs", "2,331 rows"]
    assert days["learned through"][0] == "2024-05-02"
    metrics = {row[0]: row for row in table(card, "Metrics")}
    assert metrics["wide_deep"][1] == f"{night.evaluation.models['wide_deep'].metrics.log_loss:.5f}"
    assert set(metrics) == {"wide_deep", "champion before"}
    slices = {row[0] for row in table(card, "Against the champion before")}
    assert slices == {part.name or "all rows" for part in night.decision.parts if any(f.interval for f in part.figures)}
    overall = next(f for f in night.decision.parts[0].figures if f.metric == "log_loss")
    assert overall.interval
    (row,) = [r for r in table(card, "Against the champion before") if r[0] == "all rows" and r[2] == "Log loss"]
    assert row[3:] == [f"{overall.difference:+.5f}", f"{overall.interval[0]:+.5f} to {overall.interval[1]:+.5f}"]
    lowest, *_, highest = table(card, "Calibration")
    deciles = night.evaluation.models["wide_deep"].deciles
    assert float(lowest[1]) == pytest.approx(deciles[0].mean_score, rel=5e-4), "four digits, however rare"
    assert float(highest[2]) == pytest.approx(deciles[-1].mean_label, rel=5e-4)
    assert len(table(card, "Calibration")) == 10
    assert {row[0] for row in table(card, "Inputs")} >= {"`item_id`", "`pair_impressions_so_far`"}
    assert {row[0]: row[1] for row in table(card, "Lineage")}["digest of state"]


def test_a_nights_page_leads_to_the_card_of_its_model_if_there_is_one(output: Path) -> None:
    assert f"{GOOD}-card.md" in (output / "reports" / f"{GOOD}.html").read_text()
    assert "Model card" in Page((output / "reports" / f"{GOOD}.html").read_text()).text
    assert not (output / "reports" / f"{STOPPED}-card.md").exists()
    assert "Model card" not in (output / "reports" / f"{STOPPED}.html").read_text()


def test_the_card_is_drawn_again_byte_by_byte_and_printed_by_version(
    output: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = output / "reports" / f"{GOOD}-card.md"
    before = file.read_bytes()
    draw(str(output))
    assert file.read_bytes() == before
    monkeypatch.chdir(output)
    for models in (str(output / "models"), "models", "models/"):
        assert promote_model.main(["card", VERSION, "--models", models]) == 0
        assert capsys.readouterr().out.encode() == before
    assert promote_model.main(["card", "nothing", "--models", "models"]) == 2


def test_an_artifact_that_no_night_made_has_a_card_of_what_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world = make_world(tmp_path / "world")
    pack(world.candidate, world.state, world.holdout, str(tmp_path / "models" / "mine"))
    assert promote_model.main(["card", "mine", "--models", str(tmp_path / "models")]) == 0
    card = capsys.readouterr().out
    assert [line for line in card.splitlines() if line.startswith("## ")] == [
        "## Days and rows",
        "## Inputs",
        "## Limits",
        "## Lineage",
    ]


def test_values_of_a_log_are_text_in_a_card(output: Path) -> None:
    night = night_of(output)
    assert night.decision
    part = night.decision.parts[1].model_copy(update={"name": "device=<b>a|b\n## *x* [y](z)`"})
    decision = night.decision.model_copy(update={"parts": (night.decision.parts[0], part)})
    card = card_of(output, replace(night, decision=decision))
    assert table(card, "Against the champion before")[-1][0] == r"device=&lt;b&gt;a\|b ## \*x\* \[y\](z)\`"
