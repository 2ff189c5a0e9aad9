"""The judged model goes on over the day that judged it, from all that it remembers; it serves if that does not fail."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nightjar import serving
from nightjar.features.contract import storage
from nightjar.features.contract.manifests import ArtifactManifest, CandidateManifest
from nightjar.features.contract.publishing import is_published, read_manifest
from nightjar.jobs.common.decisions import publish_decision
from nightjar.jobs.common.held_back import rows_held_back
from nightjar.jobs.finishing.finish import Finish
from nightjar.serving.gate.decision import Decision, GateCheck, PublishConfig
from nightjar.serving.packing.config import ArtifactConfig, CalibrationConfig
from nightjar.training.config import TrainingConfig, WideConfig
from nightjar.training.evaluation.config import HeldOutValidationConfig
from tests.kits.finish_kit import JUDGED, carried_out, finish_in, make_judged
from tests.kits.serving.serving_kit import make_rows

TRAINING = TrainingConfig(model="lr", epochs=3, batch_size=32, lanes=2, wide=WideConfig(alpha=0.5))


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("judged")
    make_judged(output, TRAINING)
    return output


@pytest.fixture
def finish(judged: Path, tmp_path: Path) -> Finish:
    """To be carried out, in a copy of that output."""
    shutil.copytree(judged, tmp_path / "output")
    return finish_in(tmp_path / "output", TRAINING)


@pytest.fixture(scope="module")
def finished(judged: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Finish, Decision]:
    """Carried out, in another copy."""
    output = tmp_path_factory.mktemp("finished") / "output"
    shutil.copytree(judged, output)
    finish = finish_in(output, TRAINING)
    return finish, carried_out(finish)


def squares(finish: Finish, version: str) -> dict[int, float]:
    """FTRL's n by id: the sum of squared gradients of all rows so far."""
    folder = Path(finish.output) / "candidates" / version / "optimizer"
    return dict(zip(np.load(folder / "wide_ids.npy").tolist(), np.load(folder / "wide_ftrl.npy")[:, 1], strict=True))


def test_it_goes_on_from_what_was_remembered_over_every_row_once(finished: tuple[Finish, Decision]) -> None:
    finish, decision = finished
    assert decision.verdict == "published", decision.failures
    manifest = read_manifest(storage.join(finish.output, "candidates", finish.version), CandidateManifest)
    assert manifest.statistics["rows"] == 600, "whatever training.epochs is"
    before, after = squares(finish, JUDGED), squares(finish, finish.version)
    assert before.keys() <= after.keys()
    assert all(after[row] >= before[row] for row in before)
    assert sum(after.values()) > 1.05 * sum(before.values())


def test_it_is_packed_and_calibrated_as_the_judged_model_was(finish: Finish) -> None:
    training = TRAINING.model_copy(update={"validation": HeldOutValidationConfig(share=0.4)})
    packing = ArtifactConfig(wide="float16", calibration=CalibrationConfig(method="platt"))
    finish = replace(finish, training=training, packing=packing)
    assert carried_out(finish).movement is not None
    manifest, model = read_manifest(finish.artifact, ArtifactManifest), serving.load(finish.artifact)
    held_back = rows_held_back(packing, training, finish.dataset)
    assert held_back is not None
    assert manifest.inputs["calibration"] == held_back.digest, "the judged day is learned by now"
    assert manifest.lineage.artifact == {"wide": "float16", "calibration": {"method": "platt"}}
    assert model.calibration is not None
    assert model.calibration.curve.slope != 1.0


def test_the_finished_model_says_what_it_is_and_what_it_moved(finished: tuple[Finish, Decision]) -> None:
    finish, decision = finished
    moved = decision.movement
    lineage = read_manifest(finish.artifact, ArtifactManifest).lineage
    assert (lineage.judged, lineage.learned_through_date, lineage.state_through_date) == (
        JUDGED,
        "2024-05-03",
        "2024-05-02",
    )
    before, after = (
        serving.load(storage.join(finish.output, "models", version)).score(make_rows(600, 1)).astype(np.float64)
        for version in (JUDGED, finish.version)
    )
    change = np.log(after / (1.0 - after)) - np.log(before / (1.0 - before))
    assert moved is not None
    assert moved.mean == pytest.approx(np.abs(change).mean(), rel=1e-4)
    assert moved.mean > 0.0


def test_a_rejected_model_learns_nothing_more(finish: Finish) -> None:
    said = Decision(
        verdict="rejected", rejection="worse", rows=1, checks=(GateCheck(metric="auc", passed=False, reason="worse"),)
    )
    judgement = storage.join(finish.output, "rejection")
    publish_decision(judgement, said, {}, of=(JUDGED, None), inputs={})
    decision = carried_out(replace(finish, judgement=judgement))
    assert [check.metric for check in decision.failures] == ["gate"]
    assert not is_published(finish.artifact)


def test_a_finish_beyond_its_bound_is_on_record_and_refused(finished: tuple[Finish, Decision]) -> None:
    bounded = replace(finished[0], config=PublishConfig(learn_evaluated_day=True, mean_move=1e-6))
    decision = carried_out(bounded)
    assert [check.metric for check in decision.failures] == ["mean_move"]
    assert decision.movement is not None


def test_a_training_that_fails_is_on_record(finish: Finish) -> None:
    (Path(finish.output) / "candidates" / JUDGED / "optimizer" / "wide_ftrl.npy").write_bytes(b"cut short")
    decision = carried_out(finish)
    assert [check.metric for check in decision.failures] == ["training"]
    assert "wide_ftrl.npy" in decision.failures[0].reason
