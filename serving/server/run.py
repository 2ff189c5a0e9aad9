"""A server on a socket, until SIGTERM or SIGINT."""

from __future__ import annotations

import signal
import socket
import sys
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from nightjar.features.contract.errors import UsageError

SWITCH_SECONDS = 0.0005
"""How long a thread keeps Python's lock while another wants it: the event loop waits for threads that score. Python's
own 5 ms would be longer than most requests."""


class _Uvicorn(uvicorn.Server):
    """Ends in order on a signal, and does not repeat it to the process afterwards: the status is 0."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """See uvicorn.Server."""
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 is any free one. Raises UsageError, with the reason, if that cannot be."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise UsageError(f"cannot listen on {host}:{port}: {error}. Give another --host or --port.") from error
    # Connections inherit it: an answer's head and body, two packets, would otherwise wait for each other 40 ms.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def uvicorn_of(app: ASGIApp, seconds: float) -> uvicorn.Server:
    """The HTTP server of an application. seconds: that what is in flight has when it ends."""
    config = uvicorn.Config(
        app,
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        lifespan="off",
        ws="none",
        timeout_keep_alive=75,
        timeout_graceful_shutdown=int(seconds) + 5,
    )
    return _Uvicorn(config)


def run(app: ASGIApp, listening: socket.socket, seconds: float) -> None:
    """Serve until a signal ends it; what is in flight is answered.

    Args:
        app: what answers.
        listening: see `listen`.
        seconds: that a request may take.
    """
    sys.setswitchinterval(SWITCH_SECONDS)
    uvicorn_of(app, seconds).run(sockets=[listening])
