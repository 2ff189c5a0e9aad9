"""Registries in every kind of storage."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from nightjar.features.contract import storage
from tests.kits.real_hdfs import REAL_HDFS


@pytest.fixture(params=["local", "memory", "bucket", "hdfs", *REAL_HDFS])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty models root."""
    if request.param == "local":
        yield str(tmp_path / "models")
        return
    in_memory = f"memory://models/{uuid.uuid4().hex}"
    url = in_memory if request.param == "memory" else request.getfixturevalue(request.param)
    yield f"{url}/models"
    storage.remove(url)
