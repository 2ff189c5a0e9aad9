"""What rules remember is carried over under the same rule, and made up for under other settings."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch

from nightjar.features.contract.manifests import CandidateManifest, DatasetManifest
from nightjar.features.contract.publishing import read_manifest
from nightjar.training.config import TrainingConfig
from nightjar.training.export import candidate
from nightjar.training.job import TrainingJob
from nightjar.training.run.collective import Solo
from tests.kits.training.table_kit import copy_of
from tests.kits.training.warm_start_kit import (
    CHOICES,
    TRAINING,
    Old,
    begin,
    parent_wide,
    warm,
    wide_array,
    wide_weights,
)


@pytest.mark.parametrize("choice", CHOICES)
def test_the_same_features_and_no_step_publish_the_parent_again(
    olds: dict[str, Old], choice: str, tmp_path: Path
) -> None:
    """Byte for byte: golden scores, steps and running averages included."""
    old = olds[choice]
    config = TrainingConfig.model_validate(TRAINING | CHOICES[choice])
    start = warm(old, old.place)
    job = TrainingJob(config, old.place.dataset, str(tmp_path / "again"), old.place.dataset, warm_start=start)
    candidate.publish(job, begin(old.place, start, Solo(), **CHOICES[choice]), {}, Solo())
    paths = [e.path for e in read_manifest(old.candidate, CandidateManifest).files]
    assert "scoring/golden_scores.npy" in paths
    for path in paths:
        assert (tmp_path / "again" / path).read_bytes() == (Path(old.candidate) / path).read_bytes(), path


@pytest.mark.parametrize(
    ("parent", "child", "begin_afresh"),
    [
        ("default", "adam", {"wide", "embeddings", "head"}),
        ("adam", "lazy adam, batch norm", {"wide", "embeddings", "head"}),  # both have means and squares
        ("fixed point, adagrad by row", "adam", {"wide", "embeddings", "head"}),  # both have squares
        ("lazy adam, batch norm", "default", {"wide", "embeddings", "head"}),
        ("default", "adagrad", {"wide"}),
        ("default", "fixed point, adagrad by row", {"embeddings"}),
    ],
)
def test_another_rule_takes_over_the_weights_and_begins_with_its_own_state(
    olds: dict[str, Old], parent: str, child: str, begin_afresh: set[str]
) -> None:
    """A step count or an average of another rule would be misread."""
    old, changes = olds[parent], CHOICES[child]
    fresh, started = (begin(old.place, start, Solo(), **changes) for start in (None, warm(old, old.place)))
    precisely = started.wide is not None and "values" in started.wide.state()
    weights = wide_array(old, "weights", "scoring")
    assert np.count_nonzero(weights) > 20
    np.testing.assert_allclose(wide_weights(started), weights, rtol=2e-6, atol=1e-7 if precisely else 2**-13)
    for width, table in started.embeddings.items():
        theirs = np.load(f"{old.candidate}/scoring/embedding_{width}.npy")
        np.testing.assert_array_equal(table.state()["values"], theirs)
    tables = {"wide": [(started.wide, fresh.wide)]}
    tables["embeddings"] = [(started.embeddings[width], fresh.embeddings[width]) for width in fresh.embeddings]
    for part in begin_afresh - {"head"}:
        for ours, untouched in tables[part]:
            assert ours is not None
            assert untouched is not None
            remembered, expected = copy_of(ours), copy_of(untouched)
            for name in expected.keys() - {"values", "ftrl"}:
                np.testing.assert_array_equal(remembered[name], expected[name], err_msg=f"{part} {name}")
    untouched_head = fresh.head_tensors()
    for name, tensor in started.head_tensors().items():
        if "head" in begin_afresh and not name.startswith("values/"):
            torch.testing.assert_close(tensor, untouched_head[name], rtol=0, atol=0)
    transfer = TrainingJob(
        TrainingConfig.model_validate(TRAINING | changes), old.place.dataset, "", warm_start=warm(old, old.place)
    ).transfer(read_manifest(old.place.dataset, DatasetManifest))
    assert transfer is not None
    report = transfer.report(Solo())
    assert {rule.part for rule in report.rules if rule.state == "fresh"} == begin_afresh
    assert report.summary().count(" begins, after ") == len(begin_afresh)


@pytest.mark.parametrize(("decay", "wide"), [(1.0, {}), (0.5, {"alpha": 0.2, "beta": 2.0, "lambda2": 0.3})])
@pytest.mark.parametrize(("parent", "precision"), [("fixed", "float32"), ("default", "q2.13"), ("fixed", "q2.13")])
def test_weights_are_kept_between_float32_and_fixed_point(
    olds: dict[str, Old], parent: str, precision: str, decay: float, wide: dict[str, float]
) -> None:
    old = olds["fixed point, adagrad by row" if parent == "fixed" else parent]
    config = TRAINING["wide"] | wide | {"precision": precision}
    learner = begin(old.place, warm(old, old.place, decay), Solo(), wide=config)
    weights, n = (
        wide_array(old, "weights", "scoring"),
        wide_array(old, "ftrl" if parent == "default" else "squares")[:, -1],
    )
    assert np.count_nonzero(weights) > 20
    assert np.count_nonzero((weights == 0) & (n > 0)) > 5
    np.testing.assert_allclose(wide_weights(learner), weights, rtol=2e-6, atol=2**-14 if precision == "q2.13" else 1e-6)
    assert learner.wide is not None
    state = learner.wide.state()
    ours = state["squares"][:, 0] if precision == "q2.13" else state["ftrl"][:, 1]
    np.testing.assert_allclose(ours, decay * n, rtol=1e-6)
    # What L1 holds at 0 keeps its evidence.
    divisor = (config.get("beta", 1.0) + np.sqrt(decay * n)) / config["alpha"] + config["lambda2"]
    z = -state["q2_13"][:, 0] * 2.0**-13 * divisor if precision == "q2.13" else state["ftrl"][:, 0]
    if parent == "default":
        theirs = wide_array(old, "ftrl")[:, 0]
    else:
        theirs = -wide_array(old, "q2_13")[:, 0] * 2.0**-13 * ((1.0 + np.sqrt(n)) / 0.1 + 0.1)
    held = (weights == 0) & (n > 0)
    assert (np.abs(z - theirs)[held] <= 2.0**-13 * divisor[held] + 1e-5).all()
    assert np.abs(theirs[held]).max() > 0.05


@pytest.mark.parametrize(
    ("decay", "wide"), [(0.25, {}), (1.0, {"alpha": 0.03, "beta": 2.0, "lambda2": 0.5}), (0.5, {"alpha": 0.3})]
)
def test_decay_and_other_learning_rates_leave_the_wide_weights_as_they_are(
    old: Old, decay: float, wide: dict[str, float]
) -> None:
    learner = begin(old.place, warm(old, old.place, decay), Solo(), wide=TRAINING["wide"] | wide)
    weights, state = parent_wide(old)
    assert np.count_nonzero(weights) > 20
    assert np.count_nonzero((weights == 0) & (state[:, 0] != 0)) > 5
    np.testing.assert_allclose(wide_weights(learner), weights, rtol=2e-6, atol=1e-7)
    assert learner.wide is not None
    np.testing.assert_allclose(learner.wide.state()["ftrl"][:, 1], decay * state[:, 1], rtol=1e-6)


def test_more_l1_shrinks_the_carried_weights_but_not_the_bias(old: Old) -> None:
    learner = begin(old.place, warm(old, old.place, 0.5), Solo(), wide=TRAINING["wide"] | {"lambda1": 0.9})
    weights, state = parent_wide(old)
    shrink = (0.9 - 0.4) / ((1.0 + np.sqrt(0.5 * state[:, 1])) / 0.1 + 0.1)
    expected = np.sign(weights) * np.maximum(np.abs(weights) - shrink, 0.0)
    expected[0] = weights[0]
    assert 5 < np.count_nonzero(expected) < np.count_nonzero(weights)
    np.testing.assert_allclose(wide_weights(learner), expected, rtol=1e-5, atol=1e-7)


def test_decay_lets_old_rows_move_faster_but_not_faster_than_new_ones(old: Old) -> None:
    learner = begin(old.place, warm(old, old.place, 0.1), Solo())
    for width, table in learner.embeddings.items():
        theirs = np.load(f"{old.candidate}/optimizer/embedding_{width}_accumulators.npy")
        expected = np.maximum(np.float32(0.1) * theirs, np.float32(1e-6))
        np.testing.assert_array_equal(table.state()["accumulators"], expected)
        np.testing.assert_array_equal(
            table.state()["values"], np.load(f"{old.candidate}/scoring/embedding_{width}.npy")
        )
    source = np.load(io.BytesIO((Path(old.candidate) / "optimizer/head.npz").read_bytes()))
    for name, tensor in learner.head_tensors().items():
        expected = source[name]
        if name.startswith("accumulators/"):
            expected = np.maximum(np.float32(0.1) * expected, np.float32(1e-6))
            assert (expected > 1e-6).any()
        np.testing.assert_array_equal(tensor.detach(), expected)
