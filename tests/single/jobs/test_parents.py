"""Which model a night begins with: the same whenever it is asked, whatever it and its followers have published."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from nightjar.features.contract import storage
from nightjar.features.contract.errors import DataError
from nightjar.features.contract.manifests import ArtifactManifest, CandidateManifest
from nightjar.features.contract.outputs import finished_of
from nightjar.features.contract.publishing import begin, commit, describe_files, manifest_digest
from nightjar.jobs.nightly.parents import (
    ParentVersion,
    Start,
    WarmStartConfig,
    choose_start,
    parent_of,
    sibling,
    warm_start,
)
from nightjar.serving import registry

NIGHTS = ("2026-01-05", "2026-01-06", "2026-01-07", "2026-01-08")


def day(text: str) -> date:
    return date.fromisoformat(text)


def publish(
    output: Path, night: str, kind: str = "models", model: str = "lr", beside: str = "", *, finished: bool = False
) -> str:
    """A night's model and its candidate; its days end the day before. finished: it has learned the night's day, too."""
    judged = f"{night}-{model}-0000"
    version = finished_of(judged) if finished else judged
    candidate, artifact = str(output / "candidates" / version), str(output / kind / version)
    for directory in (candidate, artifact):
        begin(directory)
        storage.write_bytes(f"{directory}/weights", version.encode())
    described = {"model": model, "spec_fingerprint": "0", "columns": ()}
    commit(
        candidate,
        CandidateManifest(**described, files=describe_files(candidate), state="0", settings={}, statistics={}),
    )
    through = date.fromordinal(day(night).toordinal() - 1).isoformat()
    lineage = {"state_through_date": through, "beside": beside or version}
    lineage |= {"judged": judged, "learned_date": night} if finished else {}
    inputs = {"candidate": manifest_digest(candidate)}
    commit(
        artifact,
        ArtifactManifest(**described, files=describe_files(artifact), inputs=inputs, lineage=lineage, metrics={}),
    )
    return version


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """Four nights, all published and promoted."""
    for night in NIGHTS:
        registry.promote(str(tmp_path / "models"), publish(tmp_path, night), f"night {night}")
    return tmp_path


def parents(output: Path) -> dict[str, str | None]:
    found = {night: parent_of(str(output / "models"), day(night)) for night in (*NIGHTS, "2026-01-09")}
    return {night: parent.version[:10] if parent else None for night, parent in found.items()}


LINE = dict(zip((*NIGHTS, "2026-01-09"), (None, *NIGHTS), strict=True))


def test_a_night_begins_with_the_night_before_even_after_later_promotions(output: Path) -> None:
    assert parents(output) == LINE
    assert parent_of(str(output / "models"), day("2026-01-07")) == ParentVersion(
        "2026-01-06-lr-0000", day("2026-01-05")
    )


def test_what_was_rolled_back_is_nobodys_parent(output: Path) -> None:
    registry.rollback(str(output / "models"))
    registry.rollback(str(output / "models"))
    assert parents(output) == {**LINE, "2026-01-08": "2026-01-06", "2026-01-09": "2026-01-06"}
    registry.promote(str(output / "models"), publish(output, "2026-01-09"), "night 2026-01-09")
    assert parents(output)["2026-01-09"] == "2026-01-06"


def test_a_night_begins_with_the_judged_model_of_a_finished_champion(output: Path) -> None:
    """It has not learned the day that judged it, which is the next night's training day; the finished one has."""
    judged, finished = publish(output, "2026-01-09"), publish(output, "2026-01-09", finished=True)
    registry.promote(str(output / "models"), finished, "night 2026-01-09")
    found = parent_of(str(output / "models"), day("2026-01-10"))
    assert found == ParentVersion(judged, day("2026-01-08"))
    assert parents(output) == LINE, "and the night itself has the parent that it had"


def test_a_rejected_night_is_skipped(output: Path) -> None:
    publish(output, "2026-01-09")
    found = parent_of(str(output / "models"), day("2026-01-10"))
    assert found == ParentVersion("2026-01-08-lr-0000", day("2026-01-07"))


def test_a_pruned_model_is_still_the_parent_that_the_night_had(output: Path) -> None:
    registry.prune(str(output / "models"), 1)
    assert not (output / "models" / "2026-01-05-lr-0000").exists()
    assert parents(output) == LINE


def test_reasons_for_a_cold_start(output: Path) -> None:
    def reason(night: str, **settings: object) -> str:
        start = choose_start(WarmStartConfig.model_validate(settings), str(output), day(night))
        assert (start.parent is None) == (start.record.how == "cold")
        return str(start.record)

    assert reason("2026-01-06") == "warm: 2026-01-05-lr-0000"
    assert reason("2026-01-05") == "cold: there is no earlier champion"
    assert reason("2026-01-06", enabled=False) == "cold: the warm start is off"
    reasons = [reason(night, cold_every=3) for night in NIGHTS]
    assert reasons.count("cold: every 3 days") == 1
    assert reason("2026-01-06", if_unusable="cold").startswith("cold: the parent 2026-01-05")


def test_a_damaged_parent_is_an_error_unless_a_cold_start_is_allowed(output: Path) -> None:
    (output / "candidates" / "2026-01-05-lr-0000" / "manifest.json").unlink()
    night, lenient = day("2026-01-06"), WarmStartConfig(if_unusable="cold")
    with pytest.raises(DataError, match=r"which the warm start needs, is not there any more.*--cold"):
        warm_start(str(output), "models", "2026-01-05-lr-0000", state="", decay=1.0)
    cold = choose_start(lenient, str(output), night)
    assert cold == Start(None, "the parent 2026-01-05-lr-0000 cannot be used")


def test_a_candidate_that_the_parent_was_not_packed_from_is_refused(output: Path) -> None:
    manifest = output / "candidates" / "2026-01-05-lr-0000" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"model": "lr"', '"model": "fm"'))
    with pytest.raises(DataError, match=r"is not what .* was packed from"):
        warm_start(str(output), "models", "2026-01-05-lr-0000", state="", decay=1.0)


def test_a_baseline_follows_the_one_beside_the_parent(output: Path) -> None:
    parent = ParentVersion("2026-01-06-lr-0000", day("2026-01-05"))
    assert sibling(str(output), "deep", parent) is None
    publish(output, "2026-01-06", "baselines", "deep", beside="another version")
    assert sibling(str(output), "deep", parent) is None
    name = publish(output, "2026-01-06", "baselines", "fm", beside=parent.version)
    assert sibling(str(output), "fm", parent) == name


def test_a_night_before_all_champions_that_are_remembered_is_told_so(output: Path) -> None:
    """Where the first promotion is remembered, it is a first night."""
    night = day("2026-01-05")
    assert choose_start(WarmStartConfig(), str(output), night).cold_reason == "there is no earlier champion"
    move = output / "models" / "history" / "000001.json"
    assert '"previous": null' in move.read_text()
    move.unlink()
    with pytest.raises(
        DataError, match=r"retention has removed what was champion before 2026-01-05, .* --cold, or set"
    ):
        choose_start(WarmStartConfig(), str(output), night)
    reason = choose_start(WarmStartConfig(if_unusable="cold"), str(output), night).cold_reason
    assert reason == "retention has removed what was champion before 2026-01-05"
    assert choose_start(WarmStartConfig(), str(output), day("2026-01-09")).parent is not None
