"""Old nights go, the last ones and both champions stay, and a kill at any removal is made good."""

from __future__ import annotations

import shutil
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from nightjar.features.contract import storage
from nightjar.features.contract.errors import DataError, LockedError
from nightjar.features.contract.manifests import (
    AggregateManifest,
    CountersManifest,
    Manifest,
    RollupManifest,
    StateManifest,
)
from nightjar.features.contract.outputs import log_input
from nightjar.features.contract.publishing import MANIFEST, begin, commit, describe_files
from nightjar.features.contract.spec import FeatureSpec
from nightjar.features.dataset.plan import BuildDates, BuildPlan, plan_build
from nightjar.jobs.nightly.retention import KeepConfig, Past, prune
from nightjar.serving import registry
from tests.kits.feature_logs import SPEC, days, write_logs
from tests.kits.registry_kit import Killed, kill_at, publish

PAST = Past(SPEC, date(2026, 1, 1))
NIGHTS = [f"2026-01-{day:02d}" for day in range(3, 9)]


OF_A_NIGHT = (
    ("reports", ".html"),
    ("reports", "-features.html"),
    ("metrics", ".prom"),
    ("metrics", ".json"),
    ("candidates", "-lr-aa.jsonl"),
)


def directory(output: str, path: str) -> None:
    place = storage.join(output, path)
    begin(place)
    storage.write_bytes(storage.join(place, "data"), path.encode())
    files = describe_files(place)
    if path.startswith("rollups/"):
        through, spec = path[-13:-3], SPEC.fingerprint if path.endswith("aa") else "other"
        commit(
            place,
            RollupManifest(files=files, spec_fingerprint=spec, first_date="2026-01-01", through_date=through),
        )
    else:
        commit(place, Manifest(kind="some", files=files))


def make_night(output: str, night: str) -> None:
    before = f"2026-01-{int(night[-2:]) - 1:02d}"
    publish(f"{output}/models", f"{night}-lr-aa")
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
    return sorted({name[:10] for name in storage.list_folders(f"{output}/{kind}") if name[:2] == "20"})


def contents(output: str) -> dict[str, bytes]:
    return {path: storage.read_bytes(storage.join(output, path)) for path in storage.list_files(output)}


def test_models_go_with_what_was_made_for_them_but_never_a_champion(output: str) -> None:
    prune(KeepConfig(models=2), output, date(2026, 1, 8), PAST)
    kept = [*NIGHTS[:2], *NIGHTS[-2:]]
    for kind in ("models", "candidates", "baselines", "evaluations"):
        assert dates(output, kind) == kept
    assert dates(output, "decisions") == dates(output, "nights") == NIGHTS
    assert len(storage.list_folders(f"{output}/datasets")) == 3 * len(NIGHTS)
    assert registry.rollback(f"{output}/models").version.startswith(NIGHTS[0])


def test_data_sets_and_states_go_with_their_nights_and_counts_stay(output: str) -> None:
    prune(KeepConfig(datasets=2), output, date(2026, 1, 8), PAST)
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


def test_the_history_under_a_spec_that_no_night_uses_any_more_stays(output: str) -> None:
    """The champion may be of that spec, and the logs of its first days may be gone."""
    for through in ("2026-01-01", "2026-01-02"):
        directory(output, f"rollups/through={through}-bb")
    prune(KeepConfig(datasets=1), output, date(2026, 1, 8), PAST)
    assert storage.list_folders(f"{output}/rollups") == ["through=2026-01-02-bb", "through=2026-01-07-aa"]


def test_the_next_night_finds_all_counts_though_logs_and_counts_are_gone(tmp_path: Path) -> None:
    """It trains on two days; with one day's counts less it could not be planned."""
    dates, output = days("2026-03-01", 12), str(tmp_path / "out")
    logs = write_logs(tmp_path / "logs", dates, rows=5)

    def plan(night: int) -> BuildPlan:
        asked = BuildDates(dates[night - 2], dates[night - 1], history_from=dates[0], holdout=dates[night])
        return plan_build(SPEC, str(logs), output, asked)

    for night in range(3, 11):
        made = plan(night)
        through = made.history[-1].date
        inputs = {log_input(day.date): day.fingerprint for day in made.history}
        known: dict[str, Any] = {"files": (), "spec_fingerprint": SPEC.fingerprint}
        rollup = RollupManifest(**known, inputs=inputs, first_date=dates[0], through_date=through)
        commit(made.rollup_dirs[through], rollup)
        for day, counts in made.aggregate_dirs.items():
            commit(counts, AggregateManifest(**known, date=day, rows=5, positives=1))
    prune(KeepConfig(days=1, datasets=1), output, date.fromisoformat(dates[10]), Past(SPEC, date(2026, 3, 9)))
    for day in dates[:9]:
        shutil.rmtree(logs / f"date={day}")

    kept = storage.list_folders(f"{output}/aggregates")
    assert [name[5:15] for name in kept] == dates[5:11]
    assert [name[8:18] for name in storage.list_folders(f"{output}/rollups")] == [dates[7], dates[9]]
    assert plan(11).lost == []
    shutil.rmtree(f"{output}/aggregates/{kept[0]}")
    with pytest.raises(DataError, match=f"the logs of {dates[5]} are gone, and so are their counts"):
        plan(11)


def with_encoder(output: str, version: str, spec: FeatureSpec) -> None:
    commit(
        f"{output}/models/{version}/encoder",
        StateManifest(
            files=(),
            spec=spec,
            spec_fingerprint=spec.fingerprint,
            first_date="2026-01-01",
            through_date="2026-01-02",
            vocabulary_sizes={},
            boundaries={},
        ),
    )


def test_counters_go_but_those_of_the_pointer_and_of_the_last_days_of_every_version(output: str) -> None:
    other = SPEC.model_copy(update={"frequencies": SPEC.frequencies[:1]})
    for n, night in enumerate(NIGHTS):
        with_encoder(output, f"{night}-lr-aa", SPEC if n else other)
    for name, spec in (("aa", SPEC.counters_fingerprint), ("bb", other.counters_fingerprint), ("cc", "0" * 16)):
        for through, served in pairwise(NIGHTS):
            manifest = CountersManifest(
                files=(), fingerprint=spec, first_date="2026-01-01", through_date=through, keys={}
            )
            commit(f"{output}/models/counters/{served}-{name}", manifest)
    registry.renew(f"{output}/models", f"{NIGHTS[1]}-aa", "by hand")
    prune(KeepConfig(counters=1), output, date.fromisoformat(NIGHTS[4]), PAST)
    assert (
        storage.list_folders(f"{output}/models/counters")
        == [
            f"{NIGHTS[1]}-aa",  # the pointer's
            *(f"{night}-{name}" for night in NIGHTS[4:] for name in ("aa", "bb")),
        ]
    )
    back = registry.rollback(f"{output}/models")
    assert (back.version, back.counters) == (f"{NIGHTS[0]}-lr-aa", f"{NIGHTS[5]}-bb")


def test_records_go_with_pages_figures_and_logs_but_not_since_the_champion_before(output: str) -> None:
    files = [f"{kind}/{night}{end}" for night in NIGHTS for kind, end in OF_A_NIGHT]
    files += [f"runs/{night.replace('-', '')}T023000Z-1-abc.jsonl" for night in NIGHTS]
    lasting = ["reports/index.html", "metrics/latest.prom", "metrics/pages.prom"]
    for file in (*files, *lasting):
        storage.write_bytes(storage.join(output, file), b"x")
    night = date.fromisoformat(NIGHTS[-1])
    prune(KeepConfig(nights=1), output, night, PAST)
    assert dates(output, "decisions") == dates(output, "nights") == NIGHTS
    for version in NIGHTS[2:5]:
        registry.promote(f"{output}/models", f"{version}-lr-aa", "the gate")
    prune(KeepConfig(nights=1), output, night, PAST)
    assert dates(output, "decisions") == dates(output, "nights") == NIGHTS[3:]
    there = set(storage.list_files(output))
    assert {file for file in (*files, *lasting) if file in there} == {
        *lasting,
        *(f for f in files if any(night in f or night.replace("-", "") in f for night in NIGHTS[3:])),
    }
    assert dates(output, "candidates") == dates(output, "models") == NIGHTS


def test_rows_do_not_outlive_the_records_that_count_them() -> None:
    with pytest.raises(ValidationError, match="nights must be at least datasets, 3; got 2"):
        KeepConfig(nights=2, datasets=3)


def test_a_damaged_version_keeps_its_counters_and_the_rest_goes(output: str, caplog: pytest.LogCaptureFixture) -> None:
    storage.write_bytes(f"{output}/models/{NIGHTS[-1]}-lr-aa/encoder/manifest.json", b"{")
    removed = prune(KeepConfig(counters=1, datasets=1), output, date.fromisoformat(NIGHTS[-1]), PAST)
    assert "retention is left to the next night" in caplog.text
    assert any(name.startswith("datasets/") for name in removed)


def test_nothing_of_the_night_at_hand_goes_even_where_it_is_an_old_one(output: str) -> None:
    prune(KeepConfig(models=1, datasets=1), output, date(2026, 1, 5), PAST)
    assert "holdout-2026-01-05-aa" in storage.list_folders(f"{output}/datasets")
    assert "2026-01-05-lr-aa" in storage.list_folders(f"{output}/candidates")
    assert "holdout-2026-01-06-aa" not in storage.list_folders(f"{output}/datasets")


def test_without_numbers_everything_stays(output: str) -> None:
    before = contents(output)
    assert prune(KeepConfig(), output, date(2026, 1, 8), PAST) == []
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
    prune(keep, undisturbed, night, PAST)
    for calls in range(200):
        output = fresh(f"killed {calls}")
        try:
            with monkeypatch.context() as patched:
                kill_at(patched, calls, after=calls % 2 == 0)
                prune(keep, output, night, PAST)
        except Killed:
            for path in storage.list_files(output, MANIFEST):
                assert storage.list_files(storage.join(output, path.rpartition("/")[0])) != [MANIFEST]
            prune(keep, output, night, PAST)
        else:
            break
        assert contents(output) == contents(undisturbed)
    assert calls > 20


def test_a_run_whose_lease_was_taken_over_removes_nothing(output: str) -> None:
    keep = KeepConfig(datasets=1, nights=1)
    storage.write_bytes(f"{output}/models/lock/000008.json", b"{}")
    before = storage.list_files(output)
    with pytest.raises(LockedError, match="its lease has the number 8, this run's 7"):
        prune(keep, output, date(2026, 1, 8), PAST, token=7)
    assert storage.list_files(output) == before
    assert prune(keep, output, date(2026, 1, 8), PAST, token=8)
