"""A damaged validation of an old day stops no night that went on after it, and lets no failed day in."""

from __future__ import annotations

from pathlib import Path

import pytest

from nightjar.features.checks.checks import LogValidationConfig
from nightjar.features.checks.validation import LogValidation
from nightjar.features.contract.errors import DataError, ValidationFailed
from nightjar.features.contract.manifests import NightManifest, ValidationManifest
from nightjar.features.contract.outputs import log_input
from nightjar.features.contract.publishing import begin, commit
from nightjar.features.dataset.plan import BuildPlan, BuildSettings, BuiltFeatures
from nightjar.features.input.folders import LogPartition
from nightjar.jobs.nightly.chain import records
from tests.kits.feature_logs import SPEC

DAYS = ("2026-01-01", "2026-01-02")
NAME = f"validations/date={DAYS[0]}-key"


@pytest.fixture
def validation(tmp_path: Path) -> LogValidation:
    """Of the second day, which trains on the first; that one's validation failed."""
    parts = tuple(LogPartition(day, "", 10, (), f"print of {day}") for day in DAYS)
    plan = BuildPlan(
        spec=SPEC,
        output=str(tmp_path),
        settings=BuildSettings(),
        history=parts[:1],
        train=parts[:1],
        fit=parts[:1],
        holdout=parts[1],
        aggregate_dirs={},
        rollup_dirs={},
        built=BuiltFeatures("", "", None),
    )
    directory = str(tmp_path / NAME)
    begin(directory)
    found = ValidationManifest(
        inputs={log_input(DAYS[0]): parts[0].fingerprint},
        files=(),
        date=DAYS[0],
        rows=10,
        reference=(),
        allowed=(),
        passed=False,
        checks=(),
    )
    commit(directory, found)
    return LogValidation(LogValidationConfig(), plan)


def on_record(output: Path, day: str) -> Path:
    directory = output / "nights" / f"{day}-key"
    begin(str(directory))
    night = NightManifest(
        files=(), date=day, version="v", verdict="published", ingredients={}, directories={"validate": (NAME,)}
    )
    commit(str(directory), night)
    return directory / "manifest.json"


def refuse(validation: LogValidation) -> None:
    validation.run(lambda: pytest.fail("Spark was asked for"))


def test_a_failed_day_stays_out_also_when_its_validation_is_damaged(validation: LogValidation, tmp_path: Path) -> None:
    with pytest.raises(ValidationFailed, match="failed its validation"):
        refuse(validation)
    (tmp_path / NAME / "manifest.json").write_text('{"kind": ')
    with pytest.raises(DataError, match="is damaged"):
        refuse(validation)


def test_a_damaged_validation_of_a_night_that_went_on_is_a_warning(
    validation: LogValidation, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    on_record(tmp_path, "2026-01-03").write_text("damaged, too")
    on_record(tmp_path, DAYS[0])
    (tmp_path / NAME / "manifest.json").write_text('{"kind": ')
    with pytest.raises(pytest.fail.Exception, match="Spark was asked for"):
        refuse(validation)
    assert "a validation is left out" in caplog.text


def test_a_damaged_record_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    on_record(tmp_path, DAYS[0])
    on_record(tmp_path, DAYS[1]).write_bytes(b"\xff")
    assert [record.date for record in records(str(tmp_path))] == [DAYS[0]]
    assert "a night is left out" in caplog.text
