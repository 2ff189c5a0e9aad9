"""The configs that come with the project are such as a night takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from nightjar.jobs.nightly.night import NightConfig
from tests.kits.submit import REPOSITORY


@pytest.mark.parametrize("path", sorted((REPOSITORY / "conf").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_bundled_config_can_be_read(path: Path) -> None:
    config = NightConfig.read(str(path))
    assert config.gate.rules
    assert config.training.workers <= config.training.lanes
