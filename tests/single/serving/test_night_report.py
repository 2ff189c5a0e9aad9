"""The pages of nights: made from what is published alone, whatever of it is there."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from nightjar.features.contract.artifact_files import CHAMPION, DECISION, DRY_RUN
from nightjar.features.contract.manifests import NightManifest, ValidationCheck
from nightjar.features.contract.publishing import begin, commit
from nightjar.jobs.render_reports import main
from nightjar.serving import registry
from nightjar.serving.gate.decision import MetricComparison, PartMetrics
from nightjar.serving.reports import trends
from nightjar.serving.reports.night_report import draw, write
from nightjar.serving.reports.nights import NightFindings, gather
from tests.kits.html_page import Page, require_accessible, require_self_contained
from tests.kits.night_kit import GOOD, REJECTED, STOPPED, make_night, summarize, validate


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("root") / "out"
    make_night(output, GOOD, seed=1)
    registry.promote(str(output / "models"), f"{GOOD}-wide_deep-key", "test")
    make_night(output, REJECTED, seed=2, champion=f"{GOOD}-wide_deep-key-finished")
    validate(output, STOPPED, passed=False)
    summarize(output, STOPPED)
    write(str(output))
    return output


def test_of_several_records_of_a_date_the_last_attempt_counts_whenever_it_was_copied(tmp_path: Path) -> None:
    for attempt, version in ((2, "second"), (1, "first")):  # as a copy may write them
        directory = str(tmp_path / "nights" / f"{GOOD}-{version}")
        begin(directory)
        record = NightManifest(
            files=(), date=GOOD, attempt=attempt, version=version, verdict="rejected", ingredients={}, directories={}
        )
        commit(directory, record)
    assert [night.record and night.record.version for night in gather(str(tmp_path)).nights] == ["second"]


def test_pages_are_drawn_without_a_look_at_the_scores(output: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(output, copy)
    for scores in copy.glob("evaluations/*/scores/*.npy"):
        scores.unlink()
    assert draw(str(copy)).problems == ()
    assert page(copy, GOOD).text == page(output, GOOD).text


def test_a_superseded_model_is_called_so_and_counts_as_not_published(tmp_path: Path) -> None:
    directory = str(tmp_path / "nights" / f"{GOOD}-key")
    begin(directory)
    record = NightManifest(files=(), date=GOOD, version="passed", verdict="superseded", ingredients={}, directories={})
    commit(directory, record)
    write(str(tmp_path))
    assert "had come in between, and stayed" in page(tmp_path, GOOD).text
    assert "1 night, 0 published" in page(tmp_path, "index").text


def page(output: Path, name: str) -> Page:
    return Page((output / "reports" / f"{name}.html").read_text())


@pytest.mark.parametrize("name", [GOOD, REJECTED, STOPPED, f"{GOOD}-features", f"{STOPPED}-features", "index"])
def test_every_page_is_self_contained_and_accessible(output: Path, name: str) -> None:
    require_self_contained((output / "reports" / f"{name}.html").read_text())
    require_accessible(page(output, name))


def test_a_nights_page_shows_what_was_found(output: Path) -> None:
    text = page(output, GOOD).text
    for shown in (
        f"{GOOD}-wide_deep-key",
        "it is the champion now",
        "a fresh process reproduces 16 golden scores",
        "5.0 ms for a request of 200 candidates",
        "Nothing failed",
        "champion before",
        "premium=true",
        "From 2026-01-02-wide_deep",
        "Days without a log",
        "2025-12-24",
        "12.5",
        "<user>",
        "left out: no <label>",
        "1,230",
        "kept and encoded",
        "2,331",
    ):
        assert shown in text
    labels = page(output, GOOD).drawings
    for drawing in ("Log loss by training step", "Drift of every feature", "Difference in log loss", "Calibration"):
        assert any(label.startswith(drawing) for label in labels)


def test_a_nights_page_shows_the_figures_as_served_beside_those_as_logged(output: Path) -> None:
    [decision] = (output / "decisions").glob(f"{GOOD}-*/{DECISION}")
    served = json.loads(decision.read_text())["as_served"]["candidate"]
    text = page(output, GOOD).text
    assert "As served" in text
    assert all(f"{served[name]:.4f}" in text for name in ("normalized_entropy", "auc", "calibration"))
    assert "As served" not in page(output, REJECTED).text


def test_a_nights_page_says_what_learning_its_day_has_moved(output: Path) -> None:
    text = page(output, GOOD).text
    assert "The model has learned this day, too, and serves so. That moved" in text
    for shown in ("1,234 rows by 0.1234 on average", "-0.0123 with its sign", "0.61000 before, 0.59000 after"):
        assert shown in text


def test_a_finish_that_was_refused_says_why(output: Path, tmp_path: Path) -> None:
    shutil.copytree(output, tmp_path / "out")
    [finish] = (tmp_path / "out" / "finishes").glob(f"{GOOD}-*")
    said = json.loads((finish / DECISION).read_text())
    said["verdict"], said["checks"][0]["passed"] = "rejected", False
    (finish / DECISION).write_text(json.dumps(said))
    write(str(tmp_path / "out"))
    text = page(tmp_path / "out", GOOD).text
    assert "does not serve so; what was judged does: scores move by 0.1234, the bound is 0.1." in text


def test_a_nights_page_shows_the_counters_of_the_next_day_and_what_of_them_is_new(output: Path) -> None:
    text = page(output, GOOD).text
    assert f"through {GOOD}: 3.00 MiB; changed since the day before: 1.00 MiB" in text
    for shown in ("54,321", "4,321"):
        assert shown in text


def test_a_nights_page_shows_the_champion_as_judged_and_as_served(output: Path) -> None:
    """The champion of the rejected night is what the night before has judged, finished since."""
    text = page(output, REJECTED).text
    assert "what the gate said of the champion before it was finished on the day that judged it" in text
    assert "with counters 2 days old" in text
    assert f"Judged on {GOOD}" in text
    [evaluated] = (output / "evaluations").glob(f"{GOOD}-*/metrics.json")
    [served] = (output / "decisions").glob(f"{REJECTED}-*/{CHAMPION}")
    was = json.loads(evaluated.read_text())["models"]["wide_deep"]["metrics"]["log_loss"]
    now = json.loads(served.read_text())["metrics"]["log_loss"]
    assert f"Log loss{was:.5f}{now:.5f}" in "".join(text.split("\n"))
    assert "Served against judged" not in page(output, GOOD).text, "the champion before it is on no record"


def test_a_nights_page_warns_of_a_better_baseline_and_shows_what_has_accumulated(output: Path) -> None:
    text = page(output, GOOD).text
    assert "Warning:" in text
    assert "the baseline lr's" in text
    assert "against the reference" in text
    [decision] = (output / "decisions").glob(f"{GOOD}-*/{DECISION}")
    lost = json.loads(decision.read_text())["accumulated"]
    assert f"{lost['difference']:+.5f} on this day; {lost['total']:+.5f} accumulated" in text
    assert "What serves against the reference 2026-01-01-old, champion 2 days before" in text


def test_a_model_in_doubt_is_called_inconclusive(output: Path) -> None:
    text = page(output, REJECTED).text
    assert f"Night {REJECTED} inconclusive" in text
    assert "nor that it is worse" in text
    assert "inconclusive" in page(output, "index").text


def test_a_stopped_night_names_what_broke_and_has_nothing_else(output: Path) -> None:
    text = page(output, STOPPED).text
    assert "The validation stopped the night" in text
    assert "0.3, at most 0.2." in text
    assert "Decision" not in text


@pytest.mark.parametrize("name", [GOOD, REJECTED, STOPPED])
def test_a_nights_page_and_that_of_its_features_link_to_each_other(output: Path, name: str) -> None:
    there, back = ({a["href"] for tag, a in page(output, one).tags if tag == "a"} for one in (name, f"{name}-features"))
    assert f"{name}-features.html" in there
    assert {f"{name}.html", "index.html"} <= back
    assert f"Features of {name}" in page(output, f"{name}-features").text
    assert ("0.3, at most 0.2." in page(output, f"{name}-features").text) == (name == STOPPED)


def test_the_index_has_every_night_and_marks_the_champion(output: Path) -> None:
    index = page(output, "index")
    links = [a["href"] for tag, a in index.tags if tag == "a"]
    assert links == [f"{date}.html" for date in (STOPPED, REJECTED, GOOD)]
    assert "3 nights, 1 published" in index.text
    assert index.text.count("champion\n") == 1
    assert index.drawings == [
        f"{what} by night"
        for what in ("Log loss", "Regret", "AUC", "Calibration", "Accumulated loss", "Impressions", "Seconds")
    ]


def test_drawn_again_the_pages_are_the_same(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path.name: path.read_bytes() for path in (output / "reports").iterdir()}
    assert main(["--output", str(output)]) == 0
    assert {path.name: path.read_bytes() for path in (output / "reports").iterdir()} == before
    assert capsys.readouterr().out.startswith("3 nights: ")
    assert main(["--output", str(output / "mistyped")]) == 2
    assert "mistyped. Give what run_nightly was given as --output." in capsys.readouterr().err
    assert not (output / "mistyped").exists()


def test_a_pruned_night_keeps_its_page_and_its_place_in_the_trends(output: Path, tmp_path: Path) -> None:
    pruned = tmp_path / "out"
    shutil.copytree(output, pruned)
    for kind in ("evaluations", "candidates"):
        for path in (pruned / kind).glob(f"{REJECTED}-*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    before = (pruned / "reports" / f"{REJECTED}.html").read_bytes()
    write(str(pruned))
    assert (pruned / "reports" / f"{REJECTED}.html").read_bytes() == before
    decision = json.loads((pruned / "decisions" / f"{REJECTED}-wide_deep-key-key" / DECISION).read_text())
    [loss] = [f["candidate"] for f in decision["parts"][0]["figures"] if f["metric"] == "log_loss"]
    assert f"{loss:.5f}" in page(pruned, "index").text
    (pruned / "reports" / f"{REJECTED}.html").unlink()
    write(str(pruned), only=[REJECTED])
    require_accessible(page(pruned, REJECTED))


NASTY = (
    r"$\x$",
    "$",
    "$$",
    r"\frac{1}{0}",
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(2)>',
    "</text></svg><script>alert(3)</script>",
    "{{7*7}}{% raw %}",
    "a\nb\tc",
    "\0\x07\x1b[31m",
    "\ud800",
    "\u202e\ufeff",
    "x" * 100_000,
    "\U0001f4a9",
    "]]>",
    "",
)


@pytest.mark.parametrize("value", NASTY, ids=range(len(NASTY)))
def test_a_value_of_the_log_is_drawn_as_text(value: str) -> None:
    loss = MetricComparison(metric="log_loss", candidate=0.1, champion=0.1, difference=0.0, interval=(-0.1, 0.1))
    names = (None, "country=DE", f"country={value}")
    drawing = trends.slices([PartMetrics(name=name, rows=9, positives=1, figures=(loss,)) for name in names])
    check = ValidationCheck.model_construct(check="drift", feature=value, value=0.1, high=0.2, passed=True, reason="")
    for one in (drawing, trends.drift([check])):
        parsed = Page(f"<html><body>{one.encode(errors='replace').decode()}</body></html>")
        assert not {"script", "img"} & {tag for tag, _ in parsed.tags}
        assert len(one) < 100_000
    if value in NASTY[:4]:
        assert f"country={value}" in Page(f"<html>{drawing}</html>").text


def test_a_trend_of_one_night_is_drawn_around_its_day() -> None:
    nights = [NightFindings("2026-01-06"), NightFindings("2026-01-07")]
    drawn = trends.trend("loss", "Loss", nights, lambda night: 0.4 if night.date == "2026-01-06" else None)
    text = Page(f"<html>{drawn}</html>").text
    assert [day in text for day in ("05 Jan", "06 Jan", "07 Jan")] == [True] * 3
    assert "Nov" not in text


def damaged(output: Path, tmp_path: Path, pattern: str, content: bytes = b'{"kind": ') -> Path:
    copy = tmp_path / "out"
    shutil.copytree(output, copy)
    shutil.rmtree(copy / "reports")
    paths = list(copy.glob(pattern))
    assert paths
    for path in paths:
        path.write_bytes(content)
    return copy


@pytest.mark.parametrize(
    ("pattern", "content"),
    [
        *(("nights/*-key/manifest.json", content) for content in (b"", b"\xff\x00", b"[]", b"null", b"[" * 5000)),
        ("validations/*/manifest.json", b"{"),
        (f"evaluations/{GOOD}-*/manifest.json", b"{"),
        (f"evaluations/{GOOD}-*/metrics.json", b"{"),
        (f"decisions/{GOOD}-*/{DECISION}", b"{"),
        (f"decisions/{GOOD}-*/{CHAMPION}", b"{"),
        (f"decisions/{GOOD}-*/{DRY_RUN}", b"{"),
        (f"candidates/{GOOD}-*/warm_start.json", b"{"),
        (f"metrics/{GOOD}.json", b"{"),
        ("models/champion.json", b"{"),
        (f"nights/{REJECTED}-*/manifest.json", b"{"),
        (f"summaries/date={GOOD}-*/manifest.json", b"{"),
    ],
)
def test_what_is_damaged_is_told_on_the_index_and_fails_no_page(
    output: Path, tmp_path: Path, pattern: str, content: bytes
) -> None:
    copy = damaged(output, tmp_path, pattern, content)
    drawn = draw(str(copy))
    assert drawn.problems
    index = page(copy, "index")
    require_accessible(index)
    assert "Not shown" in index.text
    if "nights/*" not in pattern:
        assert f"{GOOD}.html" in {a["href"] for tag, a in index.tags if tag == "a"}
        require_accessible(page(copy, GOOD))


def test_a_page_that_cannot_be_drawn_is_told_and_leaves_the_others(
    output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = damaged(output, tmp_path, f"metrics/{GOOD}.json", b'{"seconds": {}}')

    def fail(*_: object) -> str:
        raise RuntimeError("no font")

    monkeypatch.setattr(trends, "slices", fail)
    monkeypatch.setattr(trends, "trend", fail)
    draw(str(copy))
    assert "the drawing of the slices: RuntimeError: no font" in page(copy, GOOD).text
    assert "the drawing of AUC: RuntimeError: no font" in page(copy, "index").text
    require_accessible(page(copy, GOOD))
