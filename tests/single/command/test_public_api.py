"""`import nightjar`: what it offers, and what it does not load."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import nightjar
from nightjar.features.contract import storage
from nightjar.features.contract.errors import DataError
from nightjar.features.contract.manifests import Lineage
from nightjar.serving import model, registry
from nightjar.serving.packing.pack import pack
from tests.kits.serving.serving_kit import World, make_world

ROOT = Path(__file__).resolve().parents[3]
HEAVY = {"numpy", "pyarrow", "onnxruntime", "pydantic", "yaml", "fsspec", "torch", "pyspark", "horovod", "petastorm"}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


def packed(world: World, root: Path, *versions: str) -> str:
    for version in versions:
        pack(world.candidate, world.state, world.holdout, str(root / version), Lineage(date=version))
    return str(root)


def loaded_by(program: str) -> set[str]:
    program += "; import sys; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_it_loads_no_library_at_all():
    assert not loaded_by("import nightjar; nightjar.load, nightjar.load_champion, nightjar.__version__") & HEAVY


def test_what_it_offers_is_there():
    assert all(hasattr(nightjar, name) for name in nightjar.__all__)


def test_an_artifact_and_the_champion_score_as_the_trainer_did(world: World, tmp_path: Path):
    models = packed(world, tmp_path, "a", "b")
    registry.promote(models, "b", "a test")
    expected = world.model.score(world.rows)
    np.testing.assert_allclose(nightjar.load(f"{models}/a").score(world.rows), expected, atol=1e-5)
    champion = nightjar.load_champion(models)
    np.testing.assert_allclose(champion.score(world.rows), expected, atol=1e-5)
    assert champion.manifest.lineage.date == "b"


def test_the_champion_is_loaded_whole_when_it_is_replaced_and_pruned_meanwhile(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    models = packed(world, tmp_path, "a", "b")
    registry.promote(models, "a", "a test")
    whole = model.verify

    def overtaken(directory: str, manifest: object) -> None:
        """Between the manifest and the files of `a`, another process makes `b` the champion and `a` goes."""
        monkeypatch.setattr(model, "verify", whole)
        registry.promote(models, "b", "a test")
        storage.remove(f"{models}/a")
        whole(directory, manifest)  # type: ignore[arg-type]

    monkeypatch.setattr(model, "verify", overtaken)
    assert nightjar.load_champion(models).manifest.lineage.date == "b"


def test_a_root_without_a_champion_is_named(tmp_path: Path):
    with pytest.raises(DataError, match=f"{tmp_path} has no champion"):
        nightjar.load_champion(str(tmp_path))
