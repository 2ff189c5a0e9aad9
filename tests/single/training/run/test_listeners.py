"""Horovod's services listen where they are told to, and strangers cost them nothing: neither bytes nor silence, nor a
byte now and then, nor many of them.
"""

from __future__ import annotations

import random
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import psutil
import pytest
from horovod.runner.common.util import network
from horovod.runner.http import http_server

from nightjar.training.run import listeners
from nightjar.training.run.collective import _listen_at
from nightjar.training.run.listeners import own_address

KEY = b"k" * 32


@pytest.fixture(scope="module")
def service() -> Iterator[Any]:
    """One of Horovod's, ended while a stranger is still silent: by itself, it would wait for him."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network, "find_port", network.find_port)
        patch.setattr(http_server, "find_port", http_server.find_port)
        for name in ("_get_local_addresses", "_make_handler"):
            patch.setattr(network.BasicService, name, getattr(network.BasicService, name))
        _listen_at("127.0.0.1")
        _listen_at("127.0.0.1")  # as in a process that is used again
        service = network.BasicService("a task", KEY, None)
    ending = threading.Thread(target=service.shutdown, daemon=True)
    yield service
    with stranger(service) as silent:
        assert answers(service)  # and so the stranger before it was heard
        ending.start()
        ending.join(listeners.SECONDS / 3)
        assert not ending.is_alive(), "a stranger holds up the service's end"
        assert is_sent_away(silent)


def answers(service: Any) -> bool:
    """Whether one who knows the secret is answered."""
    client = network.BasicClient("a task", service.addresses(), KEY, verbose=0)
    return bool(client.addresses() == service.addresses())


def stranger(service: Any) -> socket.socket:
    return socket.create_connection(("127.0.0.1", service.get_port()))


def is_sent_away(connection: socket.socket) -> bool:
    connection.settimeout(60)
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def test_it_listens_at_one_address_and_names_no_other(service: Any) -> None:
    assert service._server.server_address == ("127.0.0.1", service.get_port())
    assert service.addresses() == {"lo": [("127.0.0.1", service.get_port())]}
    assert answers(service)


@pytest.mark.parametrize(
    "said",
    [
        b"GET / HTTP/1.0\r\n\r\n",
        bytes(36),
        b"x" * 32 + struct.pack("i", -1) + b"and so on, without an end",
        b"x" * 32 + struct.pack("i", 2**31 - 1) + b"and so on",
        b"x" * 32 + struct.pack("i", 5) + b"wrong",
        random.Random(1).randbytes(10_000),
    ],
    ids=["a request", "zeros", "no length", "a huge length", "a wrong digest", "noise"],
)
def test_a_strangers_bytes_cost_nothing(
    service: Any, said: bytes, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listeners, "SECONDS", 0.5)
    with stranger(service) as connection:
        connection.sendall(said)
        assert is_sent_away(connection)
    assert "Traceback" not in capfd.readouterr().err


def test_silence_and_a_byte_now_and_then_are_hung_up_on(service: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert answers(service)
    monkeypatch.setattr(listeners, "SECONDS", 0.5)
    over = threading.Event()

    def drip(connection: socket.socket) -> None:
        while not over.wait(0.1):
            try:
                connection.sendall(b"x")
            except OSError:
                return

    with stranger(service) as silent, stranger(service) as slow:
        thread = threading.Thread(target=drip, args=(slow,))
        thread.start()
        assert is_sent_away(silent)
        assert is_sent_away(slow)
        over.set()
        thread.join()


def test_many_strangers_keep_nobody_out(service: Any) -> None:
    with ExitStack() as stack:
        strangers = [stack.enter_context(stranger(service)) for _ in range(3 * listeners.MOST_STRANGERS)]
        assert answers(service)
        assert is_sent_away(strangers[0])


def test_one_who_waits_for_its_answer_is_no_stranger(service: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many come after it, and however long it takes."""
    monkeypatch.setattr(listeners, "MOST_STRANGERS", 2)
    handle, called, go = service._handle, threading.Event(), threading.Event()

    def slowly(asked: Any, client: Any) -> Any:
        called.set()
        go.wait(60)
        return handle(asked, client)

    monkeypatch.setattr(service, "_handle", slowly)
    wire = network.Wire(KEY)
    with stranger(service) as waiting, waiting.makefile("rwb") as file:
        wire.write(network.PingRequest(), file)
        assert called.wait(60)
        with ExitStack() as stack:
            others = [stack.enter_context(stranger(service)) for _ in range(5)]
            assert is_sent_away(others[0])
        go.set()
        assert wire.read(file).service_name == "a task"


def test_a_message_takes_memory_as_it_comes() -> None:
    """A length of 4 MiB alone allocates nothing."""
    near, far = socket.socketpair()
    with near, far:
        far.sendall(b"abc")
        far.shutdown(socket.SHUT_WR)
        assert listeners.Message(near).read(listeners.MOST_BYTES) == b"abc"
        with pytest.raises(ValueError, match="a message of -1 bytes"):
            listeners.Message(near).read(-1)


def test_a_machines_own_address_is_the_one_for_the_other() -> None:
    assert own_address([("127.0.0.1", 9)]) == "127.0.0.1"
    outer = [
        end.address
        for ends in psutil.net_if_addrs().values()
        for end in ends
        if end.family == socket.AF_INET and not end.address.startswith("127.")
    ]
    for address in outer:
        assert own_address([("127.0.0.1", 9), (address, 9)]) == address
