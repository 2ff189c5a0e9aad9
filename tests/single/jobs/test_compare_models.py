"""Models compared over seeds, from encoded rows to the page: figures against scikit-learn on the artifacts' scores."""

from __future__ import annotations

import json
import re
from pathlib import Path
from statistics import fmean

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from sklearn.metrics import log_loss, roc_auc_score

from nightjar import serving
from nightjar.features.contract.manifests import ComparisonManifest
from nightjar.features.contract.publishing import read_manifest, verify
from nightjar.jobs.common import contest
from nightjar.jobs.common.contest import fitting_models, read_comparison
from nightjar.jobs.compare_models import main
from nightjar.serving.evaluation.seeds import SPEED, markdown
from nightjar.training.config import TrainingConfig
from nightjar.training.models import MODELS as FAMILY
from tests.kits.html_page import Page, require_self_contained
from tests.kits.serving.serving_kit import make_holdout, make_rows, make_state

TRAINING = {
    "epochs": 2,
    "batch_size": 32,
    "lanes": 3,
    "wide": {"alpha": 0.3},
    "embeddings": {"learning_rate": 0.2},
    "deep": {"layers": [6]},
}
MODELS, SEEDS = ["lr", "deep"], [3, 5]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("contest")
    state = make_state(place / "states/through=2024-05-02")
    make_holdout(place / "datasets/train", state, make_rows(300, 1), seed=1)
    make_holdout(place / "datasets/holdout", state, make_rows(150, 2), seed=2)
    (place / "config.yaml").write_text(yaml.safe_dump({"training": TRAINING}))
    return place


def arguments(place: Path, *more: str) -> list[str]:
    places = {"dataset": "datasets/train", "holdout": "datasets/holdout", "config": "config.yaml", "output": "out"}
    return [word for name, path in places.items() for word in (f"--{name}", str(place / path))] + list(more)


@pytest.fixture(scope="module")
def compared(place: Path) -> Path:
    """Where the comparison is published."""
    assert main(arguments(place, "--models", *MODELS, "--seeds", *map(str, SEEDS))) == 0
    [directory] = (place / "out/comparisons").iterdir()
    return directory


def artifacts(place: Path, model: str) -> list[str]:
    return [str(next((place / "out/artifacts").glob(f"{model}-{seed}-*"))) for seed in SEEDS]


def test_every_model_and_seed_has_its_own_artifact_and_the_table_has_their_mean_and_deviation(
    place: Path, compared: Path
) -> None:
    verify(str(compared), read_manifest(str(compared), ComparisonManifest))
    rows = make_rows(150, 2)
    data = pa.concat_tables(pq.read_table(path) for path in sorted((place / "datasets/holdout/data").iterdir()))
    label, truth = data["label"].to_numpy(), data["truth"].to_numpy()
    table = (compared / "table.md").read_text()
    header = [title.split()[0] for title in table.splitlines()[0].strip("| ").split(" | ")]
    for model in MODELS:
        scores = [serving.load(directory).score(rows).astype(np.float64) for directory in artifacts(place, model)]
        aucs = [roc_auc_score(label, score) for score in scores]
        [row] = [line for line in table.splitlines() if line.startswith(f"| {model} |")]
        cells = dict(zip(header, row.strip("| ").split(" | "), strict=True))
        losses = [log_loss(label, score) for score in scores]
        regrets = np.array(losses) - log_loss(label, truth)
        # An evaluation's AUC is read off bins of scores: of 150 rows, a pair that shares a bin is worth 1e-4.
        for title, values, off in (("Log", losses, 1.01e-5), ("Regret", regrets, 1.01e-5), ("AUC", aucs, 3e-4)):
            mean, _, deviation = cells[title].replace("*", "").split()
            assert float(mean) == pytest.approx(np.mean(values), abs=off)
            assert float(deviation) == pytest.approx(np.std(values, ddof=1), abs=off)
        size = fmean(sum(f.stat().st_size for f in Path(d).rglob("*") if f.is_file()) for d in artifacts(place, model))
        assert float(cells["MB"].replace("*", "").split()[0]) == pytest.approx(size / 1e6, abs=0.02)
    assert table.count("**") >= 2 * 6


def test_seeds_make_different_models_on_the_same_plan(place: Path, compared: Path) -> None:
    found = read_comparison(str(compared))
    assert found.seeds == tuple(SEEDS)
    first, second = found.models["deep"]
    assert first.evaluation.metrics != second.evaluation.metrics
    for runs in found.models.values():
        for run in runs:
            assert [step for step, _ in run.curve] == list(range(2, 21, 2))
            assert run.value(SPEED) > 0  # type: ignore[operator]
    assert (found.trained_rows, found.rows, found.epochs) == (300, 150, 2)


def test_a_comparison_made_again_from_what_is_published_is_the_same(
    place: Path, compared: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path.name: path.read_bytes() for path in compared.iterdir()}
    monkeypatch.setattr(contest, "pack", lambda *_, **__: pytest.fail("packed again"))
    assert main(arguments(place, "--models", *MODELS, "--seeds", *map(str, SEEDS))) == 0
    assert (compared / "table.md").read_text() in capsys.readouterr().out
    monkeypatch.undo()
    for path in compared.iterdir():
        path.unlink()
    assert main(arguments(place, "--models", *MODELS, "--seeds", *map(str, SEEDS))) == 0
    assert {path.name: path.read_bytes() for path in compared.iterdir()} == before


def test_the_page_needs_nothing_but_itself_and_shows_every_figure(compared: Path) -> None:
    text = (compared / "report.html").read_text(encoding="utf-8")
    require_self_contained(text)
    page = Page(text)
    figures = [tag for tag, _ in page.tags].count("figure")
    assert figures == 5
    for cell in re.findall(r"\d\.\d{4,5} ± \d\.\d{4,5}", markdown(read_comparison(str(compared))).replace("*", "")):
        mean, deviation = cell.split(" ± ")
        assert f"{mean}± {deviation}" in page.text
    assert "mean ± standard deviation" in page.text


def test_models_that_do_not_suit_the_data_are_left_out_or_named(
    place: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Its fields have several widths, which a factorization machine cannot multiply."""
    assert main(arguments(place, "--models", "lr", "fm", "--seeds", "3")) == 2
    assert "a factorization needs embeddings of one width" in capsys.readouterr().err
    assert main(arguments(place, "--seeds", "-1")) == 2
    assert "each must be in [0, 2^32)" in capsys.readouterr().err
    fitting = fitting_models(TrainingConfig(), str(place / "datasets/train"))
    assert set(FAMILY) - set(fitting) == {"mf", "nmf", "fm", "deepfm"}
    assert "deepfm is left out: a factorization needs" in caplog.text


def test_a_state_that_is_not_beside_the_data_must_be_given(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    elsewhere = place / "elsewhere/datasets/train"
    elsewhere.mkdir(parents=True)
    (elsewhere / "manifest.json").write_bytes((place / "datasets/train/manifest.json").read_bytes())
    words = arguments(place, "--models", "lr")
    words[1] = str(elsewhere)
    assert main(words) == 2
    assert "Give --state." in capsys.readouterr().err
    assert json.loads((elsewhere / "manifest.json").read_text())["kind"] == "dataset"
