"""Evaluation of artifacts on a published data set, and the page drawn from it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from nightjar import serving
from nightjar.features.contract.errors import DataError
from nightjar.features.contract.manifests import DatasetManifest, EvaluationManifest
from nightjar.features.contract.publishing import commit, read_manifest, verify
from nightjar.jobs.evaluate_model import main
from nightjar.serving.evaluation.comparison import Evaluation, predict
from nightjar.serving.evaluation.evaluation import read_evaluation
from nightjar.serving.evaluation.metrics import measure
from nightjar.serving.packing.pack import pack
from nightjar.serving.reports import evaluations
from nightjar.serving.reports.evaluation_report import render
from nightjar.serving.reports.evaluations import evaluate
from nightjar.serving.reports.palette import DARK, LIGHT
from tests.kits.html_page import Page, require_accessible, require_self_contained
from tests.kits.serving.serving_kit import (
    World,
    make_candidate,
    make_holdout,
    make_rows,
    make_state,
    make_world,
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"), rows=500)


@pytest.fixture(scope="module")
def artifacts(world: World, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("models")
    packed = {}
    for seed, architecture in enumerate(("wide_deep", "lr", "deep")):
        oracle = type(world.model).draw(architecture, seed)
        scores = oracle.score(world.rows[:16])
        candidate = make_candidate(root / f"candidate-{architecture}", world.state, oracle, scores)
        packed[architecture] = str(root / architecture)
        pack(candidate, world.state, world.holdout, packed[architecture])
    return packed


@pytest.fixture(scope="module")
def published(world: World, artifacts: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> str:
    output = str(tmp_path_factory.mktemp("evaluations") / "one")
    evaluate(artifacts, [world.holdout], output)
    return output


def test_scores_of_the_data_set_are_those_of_its_raw_rows(world: World, artifacts: dict[str, str]):
    model = serving.load(artifacts["wide_deep"])
    manifest = read_manifest(world.holdout, DatasetManifest)
    observed, scores = predict({"m": model}, world.holdout, manifest)
    np.testing.assert_array_equal(scores["m"], model.score(world.rows))
    assert len(observed.label) == manifest.rows
    assert observed.label.sum() == manifest.positives


def test_the_published_figures_are_those_of_the_metrics(world: World, artifacts: dict[str, str], published: str):
    found = read_evaluation(published)
    assert list(found.models) == ["wide_deep", "lr", "deep"]
    assert found.rows == 500
    for name, directory in artifacts.items():
        model = serving.load(directory)
        observed, scores = predict({name: model}, world.holdout, read_manifest(world.holdout, DatasetManifest))
        expected, figures = measure(observed, scores[name]), found.models[name].metrics
        # A bin of scores is 1/2048 nats wide: two of 500 rows are hardly ever in one, nor does a curve's bin cut one.
        off = {"auc": 1e-4, "calibration_error": 0.005}
        for metric in type(figures).model_fields:
            near = pytest.approx(getattr(expected, metric), rel=1e-6, abs=off.get(metric, 1e-9))
            assert getattr(figures, metric) == near, metric
        number = list(artifacts).index(name)
        np.testing.assert_array_equal(np.load(Path(published) / "scores" / f"{number}.npy"), scores[name])
        assert sum(found.models[name].distribution) == pytest.approx(1.0)
    verify(published, read_manifest(published, EvaluationManifest))


def test_evaluating_again_gives_the_same_bytes_or_returns_what_is_there(
    world: World, artifacts: dict[str, str], published: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    evaluate(artifacts, [world.holdout], str(tmp_path / "two"))
    for name in ("manifest.json", "metrics.json", "report.html"):
        assert (tmp_path / "two" / name).read_bytes() == (Path(published) / name).read_bytes()
    monkeypatch.setattr(evaluations, "compare", lambda *_, **__: pytest.fail("evaluated again"))
    assert evaluate(artifacts, [world.holdout], published) == read_evaluation(published)


def test_models_of_different_states_are_compared_on_their_own_encodings(world: World, tmp_path: Path):
    older = make_world(tmp_path / "older", rows=500)
    state = make_state(tmp_path / "state", through_date="2024-05-01")
    holdout = make_holdout(tmp_path / "holdout", state, older.rows, seed=1)
    candidate = make_candidate(tmp_path / "candidate", state, older.model, older.model.score(older.rows[:16]))
    for name, c, s, h in (
        ("new", older.candidate, older.state, older.holdout),
        ("old", candidate, state, holdout),
    ):
        pack(c, s, h, str(tmp_path / name))
    directories = {name: str(tmp_path / name) for name in ("new", "old")}
    found = evaluate(directories, [older.holdout, holdout], str(tmp_path / "evaluation"))
    assert found.models["new"].metrics == found.models["old"].metrics
    assert found.models["new"].dataset != found.models["old"].dataset
    with pytest.raises(DataError, match="the artifact 'old' encodes with the state"):
        evaluate(directories, [older.holdout], str(tmp_path / "refused"))
    fewer = make_holdout(tmp_path / "fewer", state, make_rows(20, seed=1), seed=1)
    with pytest.raises(DataError, match="do not hold the same impressions"):
        evaluate(directories, [older.holdout, fewer], str(tmp_path / "refused"))


def test_a_damaged_data_file_is_named_and_nothing_is_published(artifacts: dict[str, str], tmp_path: Path):
    copy = make_world(tmp_path / "copy", rows=500)
    path = Path(copy.holdout) / "data/part-1.parquet"
    pq.write_table(pq.read_table(path).slice(1), path)
    with pytest.raises(DataError, match=r"data/part-1\.parquet differs from the manifest"):
        evaluate(artifacts, [copy.holdout], str(tmp_path / "evaluation"))
    assert not (tmp_path / "evaluation").exists()


def test_an_empty_data_set_is_a_clear_error(world: World, artifacts: dict[str, str], tmp_path: Path):
    manifest = read_manifest(world.holdout, DatasetManifest)
    commit(str(tmp_path / "empty"), manifest.model_copy(update={"rows": 0, "files": ()}))
    with pytest.raises(DataError, match="holds no rows"):
        evaluate(artifacts, [str(tmp_path / "empty")], str(tmp_path / "evaluation"))


def test_the_report_needs_nothing_but_itself(published: str):
    require_self_contained((Path(published) / "report.html").read_text(encoding="utf-8"))


def test_the_report_is_well_formed_and_says_what_its_figures_show(published: str):
    page = Page((Path(published) / "report.html").read_text(encoding="utf-8"))
    names = [tag for tag, _ in page.tags]
    assert names.count("figure") == names.count("figcaption") == 4
    require_accessible(page)
    found = read_evaluation(published)
    for model in found.models.values():
        assert f"{model.metrics.log_loss:.5f}" in page.text


def test_every_colour_of_a_plot_is_one_that_the_page_exchanges_in_the_dark(published: str):
    text = (Path(published) / "report.html").read_text(encoding="utf-8")
    assert LIGHT.keys() == DARK.keys()
    assert len(set(LIGHT.values())) == len(LIGHT)
    drawn = set(re.findall(r"(fill|stroke): (#[0-9a-f]+)", text[text.index("<svg") :]))
    assert {color for _, color in drawn} <= set(LIGHT.values())
    assert len(drawn) >= 8  # three models' lines and marks, text and axes
    for style, color in drawn:
        [name] = [name for name, light in LIGHT.items() if light == color]
        assert f'[style*="{style}: {color}"] {{ {style}: var(--{name}) !important; }}' in text
        assert f"--{name}: {DARK[name]};" in text[text.index("prefers-color-scheme: dark") :]


def test_names_are_escaped_and_undefined_metrics_left_out(published: str):
    found = read_evaluation(published)
    only = found.models["lr"]
    bare = only.metrics.model_copy(
        update=dict.fromkeys(("gauc", "gauc_share", "regret", "expected_regret", "bayes_log_loss"))
    )
    models = {"<b>&": only.model_copy(update={"metrics": bare})}
    text = render(Evaluation(**{**found.model_dump(), "models": models}))
    page = Page(text)
    assert "<b>&" in page.text
    assert "<b>" not in text
    assert "Regret" not in page.text
    assert "GAUC" not in page.text


def test_the_job_names_models_and_reports_errors_by_exit_status(
    world: World, artifacts: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    output = str(tmp_path / "evaluation")
    rest = ["--dataset", world.holdout, "--output", output]
    assert main(["--artifact", artifacts["lr"], "--artifact", artifacts["deep"], "champion", *rest]) == 0
    assert list(json.loads((tmp_path / "evaluation/metrics.json").read_text())["models"]) == [
        "lr",
        "champion",
    ]
    assert capsys.readouterr().out.startswith("lr: Log loss ")
    for wrong in (
        ["--artifact", artifacts["lr"], "--artifact", artifacts["deep"], "lr"],
        ["--artifact", artifacts["lr"], "a", "b"],
        ["--artifact", str(tmp_path / "nowhere")],
    ):
        assert main([*wrong, "--dataset", world.holdout, "--output", str(tmp_path / "other")]) == 2
        assert capsys.readouterr().err.startswith("evaluate_model: error: ")


def test_a_page_that_cannot_be_drawn_leaves_the_evaluation(
    world: World, artifacts: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Evaluation) -> str:
        raise ValueError("no <font>")

    monkeypatch.setattr(evaluations, "render", fail)
    evaluated = evaluate(artifacts, [world.holdout], str(tmp_path / "evaluation"))
    assert read_evaluation(str(tmp_path / "evaluation")) == evaluated
    assert "no <font>" in Page((tmp_path / "evaluation" / "report.html").read_text()).text
