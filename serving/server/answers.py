"""What requests are answered: bodies to JSON, by what serves at the moment."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from typing import Any

import numpy as np

from nightjar.features.contract.errors import DataError
from nightjar.serving.champion import CountersLimit
from nightjar.serving.model import order_of
from nightjar.serving.request_log import RequestLog
from nightjar.serving.server.bodies import Body, Columns, read_explain, read_rank, read_score
from nightjar.serving.server.lanes import Task
from nightjar.serving.server.metrics import Metrics
from nightjar.serving.server.served import Served
from nightjar.serving.server.settings import Refused, Settings
from nightjar.serving.server.together import score_together

_LONGEST_MESSAGE = 1000
_READ: Mapping[str, Callable[[bytes, Columns, int], Body]] = {
    "/rank": read_rank,
    "/score": read_score,
    "/explain": read_explain,
}


def current_day() -> date:
    """The day that is served, in UTC."""
    return datetime.now(UTC).date()


@dataclass(frozen=True)
class Answers:
    """The work of the lanes. Every batch is answered by one version and its counters."""

    served: Callable[[], Served]
    settings: Settings
    metrics: Metrics
    requests: RequestLog | None = None

    def scores(self, tasks: Sequence[Task[bytes]]) -> list[bytes | Exception]:
        """Answers of /rank and /score."""
        served = self.served()
        bodies = [self._body(task, served) for task in tasks]
        plain = [n for n, body in enumerate(bodies) if isinstance(body, Body) and body.context is None]
        together = score_together(served.model, served.names, [bodies[n].rows for n in plain])  # type: ignore[union-attr]
        scored = dict(zip(plain, together, strict=True))
        self.metrics.batch_requests.observe(len(tasks))
        answers: list[bytes | Exception] = []
        for n, (task, body) in enumerate(zip(tasks, bodies, strict=True)):
            if isinstance(body, Refused):
                answers.append(body)
                continue
            scores = scored[n] if n in scored else _scored(served, body)
            self._note(body, scores, served)
            if isinstance(scores, DataError):
                answers.append(refusal(scores))
                continue
            if unknown := without_score(scores):
                answers.append(unknown)
                continue
            self.metrics.rows.labels(task.route).inc(len(scores))
            self.metrics.request_rows.observe(len(scores))
            answers.append(_written(task.route, body, scores, served))
        return answers

    def explanations(self, tasks: Sequence[Task[bytes]]) -> list[bytes | Exception]:
        """Answers of /explain."""
        served = self.served()
        return [self._explanation(task, served) for task in tasks]

    def _explanation(self, task: Task[bytes], served: Served) -> bytes | Exception:
        body = self._body(task, served)
        if isinstance(body, Refused):
            return body
        try:
            explained = served.model.explain(body.rows)
        except DataError as error:
            return refusal(error)
        added = [explained.logit, explained.base, *(one.logit for one in explained.contributions)]
        if unknown := without_score(np.array([sum(added)])):
            return unknown
        found = asdict(explained)
        found["counts"] = found.pop("counters")
        return _json(_by(served) | found)

    def _body(self, task: Task[bytes], served: Served) -> Body | Refused:
        try:
            CountersLimit(self.settings.counters_days, "refuse").check(served.model, current_day())
        except DataError as error:
            return Refused(503, str(error), again=60)
        try:
            return _READ[task.route](task.body, served.columns, self.settings.rows)
        except Refused as refused:
            return refused

    def _note(self, body: Body, scores: np.ndarray | DataError, served: Served) -> None:
        if self.requests is None:
            return
        refused = isinstance(scores, DataError)
        self.requests.write(
            body.to_score,
            None if isinstance(scores, DataError) else scores,
            served.pointer.version,
            served.pointer.counters,
            served.model.counters_as_of,
            error=str(scores) if refused else None,
        )


def refusal(error: DataError) -> Refused:
    """What the sender of rows that cannot be scored is told."""
    message = str(error)
    return Refused(422, message if len(message) <= _LONGEST_MESSAGE else message[:_LONGEST_MESSAGE] + "…")


def without_score(scores: np.ndarray) -> Refused | None:
    """What the sender is told of rows whose numbers the model cannot compute with; None if all are scored."""
    places = np.flatnonzero(~np.isfinite(scores))
    if not len(places):
        return None
    return Refused(422, f"row {places[0]} has no score: a number in it is too large for the model. Send null instead.")


def _scored(served: Served, body: Body) -> np.ndarray | DataError:
    try:
        return served.model.score(body.to_score)
    except DataError as error:
        return error


def _written(route: str, body: Body, scores: np.ndarray, served: Served) -> bytes:
    """The answer as JSON. A score is its float32 as a double, so that no digit of it is lost."""
    if route == "/score":
        return _json(_by(served) | {"scores": scores.tolist()})
    order = order_of(scores)[: body.k]
    return _json(_by(served) | {"positions": order.tolist(), "scores": scores[order].tolist()})


def _by(served: Served) -> dict[str, Any]:
    pointer = served.pointer
    return {
        "version": pointer.version,
        "counters": pointer.counters,
        "counters_as_of": served.model.counters_as_of.isoformat(),
    }


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()
