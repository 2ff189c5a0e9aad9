"""The configs that come with the project, and those that the README shows, are such as a night takes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from nightjar.jobs.nightly.night import NightConfig
from tests.kits.submit import REPOSITORY


@pytest.mark.parametrize("path", sorted((REPOSITORY / "conf").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_bundled_config_can_be_read(path: Path) -> None:
    config = NightConfig.read(str(path))
    assert config.gate.rules
    assert config.training.workers <= config.training.lanes


def test_the_readmes_configs_can_be_read() -> None:
    """Its blocks are parts of one file: sections, and settings of sections that another block begins."""
    document: dict[str, dict[str, Any]] = {}
    for block in re.findall(r"```yaml\n(.*?)```", (REPOSITORY / "README.md").read_text(), re.DOTALL):
        for section, settings in yaml.safe_load(block).items():
            document.setdefault(section, {}).update(settings)
    assert set(document) == {"features", "input", "training", "nightly", "gate"}
    config = NightConfig.model_validate(document)
    assert config.gate == NightConfig.model_validate({"features": document["features"]}).gate.model_copy(
        update={"slices": ("country",)}
    ), "the README says that it shows the defaults"
