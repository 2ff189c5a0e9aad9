"""A range of nights: in order, on past a rejection, stopped by a failure, and taken up where it stopped."""

from __future__ import annotations

import json
import random
import re
import shutil
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from pyspark.sql import SparkSession

from nightjar.features.contract.errors import DataError
from nightjar.features.contract.manifests import ArtifactManifest
from nightjar.features.contract.publishing import MANIFEST, is_published, read_manifest
from nightjar.features.input.folders import DateFolders
from nightjar.jobs import run_nightly
from nightjar.jobs.common.cli import EXIT_ERROR, EXIT_NOTHING_TO_DO, EXIT_REJECTED
from nightjar.jobs.nightly.ahead import looking_ahead
from nightjar.jobs.nightly.lease import lease, lock_of
from nightjar.jobs.nightly.night import Night, NightConfig
from nightjar.jobs.nightly.telemetry import seconds_of
from nightjar.serving import registry
from tests.kits.small_night import CONFIG, write_day

TELL = "import os, sys; open(sys.argv[1], 'a').write(sys.stdin.read() + chr(10))"
Run = Callable[..., int]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, spark: object) -> Path:
    """Four days of logs; the labels of the third cannot be used."""
    place = tmp_path_factory.mktemp("backfill")
    for day in (1, 2, 3, 4):
        write_day(place / "logs", day, label=7 if day == 3 else 1)
    (place / "tell.py").write_text(TELL)
    return place


def run(place: Path, *arguments: str, output: str = "out", **changes: dict[str, Any]) -> int:
    """run_nightly with some settings of the config changed."""
    hook = {"command": f"{sys.executable} {place}/tell.py {place}/told.jsonl"}
    config = {name: CONFIG.get(name, {}) | changes.get(name, {}) for name in {**CONFIG, **changes}}
    config["nightly"] |= {"hook": hook}
    (place / "conf.yaml").write_text(yaml.safe_dump(config))
    common = ["--config", str(place / "conf.yaml"), "--logs", str(place / "logs"), "--output", str(place / output)]
    return run_nightly.main([*common, *arguments])


def manifests(place: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in (place / "out").rglob(MANIFEST)}


def champion(place: Path) -> registry.Pointer:
    pointer = registry.champion(str(place / "out" / "models"))
    assert pointer is not None
    return pointer


def test_a_range_stops_at_the_night_that_fails_and_goes_on_from_there(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nights = ("--from", "2026-01-02", "--to", "2026-01-04")
    assert run(place, *nights) == EXIT_ERROR
    assert re.search(r"run_nightly: error: night 2026-01-03: .*clicked", capsys.readouterr().err, re.DOTALL)
    assert champion(place).version.startswith("2026-01-02-")
    assert not list((place / "out").glob("*/2026-01-04*"))
    before = manifests(place)

    write_day(place / "logs", 3)
    assert run(place, *nights) == 0
    assert champion(place).version.startswith("2026-01-04-")
    assert champion(place).sequence == 3
    assert before.items() <= manifests(place).items()
    told = [json.loads(line) for line in (place / "told.jsonl").read_text().splitlines()]
    assert [(event["event"], event["date"]) for event in told] == [
        ("published", "2026-01-02"),
        ("failed", "2026-01-03"),
        ("published", "2026-01-03"),
        ("published", "2026-01-04"),
    ]
    assert told[-1]["champion"] == told[-1]["version"] == champion(place).version
    logs = [path.read_text().splitlines() for path in sorted((place / "out" / "runs").iterdir())]
    [error] = [line for line in map(json.loads, logs[0]) if "traceback" in line]
    assert error["level"] == "ERROR"
    assert "night 2026-01-03" in error["message"]
    assert run(place, *nights) == EXIT_NOTHING_TO_DO


def test_a_log_is_looked_at_ahead_and_a_bad_one_does_not_disturb_the_night_before(
    place: Path, spark: SparkSession
) -> None:
    config = NightConfig.read(str(place / "conf.yaml"))
    write_day(place / "spoilt", 1)
    write_day(place / "spoilt", 2, label=7)
    good, bad = (
        Night(config, DateFolders(str(place / logs)), str(place / f"ahead-{logs}"), date(2026, 1, 2))
        for logs in ("logs", "spoilt")
    )
    for night in (good, bad):
        with looking_ahead(night, lambda: spark):
            pass
    assert good.validation.accepted
    assert all(map(is_published, good.features.aggregate_dirs.values()))
    assert bad.validation.accepted is None
    with pytest.raises(DataError, match="clicked"):
        bad.validation.run(lambda: spark)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    """One bit, never the same in two files."""
    content = bytearray(path.read_bytes())
    bit = random.Random(str(path)).randrange(8 * len(content))
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def lock_away(path: Path) -> None:
    """It is there, and nobody can read it, not even root."""
    path.unlink()
    path.mkdir()


DAMAGE: dict[str, Callable[[Path], object]] = {
    "cut": cut,
    "flipped": flip,
    "empty": lambda path: path.write_bytes(b""),
    "junk": lambda path: path.write_bytes(b'{"kind": ["\xff", 1e999], "x": NaN'),
    "gone": Path.unlink,
    "locked away": lock_away,
}
# Of what the nights before have left, the night of the 5th needs: the counts that its windows and its training day
# reach back to, the newest roll-up, its parent, the champion, the pointer's moves and the lease, that its training day
# was accepted, and a place for the pages' own metrics.
NEEDED = re.compile(
    r"(aggregates|profiles)/date=2026-01-0[34]|rollups/through=2026-01-0[34]|candidates/2026-01-04|nights/2026-01-04"
    r"|models/(2026-01-04|counters/2026-01-0[45]|champion|history/0|lock)|decisions/2026-01-04|metrics/pages"
)


def damaged(place: Path, name: str, damage: Callable[[Path], object], only: re.Pattern[str] | None = None) -> Path:
    """A copy of the output with each file damaged that a night does not need; `only`: with these files damaged."""
    output = place / name
    shutil.copytree(place / "out", output)
    files = {path.relative_to(output).as_posix(): path for path in output.rglob("*") if path.is_file()}
    doomed = [path for text, path in files.items() if (only.match(text) if only else not NEEDED.match(text))]
    assert len(doomed) > (0 if only else 100)
    for path in sorted(doomed):
        if path.stat().st_size:
            damage(path)
    return output


NEXT = ("--date", "2026-01-05")


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_in_what_a_night_does_not_need_is_told_on_its_pages_and_costs_no_night(
    place: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    write_day(place / "logs", 5)
    output = damaged(place, f"old {damage}", DAMAGE[damage])
    shutil.rmtree(output / "reports")
    assert run(place, *NEXT, "--plan", output=output.name) == 0
    if damage == "gone":  # as if it had been pruned: the night would be made again
        return
    assert run(place, "--date", "2026-01-04", output=output.name) == EXIT_NOTHING_TO_DO
    assert (output / "reports" / "2026-01-04.html").exists()
    [problems] = re.findall(r"\nnightjar_page_problems (\S+)", (output / "metrics" / "pages.prom").read_text())
    assert float(problems) >= 3
    assert "pages: " in caplog.text


def test_a_night_after_damage_in_everything_that_it_does_not_need_is_published(
    place: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_day(place / "logs", 5)
    output = damaged(place, "old", cut)
    for entry in ("000001", "000002"):
        cut(output / "models" / "history" / f"{entry}.json")
    keep = {"keep": {"models": 1, "datasets": 1, "days": 2, "counters": 1, "nights": 2}}
    assert run(place, *NEXT, output=output.name, validation={"reference_days": 1}, nightly=keep) == 0
    pointer = registry.champion(str(output / "models"))
    assert pointer is not None
    assert pointer.version.startswith("2026-01-05-")
    assert "the gate goes without a reference" in caplog.text
    assert "retention is left to the next night" in caplog.text


@pytest.mark.parametrize("damage", ["cut", "junk", "locked away"])
@pytest.mark.parametrize(
    "needed",
    [
        r"rollups/through=2026-01-04.*/manifest.json",
        r"models/champion.json",
        r"models/2026-01-04[^/]*/manifest.json",
    ],
)
def test_damage_in_what_a_night_needs_is_one_message_with_the_path_and_the_remedy(
    place: Path, needed: str, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_day(place / "logs", 5)
    output = damaged(place, f"needed {needed[:10].replace('/', ' ')} {damage}", DAMAGE[damage], re.compile(needed))
    capsys.readouterr()
    assert run(place, *NEXT, "--plan", output=output.name) == EXIT_ERROR
    said = capsys.readouterr().err
    assert re.search(needed, said)
    assert re.search("[Rr]estore it|Remove /", said)
    assert "Traceback" not in said


@pytest.mark.parametrize("needed", [r"aggregates/date=2026-01-04.*\.parquet", r"rollups/through=2026-01-04.*\.parquet"])
def test_counts_with_a_flipped_bit_are_not_read(place: Path, needed: str, capsys: pytest.CaptureFixture[str]) -> None:
    write_day(place / "logs", 5)
    output = damaged(place, f"counts {needed[:8]}", flip, re.compile(needed))
    capsys.readouterr()
    steps = ("--only", "validate", "aggregate", "encode")
    assert run(place, *NEXT, *steps, output=output.name, validation={"reference_days": 1}) == EXIT_ERROR
    said = capsys.readouterr().err
    assert re.search(rf"{needed.partition('.')[0]}\S* is damaged: .*\.parquet.* differ from the manifest", said)
    assert not list(output.glob("states/through=2026-01-04*/manifest.json"))


def test_a_model_says_where_it_comes_from(place: Path) -> None:
    lineage = read_manifest(registry.load_champion(str(place / "out" / "models")), ArtifactManifest).lineage
    assert lineage.date == "2026-01-04"
    assert list(lineage.logs) == [f"2026-01-0{day}" for day in (1, 2, 3, 4)]
    assert lineage.seed == 0
    assert len(lineage.code.sources) == 64
    assert str(place) not in json.dumps(lineage.model_dump(mode="json"))


def test_a_rejected_night_does_not_stop_the_range_and_its_status_is_kept(place: Path) -> None:
    before = champion(place)
    nothing_learned = {"model": "lr", "wide": {"lambda1": 1e9}}
    nights = ("--from", "2026-01-03", "--to", "2026-01-04")
    for _ in range(2):
        assert run(place, *nights, training=nothing_learned) == EXIT_REJECTED
    records = [path.name for path in (place / "out" / "nights").iterdir()]
    assert sorted(name[:10] for name in records) == ["2026-01-02", *["2026-01-03"] * 2, *["2026-01-04"] * 2]
    assert champion(place) == before
    assert "nightjar_published 0.0" in (place / "out" / "metrics" / "latest.prom").read_text()


def test_the_plan_says_what_would_run_and_why(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = ("--date", "2026-01-04", "--plan")
    before = manifests(place)
    capsys.readouterr()
    assert run(place, *plan, training={"epochs": 4}) == 0
    said = capsys.readouterr().out
    assert re.search(r"encode +done +published", said)
    assert re.search(r"train +to do +training.epochs changed from 3 to 4\n", said)
    log = place / "logs" / "date=2026-01-02" / "part-0.parquet"
    shutil.copy2(log, place / "as_it_was")
    write_day(place / "logs", 2, rows=500)
    assert run(place, *plan) == 0
    said = capsys.readouterr().out
    assert re.search(r"aggregate +to do +log of 2026-01-02 changed from \w+ to \w+\n", said)
    assert manifests(place) == before
    shutil.copy2(place / "as_it_was", log)


def test_steps_run_one_by_one_end_as_the_whole_night(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    night = ("--date", "2026-01-04")
    assert run(place, *night, "--only", "train", output="steps") == EXIT_ERROR
    assert "step train needs " in capsys.readouterr().err
    first = (["validate", "aggregate"], ["encode", "summarize"])
    for step in (*first, ["train"], ["pack"], ["evaluate"], ["gate"], ["renew"], ["publish"]):
        assert run(place, *night, "--only", *step, output="steps") == 0
        again = run(place, *night, "--only", *step, output="steps")
        assert again == (0 if step == ["renew"] else EXIT_NOTHING_TO_DO), "what follows the pointer is always looked at"
    assert run(place, *night, output="whole") == 0
    steps, whole = (registry.champion(str(place / output / "models")) for output in ("steps", "whole"))
    assert steps is not None
    assert whole is not None
    assert steps.model_copy(update={"token": whole.token}) == whole, "runs are counted, models are the same"
    timed = seconds_of(str(place / "steps"), "2026-01-04")
    assert timed.keys() == seconds_of(str(place / "whole"), "2026-01-04").keys() >= {"validate", "train", "publish"}
    figures = (place / "steps" / "metrics" / "2026-01-04.prom").read_text()
    assert set(re.findall(r'nightjar_step_seconds{step="(\w+)"}', figures)) == timed.keys() - {"publish"}


def test_a_second_run_is_turned_away_while_the_first_is_at_work(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with lease(lock_of(str(place / "out" / "models")), "the first"):
        assert run(place, "--date", "2026-01-04") == 5
    assert "run the first (process " in capsys.readouterr().err
    assert run(place, "--date", "2026-01-04", training={"model": "lr", "wide": {"lambda1": 1e9}}) == EXIT_REJECTED


def test_failing_checks_of_all_nights_of_a_range_are_told_together(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """On the third day the price is the same everywhere; the fourth has four times as many rows."""
    for day, rows in ((1, 600), (2, 600), (3, 600), (4, 2600)):
        write_day(place / "checked", day, rows)
    path = place / "checked" / "date=2026-01-03" / "part-0.parquet"
    table = pq.read_table(path, partitioning=None)
    pq.write_table(table.set_column(4, "price", pa.array([0.5] * 600)), path)
    arguments = ("--from", "2026-01-02", "--to", "2026-01-04")
    logs = ["--logs", str(place / "checked")]
    assert run(place, *arguments, *logs, output="checked-out") == EXIT_ERROR
    said = capsys.readouterr().err
    assert "night 2026-01-03: the log of 2026-01-03 failed" in said
    assert re.search(r"constant +price", said)
    assert "night 2026-01-04: the log of 2026-01-04 failed" in said
    assert re.search(r"rows +- +2600", said)
    assert {path.name[:10] for path in (place / "checked-out" / "nights").iterdir()} == {"2026-01-02"}

    # What a look at the files tells is told of all nights before anything is counted.
    for day, name in ((3, "item"), (4, "user")):
        path = place / "checked" / f"date=2026-01-{day:02d}" / "part-0.parquet"
        pq.write_table(pq.read_table(path, partitioning=None).drop_columns([name]), path)
    assert run(place, *arguments[:4], *logs, output="unread") == EXIT_ERROR
    said = capsys.readouterr().err
    assert "night 2026-01-03: the logs in " in said
    assert "night 2026-01-04: the logs in " in said
    assert "the columns ['item'] are missing" in said
    assert "the columns ['user'] are missing" in said
    assert not (place / "unread").exists()
