"""Figures of a server for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from nightjar.serving.request_log import RequestLog
from nightjar.serving.server.served import Served

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_ROWS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
_REQUESTS = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """One server's."""

    def __init__(self) -> None:
        """Nothing counted yet."""
        self._registry = registry = CollectorRegistry()
        self.requests = Counter(
            "nightjar_server_requests", "Requests that were answered.", ["route", "status"], registry=registry
        )
        self.seconds = Histogram(
            "nightjar_server_request_seconds",
            "From a request's head to the end of its answer.",
            ["route", "status"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.rows = Counter("nightjar_server_rows", "Rows that were scored.", ["route"], registry=registry)
        self.request_rows = Histogram(
            "nightjar_server_request_rows", "Rows of a scored request.", buckets=_ROWS, registry=registry
        )
        self.batch_requests = Histogram(
            "nightjar_server_batch_requests",
            "Requests that were worked on together.",
            buckets=_REQUESTS,
            registry=registry,
        )
        self.loads = Counter(
            "nightjar_server_loads",
            "Tries to load what the pointer names: model, counters or failed.",
            ["outcome"],
            registry=registry,
        )
        for outcome in ("model", "counters", "failed"):
            self.loads.labels(outcome)
        self.at_work = Gauge(
            "nightjar_server_requests_at_once", "Requests that are read, wait or are scored.", registry=registry
        )

    def watch(self, watched: Watched) -> None:
        """Add what is asked for when the figures are."""
        self._registry.register(watched)

    def text(self) -> bytes:
        """In Prometheus's text format."""
        return generate_latest(self._registry)


@dataclass(frozen=True)
class Watched(Collector):
    """served: what serves; problem: why what the pointer names does not; waiting: how many requests wait for a thread;
    requests: the request log, if there is one.
    """

    served: Callable[[], Served]
    problem: Callable[[], str | None]
    waiting: Callable[[], int]
    requests: RequestLog | None

    def collect(self) -> Iterator[Metric]:
        """See Collector."""
        served = self.served()
        names = ["version", "counters"]
        info = GaugeMetricFamily("nightjar_server_model_info", "What serves.", labels=names)
        info.add_metric([served.pointer.version, served.pointer.counters or ""], 1)
        yield info
        age = (datetime.now(UTC).date() - served.model.counters_as_of).days
        yield GaugeMetricFamily("nightjar_server_counters_age_days", "Since the day that they are for.", age)
        since = served.since.timestamp()
        yield GaugeMetricFamily("nightjar_server_loaded_timestamp_seconds", "When it was loaded.", since)
        behind = int(self.problem() is not None)
        yield GaugeMetricFamily("nightjar_server_behind", "1 if what the pointer names cannot be served.", behind)
        yield GaugeMetricFamily("nightjar_server_waiting", "Requests that wait for a thread.", self.waiting())
        if self.requests:
            logged = CounterMetricFamily(
                "nightjar_server_logged_requests", "What became of requests in the request log.", labels=["outcome"]
            )
            counts = self.requests.counts
            for outcome in ("sampled", "written", "dropped", "failed"):
                logged.add_metric([outcome], getattr(counts, outcome))
            yield logged
