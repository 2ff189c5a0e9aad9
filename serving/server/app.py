"""The server's routes, on Starlette: FastAPI would read bodies by a schema that is fixed when the process starts, and
this one's is the served model's."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from importlib.resources import files

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nightjar.features.contract.errors import DataError
from nightjar.serving.champion import CountersLimit
from nightjar.serving.request_log import RequestLog
from nightjar.serving.server.answers import Answers, current_day
from nightjar.serving.server.lanes import Lane
from nightjar.serving.server.metrics import Metrics, Watched
from nightjar.serving.server.served import Follower
from nightjar.serving.server.settings import Refused, Settings

log = logging.getLogger(__name__)

SCORED = ("/rank", "/score", "/explain")
PAGE = {
    "/": ("index.html", "text/html"),
    "/page.js": ("page.js", "text/javascript"),
    "/page.css": ("page.css", "text/css"),
}
LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = [
    (b"cache-control", b"no-store"),
    (b"content-security-policy", _POLICY.encode()),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
]
_TOO_LARGE_READ = 16 * 2**20
"""Bytes of a body that is too large which are still read: a client that sends does not look at an answer."""


class Server:
    """A champion, followed, behind an ASGI application. Made and closed by one thread; answers in an event loop."""

    def __init__(
        self, root: str, settings: Settings, requests: RequestLog | None = None, hosts: tuple[str, ...] = LOOPBACK
    ) -> None:
        """Load the champion.

        Args:
            root: of the registry.
            settings: its bounds.
            requests: takes down what is asked and answered; its owner closes it.
            hosts: names by which the server may be called; empty for any. A page elsewhere that lets its own name
                lead to this machine has another one.

        Raises DataError if there is no champion, or it cannot be loaded.
        """
        self._settings, self._hosts = settings, hosts
        self.metrics = Metrics()
        self.follower = Follower(root, settings, lambda outcome: self.metrics.loads.labels(outcome).inc())
        self._answers = Answers(lambda: self.follower.served, settings, self.metrics, requests)
        self._scoring: Lane[bytes] = Lane(
            "scoring", self._answers.scores, workers=settings.workers, waiting=settings.requests
        )
        self._explaining: Lane[bytes] = Lane(
            "explaining", self._answers.explanations, workers=1, waiting=settings.explanations
        )
        self.metrics.watch(
            Watched(
                served=lambda: self.follower.served,
                problem=lambda: self.follower.problem,
                waiting=lambda: len(self._scoring) + len(self._explaining),
                requests=requests,
            )
        )
        self._at_work = 0
        self._page = {path: _read_page(name) for path, (name, _) in PAGE.items()}
        routes = [Route(path, self._scored, methods=["POST"]) for path in SCORED]
        routes += [Route(path, self._shown) for path in PAGE]
        routes += [
            Route("/healthz", self._healthz),
            Route("/readyz", self._readyz),
            Route("/metrics", self._metrics),
            Route("/openapi.json", self._openapi),
        ]
        self._known = frozenset(route.path for route in routes)
        told = {HTTPException: _http_error, Refused: _refused, ClientDisconnect: _gone, Exception: _failed}
        inner = Starlette(routes=routes, exception_handlers=told)
        inner.router.redirect_slashes = False
        self.app: ASGIApp = _Watch(inner, self)

    def close(self) -> None:
        """Answer what waits, and end."""
        for lane in (self._scoring, self._explaining):
            lane.close(self._settings.seconds + 10)
        self.follower.close()

    async def _scored(self, request: Request) -> Response:
        """Routes that take rows."""
        if self._at_work >= self._settings.requests:
            raise Refused(503, f"{self._at_work} requests are at work, and no more may. Send it again later.", again=1)
        self._at_work += 1
        self.metrics.at_work.set(self._at_work)
        try:
            began = time.monotonic()
            body = await self._body(request)
            left = self._settings.seconds - (time.monotonic() - began)
            route = request.scope["path"]
            lane = self._explaining if route == "/explain" else self._scoring
            return _answer(await lane.answer(route, body, max(left, 0.0)))
        finally:
            self._at_work -= 1
            self.metrics.at_work.set(self._at_work)

    async def _body(self, request: Request) -> bytes:
        """A JSON body within the bounds."""
        kind, _, parameters = request.headers.get("content-type", "").partition(";")
        charset = parameters.strip().lower().replace('"', "").partition("charset=")[2]
        if kind.strip().lower() != "application/json" or charset not in ("", "utf-8", "utf8"):
            raise Refused(415, "the body is not declared as JSON. Send it with Content-Type: application/json.")
        if request.headers.get("content-encoding", "identity").lower() != "identity":
            raise Refused(415, "the body is compressed. Send it as it is.")
        try:
            return await asyncio.wait_for(self._read(request), self._settings.seconds)
        except TimeoutError as error:
            raise Refused(408, f"the body did not come within {self._settings.seconds:g} seconds.") from error

    async def _read(self, request: Request) -> bytes:
        parts, size, most = [], 0, self._settings.body_bytes
        async for part in request.stream():
            size += len(part)
            if size <= most:
                parts.append(part)
            elif size > most + _TOO_LARGE_READ:
                break
        if size > most:
            raise Refused(413, f"the body is larger than {most} bytes. Send fewer rows.")
        return b"".join(parts)

    async def _shown(self, request: Request) -> Response:
        path = request.scope["path"]
        return Response(self._page[path], media_type=PAGE[path][1])

    async def _healthz(self, request: Request) -> Response:
        alive = self._scoring.alive and self._explaining.alive and self.follower.alive
        return _answer(json.dumps({"alive": alive}).encode(), 200 if alive else 503)

    async def _readyz(self, request: Request) -> Response:
        """Whether rows are scored, by what, and why not by what the pointer names."""
        served, stale = self.follower.served, None
        try:
            CountersLimit(self._settings.counters_days, "refuse").check(served.model, current_day())
        except DataError as error:
            stale = str(error)
        found = {
            "ready": stale is None,
            "version": served.pointer.version,
            "counters": served.pointer.counters,
            "counters_as_of": served.model.counters_as_of.isoformat(),
            "since": served.since.isoformat(timespec="seconds"),
            "problems": [problem for problem in (stale, self.follower.problem) if problem],
        }
        return _answer(json.dumps(found).encode(), 503 if stale else 200)

    async def _metrics(self, request: Request) -> Response:
        return Response(self.metrics.text(), headers={"content-type": CONTENT_TYPE_LATEST})

    async def _openapi(self, request: Request) -> Response:
        return _answer(self.follower.served.openapi)

    def refuse_host(self, headers: Headers) -> Refused | None:
        """What a request is told that calls the server by a name which is not its own."""
        host = headers.get("host", "")
        name = host if host.endswith("]") else host.rpartition(":")[0] or host
        if not self._hosts or name.lower() in self._hosts:
            return None
        return Refused(
            421, f"this server is not called {json.dumps(host[:80])}. It listens to {', '.join(self._hosts)}."
        )

    def route(self, path: str) -> str:
        """A path as a label: one of those that are known."""
        return path if path in self._known else "other"


class _Watch:
    """Around all: every request has one answer, a counted one, and whatever goes wrong is told in one form."""

    def __init__(self, app: ASGIApp, server: Server) -> None:
        self._app, self._server = app, server

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        began, status = time.perf_counter(), 0

        async def sent(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *_HEADERS]
            await send(message)

        refused = self._server.refuse_host(Headers(scope=scope))
        app = self._app if refused is None else _refusal(refused)
        try:
            await app(scope, receive, sent)
        except Exception:  # it has been answered
            log.exception("%s %s failed", scope["method"], scope["path"])
        finally:
            labels = (self._server.route(scope["path"]), str(status))
            self._server.metrics.requests.labels(*labels).inc()
            self._server.metrics.seconds.labels(*labels).observe(time.perf_counter() - began)


async def _http_error(request: Request, error: Exception) -> Response:
    """What Starlette has to say: 404 and 405."""
    assert isinstance(error, HTTPException)
    said = {404: "there is no such path. See /openapi.json.", 405: "this path does not take this method."}
    return _refusal(Refused(error.status_code, said.get(error.status_code, error.detail)), error.headers)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return _refusal(error)


async def _gone(request: Request, error: Exception) -> Response:
    """Nobody reads this, but it is counted."""
    return _refusal(Refused(499, "the client has gone."))


async def _failed(request: Request, error: Exception) -> Response:
    return _refusal(Refused(500, "the server has failed; its log says why."))


def _answer(content: bytes, status: int = 200) -> Response:
    return Response(content, status, media_type="application/json")


def _refusal(error: Refused, headers: object = None) -> Response:
    response = _answer(json.dumps({"error": str(error)}).encode(), error.status)
    if isinstance(headers, dict):
        response.headers.update(headers)
    if error.again is not None:
        response.headers["retry-after"] = str(error.again)
    return response


def _read_page(name: str) -> bytes:
    return (files("nightjar.serving.server") / "page" / name).read_bytes()
