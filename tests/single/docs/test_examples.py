"""The configs that the pages show are such as a night takes, and what they call defaults are defaults."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from nightjar.jobs.nightly.night import NightConfig
from tests.kits.pages import PATHS, ROOT, Page


def document(page: Path) -> dict[str, dict[str, Any]]:
    """A page's blocks are parts of one file: sections, and settings of sections that another block begins."""
    found: dict[str, dict[str, Any]] = {}
    for block in Page(page).blocks("yaml"):
        for section, settings in yaml.safe_load(block).items():
            found.setdefault(section, {}).update(settings)
    return found


FEATURES = {"features": document(ROOT / "docs" / "features.md")["features"]}


@pytest.mark.parametrize("path", [path for path in PATHS if document(path)], ids=lambda path: path.stem)
def test_the_configs_of_a_page_can_be_read(path: Path) -> None:
    NightConfig.model_validate({**FEATURES, **document(path)})


def test_every_section_is_shown() -> None:
    assert set().union(*(document(path) for path in PATHS)) == set(NightConfig.model_fields)


def test_the_features_page_shows_every_kind_of_feature() -> None:
    assert set(FEATURES["features"]) | {"weight", "truth"} == set(type(_config().features).model_fields)


def test_what_is_shown_as_defaults_is() -> None:
    gate = _config(ROOT / "docs" / "gate.md").gate
    assert gate == _config().gate.model_copy(update={"slices": ("country",)})
    assert _config(ROOT / "docs" / "data-checks.md").validation == _config().validation
    shown, plain = _config(ROOT / "docs" / "training.md").nightly.warm_start, _config().nightly.warm_start
    assert shown == plain


def _config(*pages: Path) -> NightConfig:
    merged: dict[str, Any] = dict(FEATURES)
    for page in pages:
        merged |= document(page)
    return NightConfig.model_validate(merged)
