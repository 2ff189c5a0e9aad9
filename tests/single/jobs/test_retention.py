"""Old nights go, the last ones and both champions stay, and a kill at any removal is made good."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from nightjar.features.contract import storage
from nightjar.features.contract.manifests import Manifest
from nightjar.features.contract.publishing import MANIFEST, begin, commit, describe_files
from nightjar.jobs.nightly.retention import KeepConfig, prune
from nightjar.serving import registry
from tests.kits.registry_kit import Killed, kill_at, publish

NIGHTS = [f"2026-01-{day:02d}" for day in range(3, 9)]


def directory(output: str, path: str) -> None:
    place = storage.join(output, path)
    begin(place)
    storage.write_bytes(storage.join(place, "data"), path.encode())
    commit(place, Manifest(kind="some", files=describe_files(place)))


def make_night(output: str, night: str) -> None:
    before = f"2026-01-{int(night[-2:]) - 1:02d}"
    publish(f"{output}/models", f"{night}-lr-aa", int(night[-2:]))
    for path in (
        f"aggregates/date={night}-aa",
        f"rollups/through={before}-aa",
        f"states/through={before}-aa",
        f"datasets/train-2026-01-01..{before}-aa",
        f"datasets/holdout-{night}-aa",
        f"datasets/scored-{night}..{night}-aa",
        f"candidates/{night}-lr-aa",
        f"baselines/{night}-fm-aa",
        f"evaluations/{night}-aa",
        f"decisions/{night}-lr-aa-bb",
        f"nights/{night}-aa",
    ):
        directory(output, path)


@pytest.fixture
def output(tmp_path: Path) -> str:
    """Six nights; the champion is the second, the one before it the first."""
    output = str(tmp_path)
    for night in NIGHTS:
        make_night(output, night)
        if night <= NIGHTS[1]:
            registry.promote(f"{output}/models", f"{night}-lr-aa", "the gate")
    return output


def dates(output: str, kind: str) -> list[str]:
    return sorted({name[:10] for name in storage.list_folders(f"{output}/{kind}") if name != "history"})


def contents(output: str) -> dict[str, bytes]:
    return {path: storage.read_bytes(storage.join(output, path)) for path in storage.list_files(output)}


def test_models_go_with_what_was_made_for_them_but_never_a_champion(output: str) -> None:
    prune(KeepConfig(models=2), output, date(2026, 1, 8))
    kept = [*NIGHTS[:2], *NIGHTS[-2:]]
    for kind in ("models", "candidates", "baselines", "evaluations"):
        assert dates(output, kind) == kept
    assert dates(output, "decisions") == dates(output, "nights") == NIGHTS
    assert len(storage.list_folders(f"{output}/datasets")) == 3 * len(NIGHTS)
    assert registry.rollback(f"{output}/models").version.startswith(NIGHTS[0])


def test_data_sets_and_states_go_with_their_nights_and_counts_stay(output: str) -> None:
    prune(KeepConfig(datasets=2), output, date(2026, 1, 8))
    assert storage.list_folders(f"{output}/datasets") == [
        "holdout-2026-01-07-aa",
        "holdout-2026-01-08-aa",
        "scored-2026-01-07..2026-01-07-aa",
        "scored-2026-01-08..2026-01-08-aa",
        "train-2026-01-01..2026-01-06-aa",
        "train-2026-01-01..2026-01-07-aa",
    ]
    for kind in ("rollups", "states"):
        assert storage.list_folders(f"{output}/{kind}") == ["through=2026-01-06-aa", "through=2026-01-07-aa"]
    assert len(storage.list_folders(f"{output}/aggregates")) == len(dates(output, "models")) == len(NIGHTS)


def test_nothing_of_the_night_at_hand_goes_even_where_it_is_an_old_one(output: str) -> None:
    prune(KeepConfig(models=1, datasets=1), output, date(2026, 1, 5))
    assert "holdout-2026-01-05-aa" in storage.list_folders(f"{output}/datasets")
    assert "2026-01-05-lr-aa" in storage.list_folders(f"{output}/candidates")
    assert "holdout-2026-01-06-aa" not in storage.list_folders(f"{output}/datasets")


def test_without_numbers_everything_stays(output: str) -> None:
    before = contents(output)
    assert prune(KeepConfig(), output, date(2026, 1, 8)) == []
    assert contents(output) == before


def test_a_kill_at_any_removal_is_made_good_by_the_next_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep, night = KeepConfig(models=1, datasets=1), date(2026, 1, 5)

    def fresh(name: str) -> str:
        output = str(tmp_path / name)
        for text in NIGHTS[:3]:
            make_night(output, text)
        registry.promote(f"{output}/models", f"{NIGHTS[2]}-lr-aa", "the gate")
        return output

    undisturbed = fresh("undisturbed")
    prune(keep, undisturbed, night)
    for calls in range(200):
        output = fresh(f"killed {calls}")
        try:
            with monkeypatch.context() as patched:
                kill_at(patched, calls, after=calls % 2 == 0)
                prune(keep, output, night)
        except Killed:
            for path in storage.list_files(output, MANIFEST):
                assert storage.list_files(storage.join(output, path.rpartition("/")[0])) != [MANIFEST]
            prune(keep, output, night)
        else:
            break
        assert contents(output) == contents(undisturbed)
    assert calls > 20
