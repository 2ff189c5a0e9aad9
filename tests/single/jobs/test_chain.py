"""Steps run once, in order, on published inputs; and the plan says why."""

from __future__ import annotations

import sys
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from nightjar.features.contract.errors import DataError, LockedError, UsageError
from nightjar.features.contract.manifests import Manifest, NightManifest
from nightjar.features.contract.publishing import begin, commit
from nightjar.features.contract.records import HookEvent, NightVerdict
from nightjar.features.input.folders import DateFolders
from nightjar.jobs.common.decisions import publish_decision
from nightjar.jobs.nightly.chain import Step, carry_out, records, why
from nightjar.jobs.nightly.config import NightConfig
from nightjar.jobs.nightly.ingredients import DAYS_BY_NAME, named, named_logs
from nightjar.jobs.nightly.night import Night
from nightjar.jobs.nightly.run import exit_status, nights_with_log
from nightjar.jobs.nightly.steps import notify
from nightjar.jobs.nightly.telemetry import JobRun
from nightjar.serving import registry
from nightjar.serving.gate.decision import Decision
from tests.kits.registry_kit import publish_all
from tests.kits.small_night import CONFIG, write_day

NOTHING: Any = None
MADE_FROM = {"log of 2026-01-04": "x", "features.fields": "f", "training.epochs": "2", "gate.seed": "0"}


def publish(directory: str) -> None:
    begin(directory)
    commit(directory, Manifest(kind="some", files=()))


def make_chain(root: Path) -> list[Step]:
    """look, then a, then b from a."""
    a, b = str(root / "a"), str(root / "b")
    return [
        Step("look", (), (), ("log ",), lambda spark: None),
        Step("a", (a,), (), ("log ", "features."), lambda spark: publish(a)),
        Step("b", (b,), (a,), ("log ", "features.", "training."), lambda spark: publish(b)),
    ]


def run(chain: list[Step], *only: str) -> tuple[bool, list[str]]:
    progress = JobRun()
    worked = carry_out(chain, only or [step.name for step in chain], NOTHING, progress, lambda: None)
    return worked, list(progress.seconds)


def test_a_second_run_only_looks(tmp_path: Path) -> None:
    chain = make_chain(tmp_path)
    assert run(chain) == (True, ["look", "a", "b"])
    assert run(chain) == (False, ["look"])
    assert run(chain, "look") == (True, ["look"])


def test_a_step_alone_needs_what_comes_before_it(tmp_path: Path) -> None:
    chain = make_chain(tmp_path)
    with pytest.raises(UsageError, match=rf"step b needs \['{tmp_path}/a'\], not published yet"):
        run(chain, "b")
    assert run(chain, "a") == (True, ["a"])
    assert run(chain, "b") == (True, ["b"])


def test_a_run_that_lost_its_lease_begins_no_further_step(tmp_path: Path) -> None:
    chain = make_chain(tmp_path)

    def lost() -> None:
        raise LockedError("lost")

    with pytest.raises(LockedError):
        carry_out(chain, ["a"], NOTHING, JobRun(), lost)
    assert not chain[1].is_done()


def record(root: Path, night: str, **changed: str) -> None:
    made_from = MADE_FROM | {name.replace("__", "."): value for name, value in changed.items()}
    directory = str(root / "nights" / f"{night}-{len(list(root.glob('nights/*')))}")
    begin(directory)
    commit(
        directory,
        NightManifest(files=(), date=night, version="v", verdict="published", ingredients=made_from, directories={}),
    )


def reasons(root: Path, night: str = "2026-01-04") -> list[str]:
    known = records(str(root))
    return [why(step, night, MADE_FROM, known) for step in make_chain(root)]


def test_the_plan_of_a_first_night_and_of_a_new_day(tmp_path: Path) -> None:
    assert reasons(tmp_path) == ["always looked at", *["new day, the first on record"] * 2]
    record(tmp_path, "2026-01-02")
    record(tmp_path, "2026-01-03", training__epochs="1", log__of="gone")
    assert reasons(tmp_path)[1:] == [
        "new day after 2026-01-03",
        "new day after 2026-01-03; training.epochs changed from 1 to 2",
    ]


def test_the_plan_names_what_differs_from_the_nearest_night_of_the_same_day(tmp_path: Path) -> None:
    record(tmp_path, "2026-01-04", training__epochs="1", features__fields="g", gate__seed="7")
    assert reasons(tmp_path)[1:] == [
        "features.fields changed from g to f",
        "features.fields changed from g to f; training.epochs changed from 1 to 2",
    ]
    record(tmp_path, "2026-01-04", training__epochs="3")
    publish(str(tmp_path / "a"))
    assert reasons(tmp_path)[1:] == ["published", "training.epochs changed from 3 to 2"]
    record(tmp_path, "2026-01-04", gate__seed="7")
    assert reasons(tmp_path)[2] == "an input of it is new, or it was removed"


def test_what_changed_of_a_feature_is_named() -> None:
    def of(**more: object) -> dict[str, str]:
        fields = [{"name": "user", **more}, {"name": "app", "column": "app_id"}]
        return named("features.", {"label": "clicked", "fields": fields, "crosses": []})

    assert of() == {
        "features.label": "clicked",
        "features.fields": "user, app",
        "features.fields.app.column": "app_id",
        "features.crosses": "[]",
    }
    assert dict(of(min_count=5).items() - of().items()) == {"features.fields.user.min_count": "5"}


def test_long_values_are_named_by_their_digest() -> None:
    short = named("training.", {"epochs": 2, "model": "lr", "wide": {"alpha": 0.1}})
    assert short == {"training.epochs": "2", "training.model": "lr", "training.wide": "{'alpha': 0.1}"}
    one, other = (named("", {"layers": [n] * 40})["layers"] for n in (1, 2))
    assert len(one) == 12
    assert one != other


def test_what_a_night_is_made_from_does_not_grow_with_the_history() -> None:
    """A late file for a day of long ago still is a change, of all those days."""
    days = {f"2026-{month:02d}-{day:02d}": f"{month}:{day}" for month in range(1, 13) for day in range(1, 29)}
    first = named_logs(days)
    assert len(first) == DAYS_BY_NAME + 1
    assert first["log of 2026-12-28"] == "12:28"
    for late, changed in (("2026-03-05", "log of days through 2026-11-24"), ("2026-12-01", "log of 2026-12-01")):
        second = named_logs({**days, late: "more rows"})
        assert [name for name in first if first[name] != second[name]] == [changed]
    few = dict(list(days.items())[:DAYS_BY_NAME])
    assert named_logs(few) == {f"log of {day}": log for day, log in few.items()}


def test_nights_of_a_range_whose_day_has_no_log_are_left_out_only_where_days_may_be_missing(tmp_path: Path) -> None:
    for day in (1, 2, 4):
        write_day(tmp_path, day, rows=5)

    def dates(policy: str, *days: int) -> list[int]:
        config = NightConfig.model_validate({**CONFIG, "nightly": {"missing_days": policy}})
        nights = (Night(config, DateFolders(str(tmp_path)), str(tmp_path / "out"), date(2026, 1, n)) for n in days)
        return [night.date.day for night in nights_with_log(tuple(nights))]

    assert dates("skip", 2, 3, 4) == [2, 4]
    assert dates("fail", 2, 3, 4) == [2, 3, 4]
    assert dates("skip", 3) == [3], "its own check says that the log is missing"
    with pytest.raises(DataError, match="there is no log of any night from 2026-01-05 to 2026-01-06"):
        dates("skip", 5, 6)


def test_how_a_model_is_packed_is_in_its_version_and_on_record_unless_it_is_the_default(tmp_path: Path) -> None:
    for day in (1, 2):
        write_day(tmp_path, day, rows=5)

    def night(**artifact: object) -> Night:
        config = NightConfig.model_validate({**CONFIG, **({"artifact": artifact} if artifact else {})})
        return Night(config, DateFolders(str(tmp_path)), str(tmp_path / "out"), date(2026, 1, 2))

    plain, default, small = night(), night(embeddings="float32"), night(embeddings="int8")
    assert plain.directories() == default.directories()
    assert plain.made_from == default.made_from
    assert dict(small.made_from.items() - plain.made_from.items()) == {"artifact.embeddings": "int8"}
    assert {step for step, made in small.directories().items() if made != plain.directories()[step]} == {
        "train",
        "pack",
        "evaluate",
        "gate",
    }


def test_a_metric_by_groups_without_any_is_found_before_anything_starts(tmp_path: Path) -> None:
    for day in (1, 2):
        write_day(tmp_path, day, rows=5)
    ungrouped = {name: value for name, value in CONFIG["features"].items() if name != "group"}
    training = {**CONFIG["training"], "validation": {"metric": "gauc"}}
    config = NightConfig.model_validate({"features": ungrouped, "training": training})
    night = Night(config, DateFolders(str(tmp_path)), str(tmp_path / "out"), date(2026, 1, 2))
    with pytest.raises(UsageError, match=r"training\.validation\.metric is gauc, but features\.group is not set"):
        night.check()


@pytest.mark.parametrize(
    ("verdicts", "worked", "status"),
    [
        ({"published"}, True, 0),
        ({"published"}, False, 4),
        ({"published", "superseded"}, True, 6),
        ({"superseded"}, False, 6),
        ({"published", "superseded", "rejected"}, False, 3),
    ],
)
def test_the_exit_status_is_that_of_the_worst_verdict_also_when_nothing_was_left_to_do(
    verdicts: set[NightVerdict], worked: bool, status: int
) -> None:
    assert exit_status(verdicts, worked=worked) == status


def test_the_hook_is_told_that_another_champion_came_in_between(tmp_path: Path) -> None:
    """And so is whoever runs the night again."""
    told = tmp_path / "told.json"
    script = tmp_path / "hook.py"
    script.write_text(f"import sys; open({str(told)!r}, 'a').write(sys.stdin.read() + '\\n')")
    for day in (1, 2):
        write_day(tmp_path / "logs", day)
    command = f"{sys.executable} {script}"
    nightly = CONFIG["nightly"] | {"warm_start": {"enabled": False}, "hook": {"command": command}}
    config = NightConfig.model_validate(CONFIG | {"nightly": nightly})
    night = Night(config, DateFolders(str(tmp_path / "logs")), str(tmp_path / "out"), date(2026, 1, 2))
    promotion = night.promotion
    publish_all(promotion.models, ("2026-01-01-fm-aa", promotion.version))
    publish_decision(
        promotion.output,
        Decision(verdict="published", rows=1, checks=()),
        {},
        of=(promotion.version, None),
        inputs={},
    )
    registry.promote(promotion.models, "2026-01-01-fm-aa", "by hand")
    for _ in range(2):
        notify(night, JobRun(), promotion.move(), "it was compared with no champion")
    events = [HookEvent.model_validate_json(line) for line in told.read_text().splitlines()]
    assert [(event.event, event.version, event.champion) for event in events] == [
        ("superseded", promotion.version, "2026-01-01-fm-aa")
    ] * 2
