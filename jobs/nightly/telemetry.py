"""What a run says of itself: JSON lines for machines beside the console's lines, and figures to scrape.

<output>/runs/<run>.jsonl         one object a line: time, run, night, step, level, logger, message
<output>/metrics/<date>.prom      OpenMetrics text of the night; latest.prom: of the last one carried out
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import TextIO

from nightjar.features.contract import storage
from nightjar.features.contract.outputs import RUNS, run_log_file
from nightjar.serving.evaluation.comparison import Evaluation

log = logging.getLogger(__name__)


@dataclass
class JobRun:
    """A run of a job: its id, where in the chain it is, and the seconds that the present night's steps took."""

    id: str = field(default_factory=lambda: f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{os.getpid()}-{uuid.uuid4().hex[:6]}")
    night: str | None = None
    step: str | None = None
    seconds: dict[str, float] = field(default_factory=dict)

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
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


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
    night: date, published: bool, evaluation: Evaluation, seconds: Mapping[str, float], decided_at: float
) -> str:
    """A night's figures in OpenMetrics' text format; decided_at: seconds since 1970.

    The date is a value and no label, so that a figure is one series from night to night.
    """
    families: list[tuple[str, str, str, list[tuple[dict[str, str], float | None]]]] = []
    models = evaluation.models.items()
    for name, what in (
        ("log_loss", "Mean negative log-likelihood on the night's day."),
        ("normalized_entropy", "Log loss relative to that of the base rate."),
        ("auc", "Area under the ROC curve."),
        ("gauc", "AUC within groups."),
        ("calibration", "Sum of scores over sum of labels."),
    ):
        samples = [({"model": of}, getattr(figures.metrics, name)) for of, figures in models]
        families.append((name, "", what, samples))
    families += [
        ("evaluated_rows", "", "Impressions of the night's day.", [({}, evaluation.rows)]),
        ("step_seconds", "seconds", "Wall time by step in this run.", [({"step": s}, t) for s, t in seconds.items()]),
        ("published", "", "1 if the gate let the model through, 0 if not.", [({}, float(published))]),
        ("night_timestamp_seconds", "seconds", "The night's date, 00:00 UTC.", [({}, _midnight(night))]),
        ("decided_timestamp_seconds", "seconds", "When the night was over.", [({}, decided_at)]),
    ]
    lines = []
    for name, unit, what, samples in families:
        lines += [f"# TYPE nightjar_{name} gauge", *([f"# UNIT nightjar_{name} {unit}"] if unit else [])]
        lines.append(f"# HELP nightjar_{name} {what}")
        for labels, value in samples:
            if value is not None:
                of = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
                lines.append(f"nightjar_{name}{{{of}}} {float(value)!r}" if of else f"nightjar_{name} {float(value)!r}")
    return "\n".join([*lines, "# EOF", ""])


def _midnight(night: date) -> float:
    return datetime(night.year, night.month, night.day, tzinfo=UTC).timestamp()


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
