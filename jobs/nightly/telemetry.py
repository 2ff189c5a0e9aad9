"""What a run says of itself: JSON lines for machines beside the console's lines, and metrics to scrape.

<output>/runs/<run>.jsonl         one object a line: time, run, night, step, level, logger, message
<output>/metrics/<date>.prom      OpenMetrics text of the night; latest.prom: of the last one carried out;
                                  pages.prom: of the pages that were drawn last
<output>/metrics/<date>.json      seconds of the night's steps, in whichever runs they were carried out
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import TextIO

from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.openmetrics.exposition import generate_latest
from pydantic import ValidationError

from nightjar.features.contract import storage
from nightjar.features.contract.errors import masked
from nightjar.features.contract.metrics.registry import HELD_OUT
from nightjar.features.contract.outputs import METRICS, RUNS, STEPS, run_log_file, seconds_file
from nightjar.features.contract.records import NightVerdict, StepSeconds
from nightjar.serving.evaluation.comparison import Evaluation

STEP_SECONDS = "nightjar_step_seconds"
"""The gauge of a night's OpenMetrics text that tells what each step took."""

log = logging.getLogger(__name__)


@dataclass
class JobRun:
    """A run of a job: its id, where in the chain it is, the seconds that the present night's steps took in it, and the
    number of the lease that it holds. output: where these seconds are kept for runs of the night's other steps, such as
    a scheduler's; empty: nowhere.
    """

    id: str = field(default_factory=lambda: f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{os.getpid()}-{uuid.uuid4().hex[:6]}")
    night: str | None = None
    step: str | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    token: int | None = None
    output: str = ""

    def begin(self, night: str) -> None:
        """Turn to another night."""
        self.night, self.step, self.seconds = night, None, {}

    @contextmanager
    def in_step(self, name: str) -> Iterator[None]:
        """Time a step, and name it in every line of the log."""
        self.step, began = name, time.perf_counter()
        try:
            yield
        finally:
            self.step = None
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - began
        if self.output and self.night:
            _keep_seconds(self.output, self.night, self.seconds)


def seconds_of(output: str, night: str) -> dict[str, float]:
    """How long each step of a night took when it was carried out last, as far as it was kept."""
    try:
        content = storage.read_bytes(storage.join(output, METRICS, seconds_file(night)))
        return dict(StepSeconds.model_validate_json(content).seconds)
    except (FileNotFoundError, ValidationError):
        return {}


def _keep_seconds(output: str, night: str, seconds: Mapping[str, float]) -> None:
    """Beside those of other runs. Where they cannot be kept it is a warning: what the run does comes first."""
    try:
        known = {**seconds_of(output, night), **seconds}
        kept = StepSeconds(seconds={step: known[step] for step in STEPS if step in known})
        url = storage.join(output, METRICS, seconds_file(night))
        storage.write_bytes(url, (kept.model_dump_json(indent=1) + "\n").encode())
    except Exception as error:  # such as a full disk; storage has errors of many kinds
        log.warning("the seconds of the night's steps could not be kept: %s", error)


class JsonLines(logging.Formatter):
    """A record as one JSON object."""

    def __init__(self, run: JobRun) -> None:
        super().__init__()
        self.run = run

    def format(self, record: logging.LogRecord) -> str:
        """See logging.Formatter."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "run": self.run.id,
            "night": self.run.night,
            "step": self.run.step,
            "level": record.levelname,
            "logger": record.name,
            "message": masked(record.getMessage()),
        }
        if record.exc_info:
            line["traceback"] = masked(self.formatException(record.exc_info))
        return json.dumps(line)


class _LogFile(logging.StreamHandler[TextIO]):
    """Gives up at the first line that cannot be written, such as on a full disk: what the run does comes first."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """See logging.Handler."""
        logging.getLogger().removeHandler(self)
        log.warning("the run's log ends here: %s", sys.exc_info()[1])


@contextmanager
def structured_log(output: str, run: JobRun) -> Iterator[None]:
    """Write everything that is logged, and the error that ends the block, into the run's file."""
    stream = storage.open_text_writer(storage.join(output, RUNS, run_log_file(run.id)))
    handler = _LogFile(stream)
    handler.setFormatter(JsonLines(run))
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        yield
    except BaseException as error:
        if handler in root.handlers:
            record = logging.makeLogRecord(
                {"name": __name__, "levelname": "ERROR", "msg": "%s", "args": (error,)}
                | {"exc_info": (type(error), error, error.__traceback__)}
            )
            handler.handle(record)
        raise
    finally:
        root.removeHandler(handler)
        try:
            stream.close()
        except OSError as error:
            log.warning("the run's log is not whole: %s", error)


def open_metrics(
    night: date, verdict: NightVerdict, evaluation: Evaluation, seconds: Mapping[str, float], decided_at: float
) -> str:
    """A night's metrics in OpenMetrics' text format.

    The date is a value and no label, so that a metric is one series from night to night.

    Args:
        night: its date.
        verdict: what became of its model.
        evaluation: of the night's models.
        seconds: wall time by step (`seconds_of`).
        decided_at: when the night was over, in seconds since 1970.
    """
    registry = CollectorRegistry()

    def gauge(name: str, what: str, labels: Sequence[str] = (), unit: str = "") -> Gauge:
        return Gauge(name, what, labels, registry=registry, unit=unit)

    for metric in HELD_OUT:
        by_model = gauge(f"nightjar_{metric.name}", f"{metric.label} on the night's day: {metric.meaning}.", ["model"])
        for model, found in evaluation.models.items():
            if (value := getattr(found.metrics, metric.name)) is not None:
                by_model.labels(model).set(value)
    gauge("nightjar_evaluated_rows", "Impressions of the night's day.").set(evaluation.rows)
    by_step = gauge(STEP_SECONDS, "Wall time by step.", ["step"], "seconds")
    for step, value in seconds.items():
        by_step.labels(step).set(value)
    gauge("nightjar_published", "1 if the night's model was made champion, 0 if not.").set(verdict == "published")
    superseded = gauge("nightjar_superseded", "1 if it passed the gate, but another champion had come in between.")
    superseded.set(verdict == "superseded")
    gauge("nightjar_night_timestamp_seconds", "The night's date, 00:00 UTC.", unit="seconds").set(_midnight(night))
    gauge("nightjar_decided_timestamp_seconds", "When the night was over.", unit="seconds").set(decided_at)
    return generate_latest(registry).decode()


def page_metrics(problems: int, drawn_at: float) -> str:
    """Metrics of the drawing of pages in OpenMetrics' text format.

    Args:
        problems: how many things could not be read or drawn.
        drawn_at: when, in seconds since 1970.
    """
    registry = CollectorRegistry()
    Gauge("nightjar_page_problems", "What the pages could not show.", registry=registry).set(problems)
    when = Gauge("nightjar_pages_timestamp_seconds", "When they were drawn.", registry=registry, unit="seconds")
    when.set(drawn_at)
    return generate_latest(registry).decode()


def _midnight(night: date) -> float:
    return datetime(night.year, night.month, night.day, tzinfo=UTC).timestamp()
