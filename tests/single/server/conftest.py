"""One server of an unmoving registry for all tests that only ask."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kits.serving.server_kit import Client, Running, make_registry, running


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_registry(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="session")
def server(models: str) -> Iterator[Running]:
    with running(models) as found:
        yield found


@pytest.fixture
def client(server: Running) -> Iterator[Client]:
    with server.client() as found:
        yield found
