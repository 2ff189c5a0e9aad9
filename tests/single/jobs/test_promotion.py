"""The pointer moves once for a decision, and only from the champion that the decision was made against."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nightjar.features.contract import storage
from nightjar.features.contract.artifact_files import DECISION
from nightjar.features.contract.errors import DataError, LockedError
from nightjar.features.contract.manifests import ArtifactManifest
from nightjar.features.contract.publishing import begin, commit, describe_files
from nightjar.jobs.common.decisions import publish_decision
from nightjar.jobs.nightly.promotion import Promotion
from nightjar.serving import registry
from nightjar.serving.gate.decision import Decision, GateCheck, GateConfig, GateRule
from nightjar.serving.gate.finish import not_finished

CONFIG = GateConfig(rules=(GateRule(metric="log_loss", tolerance=0.1),))
NOTHING: Any = None


def publish(models: Path, version: str, judged: str | None = None) -> None:
    begin(str(models / version))
    storage.write_bytes(str(models / version / "weights"), version.encode())
    manifest = ArtifactManifest(
        files=describe_files(str(models / version)),
        model="lr",
        spec_fingerprint="0",
        columns=(),
        lineage={"judged": judged} if judged else {},
        metrics={},
    )
    commit(str(models / version), manifest)


def decided(place: Path, version: str, against: str | None, finish: str | None = None) -> Promotion:
    """A promotion whose decision is published already, as a killed night leaves it; and one on its finish."""
    output = str(place / "decisions" / version)
    publish_decision(output, Decision(verdict="published", rows=1, checks=()), {}, of=(version, against), inputs={})
    models = str(place / "models")
    return Promotion(CONFIG, models, version, "2026-01-05", NOTHING, NOTHING, NOTHING, "", {}, output, finish)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for version in ("a", "b", "c"):
        publish(tmp_path / "models", version)
    registry.promote(str(tmp_path / "models"), "a", "first")
    return tmp_path


def test_a_night_killed_before_the_pointer_moved_moves_it_when_run_again(place: Path) -> None:
    night = decided(place, "b", against="a")
    assert night.move() == "published"
    assert night.champion == "b"


def test_a_later_champion_is_not_overtaken_by_an_older_decision(place: Path) -> None:
    night = decided(place, "b", against="a")
    registry.promote(str(place / "models"), "c", "a later night")
    assert night.move() == night.move() == "superseded"
    assert night.champion == "c"


def test_a_rollback_by_hand_is_not_undone_by_running_the_night_again(place: Path) -> None:
    night = decided(place, "b", against="a")
    night.move()
    registry.rollback(str(place / "models"))
    assert night.move() == "published", "it was, once"
    assert night.champion == "a"


def test_a_night_whose_lease_was_taken_over_moves_nothing(place: Path) -> None:
    night = decided(place, "b", against="a")
    registry.promote(str(place / "models"), "c", "by hand", token=8)
    registry.promote(str(place / "models"), "a", "by hand", token=8)
    with pytest.raises(LockedError, match="another run has taken over"):
        night.move(7)
    assert night.champion == "a"
    assert night.move(9) == "published"


def finished(place: Path, decision: Decision) -> str:
    """`b` was finished to `b-finished`, and that was said of it."""
    publish(place / "models", "b-finished", judged="b")
    directory = str(place / "finishes" / "b-finished")
    publish_decision(directory, decision, {}, of=("b-finished", "b"), inputs={})
    return directory


def test_what_the_candidate_was_finished_to_serves_and_the_pointer_names_the_judged_one(place: Path) -> None:
    night = decided(place, "b", against="a", finish=finished(place, Decision(verdict="published", rows=1, checks=())))
    night.move()
    moved = registry.champion(str(place / "models"))
    assert moved is not None
    assert (moved.version, moved.judged, moved.sequence) == ("b-finished", "b", 2)
    night.move()
    assert registry.champion(str(place / "models")) == moved


def test_a_finish_that_failed_leaves_the_judged_model(place: Path) -> None:
    night = decided(place, "b", against="a", finish=finished(place, not_finished("training", "it diverged.")))
    night.move()
    moved = registry.champion(str(place / "models"))
    assert moved is not None
    assert (moved.version, moved.judged) == ("b", None)


def test_a_rollback_from_a_finished_model_leads_to_the_champion_before_and_stays(place: Path) -> None:
    night = decided(place, "b", against="a", finish=finished(place, Decision(verdict="published", rows=1, checks=())))
    night.move()
    assert registry.rollback(str(place / "models")).version == "a"
    night.move()
    assert night.champion == "a"
    assert registry.promote(str(place / "models"), "b-finished", "by hand").judged == "b"


def rewrite(night: Promotion, decision: Decision | None, **changes: object) -> None:
    """Another decision, or another manifest, in the place of the published one."""
    output = Path(night.output)
    if decision:
        (output / DECISION).write_bytes(decision.model_dump_json().encode())
    manifest = json.loads((output / "manifest.json").read_text())
    manifest |= changes
    if "files" not in changes and decision and "signed" in manifest:
        manifest["files"] = [entry.model_dump(mode="json") for entry in describe_files(str(output))]
    manifest.pop("signed", None)
    (output / "manifest.json").write_text(json.dumps(manifest))


FAILED = GateCheck(metric="auc", passed=False, reason="worse")


@pytest.mark.parametrize(
    ("decision", "changes", "said"),
    [
        (Decision(verdict="published", rows=2, checks=()), {}, "differs from the manifest"),
        (Decision(verdict="published", rows=1, checks=(FAILED,)), {"signed": 1}, "contradicts itself"),
        (Decision(verdict="rejected", rows=1, checks=(FAILED,)), {"signed": 1}, "contradicts itself"),
        (Decision(verdict="rejected", rows=1, checks=()), {"signed": 1, "verdict": "rejected"}, "contradicts itself"),
        (None, {"version": "c"}, "contradicts itself"),
        (None, {"version": "../../c"}, "version"),
        (None, {"champion": "../c"}, "champion"),
        (None, {"files": []}, "lists no decision.json"),
        (None, {"files": [{"path": "../x", "bytes": 0, "sha256": "0" * 64}]}, "path"),
    ],
    ids=range(9),
)
def test_a_decision_that_is_not_what_its_manifest_says_moves_nothing(
    place: Path, decision: Decision | None, changes: dict[str, object], said: str
) -> None:
    night = decided(place, "b", against="a")
    rewrite(night, decision, **changes)
    with pytest.raises(DataError, match=said):
        night.move()
    assert night.champion == "a"
