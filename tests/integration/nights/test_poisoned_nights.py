"""Nights whose newest log is spoilt: validation or the gate says what is wrong, and the champion stays."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml

from nightjar.features.contract.manifests import DecisionManifest, ValidationManifest
from nightjar.features.contract.publishing import read_manifest
from nightjar.jobs import generate_logs, run_nightly
from nightjar.jobs.common.cli import EXIT_REJECTED
from nightjar.serving import registry
from tests.kits.submit import REPOSITORY

GOOD, SPOILT, LATER = "2026-01-03", "2026-01-04", "2026-01-05"
FIELDS = ("app", "category", "device", "weekday", "position", "installed")
DAY = pa.scalar(24 * 3600 * 10**6, pa.duration("us"))


@dataclass(frozen=True)
class Place:
    """Logs, outputs and the config of the nights."""

    root: Path

    def run(self, name: str, date: str, *more: str) -> int:
        """The night of `date` on the logs and in the output called `name`."""
        place = ["--logs", str(self.root / name / "logs"), "--output", str(self.root / name / "output")]
        return run_nightly.main(["--config", str(self.root / "conf.yaml"), *place, "--date", date, *more])

    def spoil(self, name: str, change: Callable[[pa.Table], pa.Table], of: str = SPOILT) -> None:
        """Copy everything to `name`, with SPOILT's log made by `change` from the log of the day `of`."""
        shutil.copytree(self.root / "good", self.root / name, copy_function=os.link)
        folder = self.root / name / "logs" / f"date={SPOILT}"
        shutil.rmtree(folder)
        folder.mkdir()
        pq.write_table(change(self.log(of)), folder / "part-0.parquet")

    def log(self, date: str) -> pa.Table:
        return pa.concat_tables(
            pq.ParquetFile(path).read()
            for path in sorted((self.root / "good" / "logs" / f"date={date}").glob("*.parquet"))
        )

    def champion(self, name: str) -> str:
        pointer = registry.champion(str(self.root / name / "output" / "models"))
        assert pointer is not None
        return pointer.version

    def failed(self, name: str, *, passed: bool = False) -> set[tuple[str, str | None]]:
        """Check and feature of all that failed in the validation of SPOILT."""
        found = self.validation(name, passed=passed)
        return {(check.check, check.feature) for check in found.checks if not check.passed}

    def validation(self, name: str, *, passed: bool) -> ValidationManifest:
        folders = (self.root / name / "output" / "validations").glob(f"date={SPOILT}-*")
        found = [read_manifest(str(folder), ValidationManifest) for folder in folders]
        return next(one for one in found if one.passed == passed)


def set_column(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    return table.set_column(table.column_names.index(name), table.schema.field(name), values)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, spark: object) -> Place:
    """Five days of logs, and a champion of the night before the spoilt one."""
    place = Place(tmp_path_factory.mktemp("poisoned"))
    arguments = ["--days", "5", "--rows-per-day", "4000", "--start-date", "2026-01-01", "--seed", "3"]
    logs = place.root / "good" / "logs"
    assert generate_logs.main(["--output", str(logs), *arguments, "--files-per-day", "2"]) == 0
    config = yaml.safe_load((REPOSITORY / "conf" / "app_store.yaml").read_text())
    features = config["features"]
    features["fields"] = [field for field in features["fields"] if field["name"] in FIELDS]
    features["dense"], features["frequencies"] = features["dense"][2:], features["frequencies"][:1]
    config["training"] |= {"epochs": 1, "batch_size": 128, "deep": {"layers": [16]}}
    config["nightly"] |= {"baselines": [], "train_days": 2}
    config["gate"] = {"rules": [{"metric": "log_loss", "tolerance": 0.05}], "slices": ["device"]}
    (place.root / "conf.yaml").write_text(yaml.safe_dump(config))
    assert place.run("good", GOOD) == 0
    return place


def test_the_same_night_on_its_own_log_is_published(place: Place) -> None:
    shutil.copytree(place.root / "good", place.root / "control", copy_function=os.link)
    assert place.run("control", SPOILT) == 0
    assert place.champion("control").startswith(SPOILT)
    assert place.failed("control", passed=True) == set()


def test_shuffled_labels_pass_the_validation_and_are_rejected_by_the_gate(place: Place) -> None:
    def shuffled(table: pa.Table) -> pa.Table:
        order = np.random.default_rng(0).permutation(len(table))
        return set_column(table, "installed", table.column("installed").take(order))

    place.spoil("shuffled", shuffled)
    assert place.run("shuffled", SPOILT) == EXIT_REJECTED
    assert place.champion("shuffled").startswith(GOOD)
    (directory,) = (place.root / "shuffled" / "output" / "decisions").glob(f"{SPOILT}-*")
    assert read_manifest(str(directory), DecisionManifest).verdict == "rejected"
    decision = json.loads((directory / "decision.json").read_text())
    failed = {check["metric"] for check in decision["checks"] if not check["passed"]}
    assert failed == {"normalized_entropy"}
    assert {part["name"] for part in decision["parts"]} > {None}


def test_a_feature_that_became_constant_stops_the_night_with_a_table(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(table: pa.Table) -> pa.Table:
        return set_column(table, "device", pa.repeat(table.column("device")[0], len(table)))

    place.spoil("constant", broken)
    before = sorted(p.name for p in (place.root / "constant" / "output" / "candidates").iterdir())
    capsys.readouterr()
    assert place.run("constant", SPOILT) == 2
    said = capsys.readouterr().err
    assert f"the log of {SPOILT} failed 2 check(s) against 2026-01-01 to {GOOD}" in said
    for line in ("constant  device", "drift     device", "--allow constant:device --allow drift:device"):
        assert line in said
    assert place.failed("constant") == {("constant", "device"), ("drift", "device")}
    assert place.champion("constant").startswith(GOOD)
    assert sorted(p.name for p in (place.root / "constant" / "output" / "candidates").iterdir()) == before

    assert place.run("constant", LATER) == 2
    assert f"the training day {SPOILT} failed its validation" in capsys.readouterr().err


def test_yesterdays_log_under_todays_date_stops_the_night(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    def again(table: pa.Table) -> pa.Table:
        later = pc.add(table.column("timestamp"), DAY)
        weekday = pc.day_of_week(later)
        order = np.random.default_rng(0).permutation(len(table))
        moved = set_column(table, "timestamp", later.cast(table.schema.field("timestamp").type))
        return set_column(moved, "weekday", weekday.cast(table.schema.field("weekday").type)).take(order)

    place.spoil("again", again, of=GOOD)
    capsys.readouterr()
    assert place.run("again", SPOILT) == 2
    assert f"repeated  -        {GOOD}" in capsys.readouterr().err
    assert place.failed("again") == {("repeated", None)}
    assert place.champion("again").startswith(GOOD)


def test_an_override_lets_one_named_check_fail_and_is_recorded(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    def oddly_priced(table: pa.Table) -> pa.Table:
        return set_column(table, "app_price", pc.add(table.column("app_price"), 1000.0))

    place.spoil("odd", oddly_priced)
    only = ("--only", "validate", "--allow")
    assert place.run("odd", SPOILT, *only, "drift:no_such_feature") == 2
    assert "--allow drift:no_such_feature names no check" in capsys.readouterr().err
    assert place.run("odd", SPOILT, *only, "missing:price") == 2
    assert place.run("odd", SPOILT, *only, "drift:price") == 0
    allowed = place.validation("odd", passed=True)
    assert allowed.allowed == ("drift:price",)
    assert [(c.check, c.feature) for c in allowed.checks if c.overridden] == [("drift", "price")]
