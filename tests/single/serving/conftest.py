"""Registries in every kind of storage."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from nightjar.features.contract import storage


@pytest.fixture(params=["local", "memory", "s3", "hdfs"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty models root."""
    if request.param == "local":
        yield str(tmp_path / "models")
        return
    named = {"s3": "bucket", "hdfs": "hdfs"}.get(request.param)
    url = request.getfixturevalue(named) if named else f"memory://models/{uuid.uuid4().hex}"
    yield f"{url}/models"
    storage.remove(url)
