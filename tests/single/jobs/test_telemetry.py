"""What a run says to machines: JSON lines with its id and step, and metrics in OpenMetrics' grammar."""

from __future__ import annotations

import json
import logging
from datetime import date
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from nightjar.features.contract import storage
from nightjar.jobs.nightly.telemetry import JobRun, open_metrics, seconds_of, structured_log
from nightjar.serving.evaluation.comparison import Evaluation, ModelEvaluation
from nightjar.serving.evaluation.metrics import Metrics

METRICS = Metrics(
    base_rate=0.2,
    log_loss=0.5,
    normalized_entropy=0.9,
    auc=0.75,
    gauc=None,
    gauc_share=None,
    calibration=1.01,
    calibration_error=0.0,
    bayes_log_loss=None,
    expected_bayes_log_loss=None,
    regret=None,
    expected_regret=None,
)
MODEL = ModelEvaluation(
    artifact="a", model="lr", dataset="d", metrics=METRICS, calibration=(), deciles=(), distribution=()
)
EVALUATION = Evaluation(
    first_date="2026-01-05", last_date="2026-01-05", rows=4000, models={"wide_deep": MODEL, 'a "b" \\': MODEL}
)


def samples(text: str) -> dict[str, dict[str, float]]:
    """Values by family and by the one label's value, as Prometheus reads them; it refuses what breaks the grammar."""
    families = list(text_string_to_metric_families(text))
    assert {family.type for family in families} == {"gauge"}
    assert all(not family.unit or family.name.endswith(f"_{family.unit}") for family in families)
    assert all(family.documentation for family in families)
    return {
        family.name: {"".join(sample.labels.values()): sample.value for sample in family.samples} for family in families
    }


def test_prometheus_reads_a_nights_metrics() -> None:
    text = open_metrics(date(2026, 1, 5), "published", EVALUATION, {"train": 12.5, "gate": 0.25}, 1.75e9)
    assert samples(text) == {
        "nightjar_log_loss": {"wide_deep": 0.5, 'a "b" \\': 0.5},
        "nightjar_normalized_entropy": {"wide_deep": 0.9, 'a "b" \\': 0.9},
        "nightjar_auc": {"wide_deep": 0.75, 'a "b" \\': 0.75},
        "nightjar_gauc": {},
        "nightjar_calibration": {"wide_deep": 1.01, 'a "b" \\': 1.01},
        "nightjar_evaluated_rows": {"": 4000.0},
        "nightjar_step_seconds": {"train": 12.5, "gate": 0.25},
        "nightjar_published": {"": 1.0},
        "nightjar_superseded": {"": 0.0},
        "nightjar_night_timestamp_seconds": {"": 1767571200.0},
        "nightjar_decided_timestamp_seconds": {"": 1.75e9},
    }
    for verdict, superseded in (("rejected", 0.0), ("superseded", 1.0)):
        found = samples(open_metrics(date(2026, 1, 5), verdict, EVALUATION, {}, 1.75e9))
        assert (found["nightjar_published"], found["nightjar_superseded"]) == ({"": 0.0}, {"": superseded})


def test_seconds_of_steps_outlive_the_runs_that_carried_them_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As under a scheduler, where every step is a process. A step that is repeated has the seconds of its last time."""
    output = str(tmp_path)

    def carry_out(step: str, night: str = "2026-01-05") -> dict[str, float]:
        run = JobRun(output=output)
        run.begin(night)
        with run.in_step(step):
            pass
        return run.seconds

    trained = carry_out("train")
    assert seconds_of(output, "2026-01-05") == trained
    validated = carry_out("validate")
    again = carry_out("train")
    assert seconds_of(output, "2026-01-05") == {**validated, **again}
    assert list(seconds_of(output, "2026-01-05")) == ["validate", "train"], "in the order of the chain"
    assert seconds_of(output, "2026-01-06") == {}
    (tmp_path / "metrics" / "2026-01-05.json").write_text("{")
    packed = carry_out("pack")
    assert seconds_of(output, "2026-01-05") == packed
    (tmp_path / "metrics" / "2026-01-06.json").mkdir()
    carry_out("train", "2026-01-06")
    assert "the seconds of the night's steps could not be kept" in caplog.text


def test_a_metric_is_labelled_by_model_and_a_time_by_step() -> None:
    text = open_metrics(date(2026, 1, 5), "published", EVALUATION, {"train": 12.5}, 1.75e9)
    labels = {
        family.name: {*sample.labels} for family in text_string_to_metric_families(text) for sample in family.samples
    }
    assert labels["nightjar_auc"] == {"model"}
    assert labels["nightjar_step_seconds"] == {"step"}
    assert labels["nightjar_published"] == set()


def test_every_line_of_the_log_names_its_run_night_and_step(tmp_path: Path) -> None:
    run = JobRun()
    log = logging.getLogger("jobs.anything")
    log.setLevel(logging.INFO)

    def night() -> None:
        with structured_log(str(tmp_path), run):
            run.begin("2026-01-05")
            with run.in_step("train"):
                log.info("rows: %d", 7)
            log.warning("Zoë\nsaid")
            raise KeyError("gone")

    with pytest.raises(KeyError):
        night()
    log.warning("after the end")
    first, second, last = map(json.loads, (tmp_path / "runs" / f"{run.id}.jsonl").read_text().splitlines())
    assert {key: first[key] for key in ("run", "night", "step", "level", "message")} == {
        "run": run.id,
        "night": "2026-01-05",
        "step": "train",
        "level": "INFO",
        "message": "rows: 7",
    }
    assert (second["step"], second["level"], second["message"]) == (None, "WARNING", "Zoë\nsaid")
    assert last["level"] == "ERROR"
    assert "KeyError: 'gone'" in last["traceback"]
    assert run.seconds.keys() == {"train"}


def test_a_log_that_cannot_be_written_neither_ends_the_run_nor_hides_its_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """The device /dev/full is a disk without room."""
    run, log = JobRun(), logging.getLogger("jobs.anything")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / f"{run.id}.jsonl").symlink_to("/dev/full")

    def night() -> None:
        with structured_log(str(tmp_path), run):
            log.warning("one")
            log.warning("two")
            raise KeyError("gone")

    with pytest.raises(KeyError, match="gone"):
        night()
    full = "[Errno 28] No space left on device"
    said = ["one", f"the run's log ends here: {full}", "two", f"the run's log is not whole: {full}"]
    assert [record.getMessage() for record in caplog.records] == said
    assert "Traceback" not in capsys.readouterr().err


def test_pages_that_cannot_be_drawn_or_written_are_a_warning_and_a_metric(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from nightjar.jobs.nightly.run import draw_pages
    from nightjar.serving.reports import night_report

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(night_report, "draw", full)
    draw_pages(str(tmp_path), ["2026-01-01"])
    assert "no page could be drawn: OSError: [Errno 28] No space left on device" in caplog.text
    assert "nightjar_page_problems 1.0" in (tmp_path / "metrics" / "pages.prom").read_text()
    monkeypatch.setattr(storage, "write_bytes", full)
    draw_pages(str(tmp_path), ["2026-01-01"])
    assert "the pages' metrics could not be written" in caplog.text
    draw_pages(str(tmp_path / "nothing"), [])
    assert not (tmp_path / "nothing").exists()
