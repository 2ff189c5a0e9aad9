"""Where a server listens, and what a client may cost it before it has said anything that can be believed: so many
seconds, bytes and connections.

Horovod's services (training.run.collective) read a whole message before they compare its digest, wait for it for ever,
and end only when all of their clients have gone.
"""

from __future__ import annotations

import logging
import socket
import socketserver
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

# For the whole message, however slowly its bytes come: tasks of the driver and of each other ask at once.
SECONDS = 30.0
# The longest that a task is asked is the environment of a worker, of which Linux takes 2 MiB.
MOST_BYTES = 4 << 20
MOST_STRANGERS = 64
# Clients that may wait to be heard; of Python's 5, strangers are soon as many.
_BACKLOG = 128
# Digest, length, message.
_PARTS = 3
_PIECE = 1 << 16

log = logging.getLogger(__name__)


def own_address(others: Sequence[tuple[str, int]]) -> str:
    """The address that this machine has for one of these others; loopback only if there is nothing else."""
    other = min(others, key=lambda end: end[0].startswith("127."))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
        line.connect(other)  # sends nothing
        return str(line.getsockname()[0])


def hospitable(server: Any) -> Any:
    """The same socketserver.TCPServer, with room for those who come at once, and whose end waits for no stranger."""
    server.socket.listen(_BACKLOG)
    close = server.server_close

    def end() -> None:
        for client in list(server.__dict__.get("clients", ())):
            client.hang_up()
        close()

    server.server_close = end
    return server


class Message:
    """What a client sends, as a file that can be read: in bounded time and memory, by nobody's word but its own."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line
        self._until = time.monotonic() + SECONDS
        self.parts = 0

    def read(self, size: int) -> bytes:
        """The next `size` bytes; fewer if the client has left. Raises ValueError for a size that no message has, and
        TimeoutError if the message is not here in time.
        """
        if not 0 <= size <= MOST_BYTES:
            raise ValueError(f"a message of {size} bytes")
        content = bytearray()
        while len(content) < size:
            left = self._until - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"no message within {SECONDS:g} seconds")
            self._line.settimeout(left)
            piece = self._line.recv(min(size - len(content), _PIECE))
            if not piece:
                break
            content += piece
        self._line.settimeout(SECONDS)
        self.parts += 1
        return bytes(content)

    def close(self) -> None:
        """The connection is closed by its server."""


class SentAway(socketserver.StreamRequestHandler):
    """Mixed into a handler that reads one message from `rfile`: strangers are sent away, and others answered."""

    def setup(self) -> None:
        """Of too many clients that have not said all, the one that came first leaves."""
        super().setup()
        self.rfile.close()
        self.rfile: Message = Message(self.connection)  # type: ignore[assignment]
        waiting = self._waiting()
        waiting.append(self)
        while len(waiting) > MOST_STRANGERS:
            waiting.pop(0).hang_up()

    def hang_up(self) -> None:
        """Unless the client has said all."""
        if self.rfile.parts < _PARTS:
            with suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)

    def handle(self) -> None:
        """As the server does; what a client did wrong is no traceback on a person's screen."""
        try:
            super().handle()
        except Exception as error:  # whatever a stranger's bytes are taken for
            log.info("a client of Horovod's was sent away: %r", error)

    def finish(self) -> None:
        """The client has gone."""
        with suppress(ValueError):
            self._waiting().remove(self)
        super().finish()

    def _waiting(self) -> list[SentAway]:
        """The server's clients by when they came."""
        clients: list[SentAway] = self.server.__dict__.setdefault("clients", [])
        return clients
