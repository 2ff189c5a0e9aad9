"""Served equals judged: on every day the gate's figures of the champion are those of the requests that it answered.

Nights are run one by one. Before each, the requests of its day are scored as a server would: raw rows, the artifact and
the counters that the pointer names at that moment. What serves has learned the day that judged it. A request does not
know the price, which serves as 0.5; the gate judges by the log's.
"""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml
from sklearn.metrics import log_loss

import nightjar
from nightjar.features.contract.manifests import ArtifactManifest, CandidateManifest, CountersManifest, NightManifest
from nightjar.features.contract.publishing import read_manifest
from nightjar.features.contract.records import Ledger
from nightjar.jobs import run_nightly
from nightjar.jobs.common.cli import EXIT_REJECTED
from nightjar.jobs.common.decisions import read_decision
from nightjar.serving import registry
from nightjar.serving.gate.decision import Decision
from tests.kits.small_night import CONFIG, make_day, write_day

REJECTED, CHANGED, LAST = range(3, 8), 8, 9
BAND = {"name": "band", "column": "price", "boundaries": [0.25, 0.5, 0.75]}


def config_of(*, rejected: bool = False, changed: bool = False) -> dict[str, Any]:
    """Nights; as changed, with one field more, another group and no dense feature, so that nothing stands in."""
    config = copy.deepcopy(CONFIG)
    config["features"]["dense"] = [{"name": "price", "serve_as": 0.5}]
    config["nightly"]["publish"] = {"learn_evaluated_day": True}
    if changed:
        config["features"]["fields"].append(BAND)
        config["features"] |= {"group": "item", "dense": []}
        config["gate"]["overall"]["groups"] = 5
    if rejected:
        config["gate"]["normalized_entropy"] = 1e-6
    return config


def requests_of(day: int) -> pa.Table:
    """The day's rows as requests bring them."""
    return make_day(day).drop_columns(["clicked", "at"])


@dataclass
class Nights:
    """What was served and judged, by day. served, without: log loss of the requests, with the log's prices and without;
    judged: the gate's of the champion; as_of: day of the counters.
    """

    output: Path
    served: dict[int, float] = field(default_factory=dict)
    without: dict[int, float] = field(default_factory=dict)
    judged: dict[int, float] = field(default_factory=dict)
    as_of: dict[int, date] = field(default_factory=dict)
    statuses: dict[int, int] = field(default_factory=dict)
    pointers: dict[int, registry.Pointer] = field(default_factory=dict)


def champion_figures(output: Path, day: int) -> float | None:
    """What the gate of a night found of the champion."""
    [decision] = (output / "decisions").glob(f"2026-01-{day:02d}-*")
    if not (decision / "champion.json").exists():
        return None
    return float(json.loads((decision / "champion.json").read_text())["metrics"]["log_loss"])


def is_judged(candidate: Path) -> bool:
    """A night's own candidate, not what became of it."""
    return (candidate / "manifest.json").exists() and not candidate.name.endswith("-finished")


def candidate_of(nights: Nights, version: str) -> CandidateManifest:
    return read_manifest(str(nights.output / "candidates" / version), CandidateManifest)


def decision_of(nights: Nights, folder: str, day: int) -> Decision:
    """Of a night's gate, or of its finish."""
    [directory] = (nights.output / folder).glob(f"2026-01-{day:02d}-*")
    return read_decision(str(directory))[0]


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory, spark: object) -> Nights:
    """Nights 2 to 9: those of days 3 to 7 are rejected by force, from the eighth day on the spec is another."""
    place = tmp_path_factory.mktemp("served")
    for day in range(1, LAST + 1):
        write_day(place / "logs", day)
    found = Nights(place / "output")
    models = str(found.output / "models")
    for day in range(2, LAST + 1):
        if day > 2:
            model = nightjar.load_champion(models)
            found.as_of[day] = model.counters_as_of
            label = make_day(day).column("clicked").to_numpy()
            for figures, as_logged in ((found.served, True), (found.without, False)):
                scores = model.score(requests_of(day), as_logged=as_logged).astype(np.float64)
                figures[day] = log_loss(label, scores)
        (place / "conf.yaml").write_text(yaml.safe_dump(config_of(rejected=day in REJECTED, changed=day >= CHANGED)))
        arguments = ["--config", str(place / "conf.yaml"), "--logs", str(place / "logs"), "--output", str(found.output)]
        found.statuses[day] = run_nightly.main([*arguments, "--date", f"2026-01-{day:02d}"])
        figure = champion_figures(found.output, day)
        if figure is not None:
            found.judged[day] = figure
        pointer = registry.champion(models)
        assert pointer is not None
        found.pointers[day] = pointer
    return found


def test_the_gate_judges_the_champion_as_it_served(nights: Nights) -> None:
    """After no rejected night, after one to five of them, and under another spec."""
    assert sorted(nights.judged) == [*REJECTED, CHANGED, LAST]
    assert {day: nights.served[day] for day in nights.judged} == pytest.approx(nights.judged, abs=1e-6)


def test_what_serves_has_learned_the_day_that_judged_it(nights: Nights) -> None:
    for day in (2, CHANGED, LAST):
        pointer = nights.pointers[day]
        assert pointer.version == f"{pointer.judged}-finished"
        lineage = read_manifest(str(nights.output / "models" / pointer.version), ArtifactManifest).lineage
        assert (lineage.judged, lineage.learned_date) == (pointer.judged, f"2026-01-{day:02d}")
        assert lineage.state_through_date == f"2026-01-{day - 1:02d}", "under the judged model's vocabulary"
        assert lineage.parent is not None
        assert lineage.parent.candidate == pointer.judged
        finished, judged = (candidate_of(nights, str(name)) for name in (pointer.version, pointer.judged))
        assert finished.statistics["rows"] == 600, "the day's rows, once each"
        [ledger] = (nights.output / "nights").glob(f"2026-01-{day:02d}-*/ledger.json")
        assert Ledger.model_validate_json(ledger.read_bytes()).finished == 600
        assert finished.state == judged.state


def test_no_row_is_learned_twice(nights: Nights) -> None:
    """The next night begins with the judged model: what has learned the day is nobody's parent."""
    for day, parent_day in ((3, 2), (4, 2), (7, 2), (CHANGED, 2), (LAST, CHANGED)):
        [name] = [path.name for path in (nights.output / "candidates").glob(f"2026-01-{day:02d}-*/") if is_judged(path)]
        parent = candidate_of(nights, name).parent
        assert parent is not None
        assert (parent.candidate, parent.through_date) == (
            nights.pointers[parent_day].judged,
            f"2026-01-{parent_day - 1:02d}",
        )


def test_a_rejected_night_learns_nothing_more(nights: Nights) -> None:
    for day in REJECTED:
        assert [check.metric for check in decision_of(nights, "finishes", day).failures] == ["gate"]
        assert not list((nights.output / "candidates").glob(f"2026-01-{day:02d}-*-finished"))


def test_how_far_the_day_moved_its_scores_is_on_record(nights: Nights) -> None:
    moved = decision_of(nights, "finishes", CHANGED).movement
    assert moved is not None
    assert moved.rows == 600
    assert 0.0 < moved.mean < moved.p99 <= moved.largest
    judged = decision_of(nights, "decisions", CHANGED).parts[0].figures[0].candidate
    assert moved.log_loss_before == pytest.approx(judged, abs=1e-6), "as the gate has judged it"


def test_figures_as_served_are_beside_those_as_logged(nights: Nights) -> None:
    """On the eighth day the champion has a stand-in and the candidate has none; on the last the reference alone has."""
    found = {day: decision_of(nights, "decisions", day).as_served for day in nights.judged}
    assert {day: sorted(figures) for day, figures in found.items()} == {
        **{day: ["candidate", "champion"] for day in (*REJECTED, CHANGED)},
        LAST: ["candidate", "champion", "reference"],
    }
    for day in (*REJECTED, CHANGED):
        assert found[day]["champion"].log_loss == pytest.approx(nights.without[day], abs=1e-6)
        assert abs(nights.without[day] - nights.served[day]) > 1e-5
    for day in (CHANGED, LAST):
        logged = decision_of(nights, "decisions", day).parts[0].figures[0].candidate
        assert found[day]["candidate"].log_loss == pytest.approx(logged), "nothing stands in"


def test_counters_are_as_of_the_day_that_they_serve_whatever_the_gate_said(nights: Nights) -> None:
    assert nights.as_of == {day: date(2026, 1, day) for day in range(3, LAST + 1)}
    for day in range(3, LAST + 1):
        assert decision_of(nights, "decisions", day).counters_as_of["champion"] == f"2026-01-{day:02d}"
        [record] = (nights.output / "nights").glob(f"2026-01-{day:02d}-*")
        renewed = read_manifest(str(record), NightManifest).directories["renew"]
        assert renewed == (f"models/counters/{nights.pointers[day].counters}",)
    assert nights.statuses == {2: 0, **dict.fromkeys(REJECTED, EXIT_REJECTED), CHANGED: 0, LAST: 0}


def test_a_rejected_night_moves_the_counters_and_not_the_weights(nights: Nights) -> None:
    pointers = [nights.pointers[day] for day in (2, *REJECTED)]
    assert len({pointer.version for pointer in pointers}) == 1
    assert len({pointer.counters for pointer in pointers}) == len(pointers)
    assert pointers[-1].previous == pointers[0].previous


def test_a_spec_that_changes_does_not_stop_the_nights(nights: Nights) -> None:
    versions = [nights.pointers[day].version for day in (CHANGED - 1, CHANGED, LAST)]
    assert len(set(versions)) == 3
    assert nights.pointers[CHANGED].version.startswith(f"2026-01-{CHANGED:02d}-")


def test_a_delta_is_less_than_the_tables_and_named_by_what_it_follows(nights: Nights) -> None:
    folder = nights.output / "models" / "counters"
    third = nights.pointers[3].counters
    manifest = read_manifest(str(folder / str(third)), CountersManifest)
    assert manifest.previous == nights.pointers[2].counters
    assert all(changed <= manifest.keys[name] for name, changed in manifest.changed.items())


def test_a_rollback_serves_the_old_weights_with_counters_of_today(nights: Nights) -> None:
    """The changed spec counts the same keys, so that the newest counters serve the old weights, too."""
    models = str(nights.output / "models")
    registry.rollback(models)
    back = registry.rollback(models)
    assert back.version == nights.pointers[2].version
    assert nightjar.load_champion(models).counters_as_of == date(2026, 1, LAST + 1)
