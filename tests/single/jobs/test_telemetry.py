"""What a run says to machines: JSON lines with its id and step, and figures in OpenMetrics' grammar."""

from __future__ import annotations

import json
import logging
import re
from datetime import date
from pathlib import Path

import pytest

from nightjar.jobs.nightly.telemetry import JobRun, open_metrics, structured_log
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

_LABEL = r'[a-zA-Z_]\w*="(?:[^"\\\n]|\\["\\n])*"'
_SAMPLE = re.compile(rf"([a-zA-Z_:][\w:]*)(?:\{{({_LABEL}(?:,{_LABEL})*)\}})? (-?\d\S*)")
_META = re.compile(r"# (TYPE|UNIT|HELP) (\w+) (.+)")


def parse(text: str) -> dict[str, dict[str, float]]:
    """Samples by family and labels. Follows the grammar of OpenMetrics 1.0: families in one piece, metadata first."""
    lines = text.split("\n")
    assert lines[-2:] == ["# EOF", ""]
    families: dict[str, dict[str, float]] = {}
    family = ""
    for line in lines[:-2]:
        if line.startswith("#"):
            meta = _META.fullmatch(line)
            assert meta, line
            kind, name, value = meta.groups()
            if kind == "TYPE":
                assert name not in families
                assert value == "gauge"
                families[family := name] = {}
            assert name == family
            assert not families[family], "metadata must come before the samples"
            if kind == "UNIT":
                assert name.endswith(f"_{value}")
        else:
            sample = _SAMPLE.fullmatch(line)
            assert sample, line
            assert sample[1] == family
            assert (sample[2] or "") not in families[family]
            families[family][sample[2] or ""] = float(sample[3])
    return families


def test_a_night_s_figures_follow_the_grammar_of_open_metrics() -> None:
    text = open_metrics(date(2026, 1, 5), True, EVALUATION, {"train": 12.5, "gate": 0.25}, 1.75e9)
    families = parse(text)
    assert families["nightjar_log_loss"] == {'model="wide_deep"': 0.5, 'model="a \\"b\\" \\\\"': 0.5}
    assert families["nightjar_auc"]['model="wide_deep"'] == 0.75
    assert families["nightjar_gauc"] == {}
    assert families["nightjar_step_seconds"] == {'step="train"': 12.5, 'step="gate"': 0.25}
    assert families["nightjar_evaluated_rows"] == {"": 4000.0}
    assert families["nightjar_published"] == {"": 1.0}
    assert families["nightjar_night_timestamp_seconds"] == {"": 1767571200.0}
    assert families["nightjar_decided_timestamp_seconds"] == {"": 1.75e9}


def test_prometheus_reads_the_figures() -> None:
    parser = pytest.importorskip("prometheus_client.openmetrics.parser")
    text = open_metrics(date(2026, 1, 5), False, EVALUATION, {"train": 12.5}, 1.75e9)
    families = {family.name: family for family in parser.text_string_to_metric_families(text)}
    assert families["nightjar_published"].samples[0].value == 0.0
    assert families["nightjar_step_seconds"].unit == "seconds"
    assert {sample.labels["model"] for sample in families["nightjar_auc"].samples} == set(EVALUATION.models)


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
