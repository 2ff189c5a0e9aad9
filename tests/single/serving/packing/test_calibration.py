"""Calibrations: fitted as scikit-learn fits them, strictly increasing, and applied alike by every reader."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from nightjar import serving
from nightjar.features.contract.errors import DataError, UsageError
from nightjar.features.contract.manifests import ArtifactManifest, DatasetManifest
from nightjar.features.contract.publishing import commit, describe_files, read_manifest
from nightjar.serving import InContext
from nightjar.serving.calibration import Curve
from nightjar.serving.packing import dry_run
from nightjar.serving.packing.calibrate import ENOUGH, CalibrationRows, isotonic, platt
from nightjar.serving.packing.config import ArtifactConfig, CalibrationConfig
from nightjar.serving.packing.pack import pack
from tests.kits.serving.second_reader import Artifact
from tests.kits.serving.serving_kit import World, encode, make_holdout, make_rows, make_world

ISOTONIC = ArtifactConfig(calibration=CalibrationConfig(method="isotonic"))
PLATT = ArtifactConfig(calibration=CalibrationConfig(method="platt"))
BY_PREMIUM = ArtifactConfig(embeddings="int8", calibration=CalibrationConfig(method="isotonic", by="premium"))


def sigmoid(z: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-z))


def drawn(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits that are too extreme and too low, labels, and weights."""
    rng = np.random.default_rng(seed)
    logit = rng.normal(-1.0, 1.5, rows)
    label = (rng.uniform(size=rows) < sigmoid(0.6 * logit + 0.4)).astype(np.float64)
    return logit, label, rng.choice([0.5, 1.0, 3.0], rows)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def held_back(world: World) -> CalibrationRows:
    """Rows whose labels have little to do with the model's scores; of their three files, two are held back."""
    directory = make_holdout(Path(world.state).parent / "train", world.state, make_rows(1500, seed=8), seed=8)
    return CalibrationRows(directory, read_manifest(directory, DatasetManifest).data_files[1:])


def pack_it(world: World, held_back: CalibrationRows, directory: Path, config: ArtifactConfig) -> str:
    pack(world.candidate, world.state, world.holdout, str(directory), config=config, held_back=held_back)
    return str(directory)


def test_platts_line_is_the_most_likely_one() -> None:
    logit, label, weight = drawn(20_000, seed=1)
    curve = platt(logit, label, weight)
    oracle = LogisticRegression(C=np.inf, tol=1e-10).fit(logit[:, None], label, weight)
    assert curve.slope == pytest.approx(oracle.coef_[0, 0], rel=1e-4)
    assert curve.y[0] == pytest.approx(oracle.intercept_[0], rel=1e-4)
    assert platt(-logit, label, weight).slope > 0, "a model that ranks the wrong way is not turned round"


def test_an_isotonic_curve_goes_through_the_blocks_of_the_isotonic_regression() -> None:
    logit, label, weight = drawn(20_000, seed=2)
    logit = np.round(logit)  # few distinct ones, of many rows each
    kept = np.abs(logit + 1) < 4
    logit, label, weight = logit[kept], label[kept], weight[kept]
    label = np.where((logit == 0) & (label == 1), np.arange(len(label)) % 2, label)  # a dip, to be pooled
    curve = isotonic(logit, label, weight)
    share = IsotonicRegression().fit(logit, label, weight).predict(logit)
    for x, y in zip(curve.x, curve.y, strict=True):
        block = share == share[np.argmin(np.abs(share - sigmoid(np.array(y))))]
        assert sigmoid(np.array(y)) == pytest.approx(share[block][0], rel=1e-9)
        assert x == pytest.approx(np.average(logit[block], weights=weight[block]), rel=1e-9, abs=1e-12)
    assert len(curve.x) == len(np.unique(share)) < len(np.unique(logit))


def test_blocks_of_few_rows_are_joined() -> None:
    logit, label, weight = drawn(3000, seed=3)
    label[np.argmax(logit)] = 0.0
    curve = isotonic(logit, label, weight)
    edges = [-np.inf, *(np.array(curve.x)[:-1] + np.diff(curve.x) / 2), np.inf]
    assert 3 < len(curve.x) <= min(label.sum(), (1 - label).sum()) / ENOUGH
    assert np.isfinite(curve.y).all()
    assert len(edges) == len(curve.x) + 1
    all_wrong = isotonic(logit, (logit < np.median(logit)).astype(np.float64), weight)
    assert len(all_wrong.x) == 1, "nothing ascends: one share for all, and the order of the logits"


@pytest.mark.parametrize("fit", [platt, isotonic])
def test_negatives_that_were_left_out_are_in_the_weights_of_the_others(fit) -> None:
    logit, label, _ = drawn(60_000, seed=4)
    ones = np.ones(len(label))
    kept = (label == 1) | (np.random.default_rng(5).uniform(size=len(label)) < 0.2)
    weight = np.where(label == 1, 1.0, 5.0)
    whole, sampled = fit(logit, label, ones), fit(logit[kept], label[kept], weight[kept])
    at = np.linspace(-3.0, 1.5, 50)
    assert np.abs(whole(at) - sampled(at)).mean() < 0.12
    assert np.abs(whole(at) - fit(logit[kept], label[kept], ones[kept])(at)).mean() > 1.2  # ln 5 is 1.6


def test_a_curve_keeps_every_order() -> None:
    rng = np.random.default_rng(6)
    for _ in range(50):
        x, y = (np.unique(rng.normal(size=9) * 10.0 ** rng.uniform(-6, 2)) for _ in range(2))
        curve = Curve(x=tuple(x.tolist()), y=tuple(y.tolist()), slope=float(10 ** rng.uniform(-3, 3)))
        logit = np.unique(np.concatenate([x, np.nextafter(x, -np.inf), np.nextafter(x, np.inf), rng.normal(size=500)]))
        found = curve(logit)
        assert (np.diff(found) >= 0).all()
        far = logit[np.concatenate([[True], np.diff(logit) > 1e-3])]
        assert (np.diff(curve(far)) > 0).all()
        inside = (logit >= x[0]) & (logit <= x[-1])
        np.testing.assert_allclose(found[inside], np.interp(logit[inside], x, y), rtol=1e-9, atol=1e-9)
        np.testing.assert_array_equal(np.concatenate([curve(z[None]) for z in logit]), found)
    assert np.isnan(Curve(x=(0.0,), y=(1.0,))(np.array([np.nan]))).all()


@pytest.mark.parametrize("config", [ISOTONIC, PLATT, BY_PREMIUM], ids=["isotonic", "platt", "by premium"])
def test_every_reader_applies_it(
    world: World, held_back: CalibrationRows, tmp_path: Path, config: ArtifactConfig
) -> None:
    artifact = pack_it(world, held_back, tmp_path / "artifact", config)
    model, rows = serving.load(artifact), make_rows(200, seed=9)
    bare, scores = replace(model, calibration=None), model.score(rows)
    file = json.loads((tmp_path / "artifact/scoring/calibration.json").read_text())
    logit = np.log(bare.score(rows).astype(np.float64)) - np.log1p(-bare.score(rows).astype(np.float64))
    ids = encode(world.state, rows)["f_premium"]
    expected = np.empty(len(rows))
    for n, (z, id_) in enumerate(zip(logit, ids, strict=True)):
        curve = file["curves"].get(str(id_), file["curve"])
        x, y, slope = np.array(curve["x"]), np.array(curve["y"]), curve["slope"]
        ends = slope * (min(z - x[0], 0.0) + max(z - x[-1], 0.0))
        expected[n] = sigmoid(np.interp(z, x, y) + ends)
    np.testing.assert_allclose(scores, expected, rtol=0, atol=2e-6)
    assert np.abs(scores - bare.score(rows)).max() > 0.01
    np.testing.assert_array_equal(model.score_encoded(encode(world.state, rows)), scores)
    np.testing.assert_allclose(Artifact(artifact).scores(rows), scores, rtol=0, atol=1e-6)
    for row, score in zip(rows[:20], scores, strict=False):
        found = model.explain(row)
        assert found.base + sum(c.logit for c in found.contributions) == pytest.approx(found.logit, abs=1e-5)
        assert sigmoid(np.array(found.logit + found.calibration)) == pytest.approx(float(score), abs=1e-6)
        assert found.probability == pytest.approx(float(score), abs=1e-6)
    for of in set(ids.tolist()) if config.calibration.by else [None]:
        same = np.flatnonzero(ids == of) if of is not None else np.arange(len(rows))
        order = np.argsort(bare.score(rows)[same], kind="stable")
        assert (np.diff(scores[same][order]) >= 0).all()
    golden = np.load(tmp_path / "artifact/golden/scores.npy")
    np.testing.assert_array_equal(golden, model.score(world.rows[:16], as_logged=True))
    measured = dry_run.check(artifact).measured
    assert measured is not None
    assert measured.largest_difference == 0.0


def test_a_field_of_the_context_chooses_the_curve_of_all_candidates(
    world: World, held_back: CalibrationRows, tmp_path: Path
) -> None:
    model = serving.load(pack_it(world, held_back, tmp_path / "artifact", BY_PREMIUM))
    assert model.calibration is not None
    assert model.calibration.column == "f_premium"
    assert len(model.calibration.curves) == 3  # true, false and missing
    rows = [row | {"premium": True} for row in make_rows(30, seed=10)]
    without = [{name: value for name, value in row.items() if name != "premium"} for row in rows]
    np.testing.assert_array_equal(model.score(InContext({"premium": True}, without)), model.score(rows))
    explained = model.explain(rows[0])
    assert f"{explained.calibration:+.4f}  calibration, to" in str(explained)


def test_it_is_fitted_to_the_rows_held_back_and_to_no_others(
    world: World, held_back: CalibrationRows, tmp_path: Path
) -> None:
    model = serving.load(pack_it(world, held_back, tmp_path / "artifact", PLATT))
    rows, cut = make_rows(1500, seed=8), read_manifest(held_back.directory, DatasetManifest).data_files[0].rows
    rng = np.random.default_rng(8)
    truth = rng.uniform(0.05, 0.6, 1500)
    label = (rng.uniform(size=1500) < truth).astype(np.float64)[cut:]  # as the kit draws them
    logit = np.array([world.model.logit(row) for row in rows[cut:]])
    oracle = LogisticRegression(C=np.inf, tol=1e-10).fit(logit[:, None], label)
    assert model.calibration is not None
    slope, intercept = model.calibration.curve.slope, model.calibration.curve.y[0]
    assert intercept == pytest.approx(oracle.intercept_[0], abs=1e-3)
    assert slope == pytest.approx(max(oracle.coef_[0, 0], 1e-3), abs=1e-3)


def test_rows_that_judge_or_are_of_another_state_do_not_calibrate(
    world: World, held_back: CalibrationRows, tmp_path: Path
) -> None:
    judging = CalibrationRows(world.holdout, read_manifest(world.holdout, DatasetManifest).data_files)
    with pytest.raises(DataError, match="the rows to calibrate by are the hold-out"):
        pack_it(world, judging, tmp_path / "artifact", ISOTONIC)
    other = make_world(tmp_path / "other", seed=2)
    directory = make_holdout(tmp_path / "foreign", other.state, make_rows(30, seed=1), seed=1)
    manifest = read_manifest(directory, DatasetManifest).model_copy(update={"state": "0" * 64})
    commit(directory, manifest)
    with pytest.raises(DataError, match=r"to calibrate by, of .*foreign, were encoded under another state"):
        pack_it(world, CalibrationRows(directory, manifest.data_files), tmp_path / "artifact", ISOTONIC)
    with pytest.raises(UsageError, match="takes rows that the model has not learned from"):
        pack(world.candidate, world.state, world.holdout, str(tmp_path / "artifact"), config=ISOTONIC)


def test_too_few_rows_leave_the_scores_as_they_are(
    world: World, held_back: CalibrationRows, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory = make_holdout(tmp_path / "few", world.state, make_rows(60, seed=1), seed=1)
    few = CalibrationRows(directory, read_manifest(directory, DatasetManifest).data_files)
    with caplog.at_level(logging.WARNING):
        model = serving.load(pack_it(world, few, tmp_path / "artifact", ISOTONIC))
    assert "no calibration: of 60 rows held back" in caplog.text
    rows = make_rows(50, seed=2)
    np.testing.assert_array_equal(model.score(rows), replace(model, calibration=None).score(rows))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"curve": {"x": [0.0, 1.0], "y": [1.0, 0.5]}}, "x and y must ascend"),
        ({"curve": {"x": [0.0], "y": [1.0], "slope": 0.0}}, "slope"),
        ({"curve": {"x": [], "y": []}}, "one x and one y a point"),
        ({"column": "f_seen"}, r"goes by the column 'f_seen'; the model's fields are \['f_user'"),
        ({"blend": 0.5}, "blend"),
    ],
)
def test_a_calibration_that_makes_no_sense_is_refused(
    world: World, held_back: CalibrationRows, tmp_path: Path, change, message: str
) -> None:
    artifact = pack_it(world, held_back, tmp_path / "artifact", PLATT)
    file = Path(artifact) / "scoring/calibration.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    manifest = read_manifest(artifact, ArtifactManifest)
    commit(artifact, manifest.model_copy(update={"files": describe_files(artifact)}))
    with pytest.raises(DataError, match=message):
        serving.load(artifact)
