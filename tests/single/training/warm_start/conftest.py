"""Parents, and a place for their children, of all tests in this folder."""

from __future__ import annotations

import pytest

from tests.kits.training.warm_start_kit import CHANGED, CHOICES, LATER, SPEC, VALUES, Old, Place, make_place, train


@pytest.fixture(scope="package")
def old(tmp_path_factory: pytest.TempPathFactory) -> Old:
    root = tmp_path_factory.mktemp("parent")
    place = make_place(root, SPEC, VALUES, seed=1)
    return Old(place, train(place, root / "candidate"))


@pytest.fixture(scope="package")
def new(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Another spec, other values, other ids."""
    return make_place(tmp_path_factory.mktemp("child"), CHANGED, LATER, seed=2)


@pytest.fixture(scope="package")
def olds(old: Old, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Old]:
    """Parents of every rule."""
    root = tmp_path_factory.mktemp("parents")
    folders = {name: root / name.replace(",", "").replace(" ", "-") for name in CHOICES}
    trained = {name: Old(old.place, train(old.place, folders[name], **c)) for name, c in CHOICES.items() if c}
    return {"default": old, **trained}
