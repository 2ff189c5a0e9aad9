"""A served registry with two versions, a server on a free port in a thread, and a plain HTTP client."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nightjar.serving import registry
from nightjar.serving.model import ServingModel, load
from nightjar.serving.packing.pack import pack
from nightjar.serving.request_log import RequestLog
from nightjar.serving.server.app import LOOPBACK, Server
from nightjar.serving.server.run import listen, uvicorn_of
from nightjar.serving.server.settings import Settings
from tests.kits.serving.serving_kit import make_rows, make_world

SECONDS = 60.0
JSON = {"Content-Type": "application/json"}


def make_registry(root: Path) -> str:
    """Versions `one`, the champion, and `two`, which scores otherwise."""
    models = root / "models"
    for seed, version in enumerate(("one", "two"), 1):
        world = make_world(root / version, seed=seed)
        pack(world.candidate, world.state, world.holdout, str(models / version))
    registry.promote(str(models), "one", "first")
    return str(models)


def model_of(models: str, version: str) -> ServingModel:
    return load(f"{models}/{version}")


@dataclass
class Answer:
    """An answer. headers: by their names in small letters."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.content)


class Client:
    """One connection, kept."""

    def __init__(self, port: int, seconds: float = SECONDS) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=seconds)

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        return self.ask("GET", path, None, headers or {})

    def post(self, path: str, body: Any, headers: Mapping[str, str] = JSON) -> Answer:
        """body: bytes as they are; all else as JSON."""
        return self.ask("POST", path, body if isinstance(body, bytes) else json.dumps(body).encode(), headers)

    def ask(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Answer:
        self._connection.request(method, path, body, dict(headers))
        with self._connection.getresponse() as response:
            found = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, found, response.read())

    def close(self) -> None:
        self._connection.close()


@dataclass(frozen=True)
class Running:
    """A server at work."""

    models: str
    port: int
    server: Server

    def client(self) -> closing[Client]:
        return closing(Client(self.port))

    def metric(self, name: str) -> float:
        """The value of a line of /metrics, labels included in its name."""
        with self.client() as client:
            lines = client.get("/metrics").content.decode().splitlines()
        return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name} ")), 0.0)


@contextmanager
def running(
    models: str,
    settings: Settings | None = None,
    log: RequestLog | None = None,
    hosts: tuple[str, ...] = LOOPBACK,
) -> Iterator[Running]:
    """A server of a registry. settings: None looks at the pointer only when a test says so, and has time."""
    settings = settings or Settings(every_seconds=3600.0, seconds=SECONDS)
    with listen("127.0.0.1", 0) as listening, closing(Server(models, settings, log, hosts)) as server:
        http_server = uvicorn_of(server.app, 1.0)
        thread = threading.Thread(target=http_server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        try:
            yield Running(models, listening.getsockname()[1], server)
        finally:
            http_server.should_exit = True
            thread.join(SECONDS)


def json_rows(count: int, seed: int) -> list[dict[str, Any]]:
    """Rows as JSON has them, NaN as null."""
    return [
        {name: None if isinstance(value, float) and value != value else value for name, value in row.items()}
        for row in make_rows(count, seed)
    ]
