"""Registries in every kind of storage."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from nightjar.features.contract import storage


@pytest.fixture(params=["local", "memory", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty models root."""
    if request.param == "local":
        yield str(tmp_path / "models")
        return
    url = request.getfixturevalue("bucket") if request.param == "s3" else f"memory://models/{uuid.uuid4().hex}"
    yield f"{url}/models"
    storage.remove(url)
