"""The compatibility promise: what this format and the one before have published is read by all later code."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from nightjar import serving
from nightjar.features.contract import manifests
from nightjar.features.contract.errors import DataError
from nightjar.features.contract.manifests import ArtifactManifest, CandidateManifest, StateManifest
from nightjar.features.contract.publishing import (
    EXTENDED_FORMAT,
    MANIFEST,
    OLDEST_FORMAT,
    key_of,
    key_of_counts,
    read_manifest,
    verify,
)
from nightjar.features.contract.spec import FeatureSpec
from nightjar.serving import registry
from nightjar.training.warm_start import WarmStart
from tests.golden.make import GOLDEN, VALUES, VERSION
from tests.kits.serving.serving_oracle import SPEC as SERVED
from tests.kits.training.warm_start_kit import SPEC, make_place, train

FORMATS = sorted(path.name for path in GOLDEN.glob("format-*"))


@pytest.fixture
def next_format(monkeypatch: pytest.MonkeyPatch) -> int:
    """The code of a later release, which writes the next format."""
    monkeypatch.setattr(manifests, "FORMAT", manifests.FORMAT + 1)
    return manifests.FORMAT


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    return Path(shutil.copytree(GOLDEN / FORMATS[-1] / "models" / VERSION, tmp_path / VERSION))


def rewrite(directory: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """As another version would have written the manifest."""
    document = json.loads((directory / MANIFEST).read_text())
    change(document)
    (directory / MANIFEST).write_text(json.dumps(document))


def require_champion(models: Path) -> None:
    """It loads, and scores its golden rows as it did when it was made."""
    champion = registry.load_champion(str(models))
    expected = np.load(Path(champion) / "golden" / "scores.npy")
    scores = serving.load(champion).score(pq.ParquetFile(Path(champion) / "golden" / "raw.parquet").read())
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-6)


def test_there_is_an_output_of_every_format_that_is_read() -> None:
    assert FORMATS[-2:] == [f"format-{n}" for n in range(OLDEST_FORMAT, manifests.FORMAT + 1)]
    assert manifests.FORMAT - OLDEST_FORMAT <= 1


@pytest.mark.parametrize("name", [*FORMATS[-2:], f"extended-{EXTENDED_FORMAT}"])
def test_the_champion_of_a_kept_output_is_served(name: str) -> None:
    require_champion(GOLDEN / name / "models")


def test_a_later_format_reads_the_one_before_and_begins_with_its_models_by_value(
    next_format: int, tmp_path: Path
) -> None:
    old = GOLDEN / FORMATS[-1]
    require_champion(old / "models")
    parent = str(old / "parent" / "candidate")
    verify(parent, read_manifest(parent, CandidateManifest))
    new = make_place(tmp_path / "new", SPEC, VALUES, seed=2)
    assert read_manifest(new.state, StateManifest).format == next_format
    warm = WarmStart(parent, str(old / "parent" / "state"), new.state, 1.0)
    candidate = train(new, tmp_path / "candidate", warm_start=warm, model="wide_deep", epochs=1)
    manifest = read_manifest(candidate, CandidateManifest)
    assert manifest.format == next_format
    assert manifest.parent is not None
    carried = json.loads((Path(candidate) / "warm_start.json").read_text())["slots"]
    assert sum(slot["carried"] for slot in carried) == sum(slot["rows"] for slot in carried) > 50


def test_a_later_format_makes_all_anew_but_the_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    before = key_of(a=1), key_of_counts(a=1)
    monkeypatch.setattr(manifests, "FORMAT", manifests.FORMAT + 1)
    assert key_of(a=1) != before[0]
    assert key_of_counts(a=1) == before[1]


def test_another_format_names_the_version_that_is_needed(artifact: Path) -> None:
    def later(document: dict[str, Any]) -> None:
        document |= {"format": 9}
        document["lineage"]["code"] = {"version": "4.2.0", "sources": "", "libraries": {}}

    rewrite(artifact, later)
    with pytest.raises(
        DataError, match=r"is of the format 9; this version reads 2 to 3\. It was made by Nightjar 4\.2\.0"
    ):
        read_manifest(str(artifact), ArtifactManifest)
    rewrite(artifact, lambda document: document.update({"format": 1}))
    with pytest.raises(DataError, match=r"is of the format 1; this version reads 2 to 3\. Make it again"):
        read_manifest(str(artifact), ArtifactManifest)


def test_new_keys_that_say_nothing_of_a_feature_are_left_out(artifact: Path) -> None:
    before = read_manifest(str(artifact / "encoder"), StateManifest)
    rewrite(artifact, lambda document: document.update({"new": {"anything": 1}}))
    rewrite(artifact, lambda document: document["files"][0].update({"compression": "zstd"}))
    for key, value in (("hashing", None), ("tags", []), ("blend", False)):
        rewrite(artifact / "encoder", lambda d, key=key, value=value: d["spec"]["fields"][0].update({key: value}))
        rewrite(artifact / "encoder", lambda d, key=key, value=value: d["spec"].update({key: value}))
    rewrite(
        artifact / "encoder", lambda d: [cross["admission"].update({"new": None}) for cross in d["spec"]["crosses"]]
    )
    assert read_manifest(str(artifact), ArtifactManifest).model == "wide_deep"
    assert read_manifest(str(artifact / "encoder"), StateManifest) == before


def test_a_feature_that_cannot_be_computed_is_refused_by_name(artifact: Path) -> None:
    code = {"version": "4.2.0", "sources": "", "libraries": {}}
    rewrite(artifact, lambda document: document["lineage"].update({"code": code}))
    rewrite(artifact / "encoder", lambda document: document["spec"]["fields"][1].update({"stemming": "german"}))
    with pytest.raises(
        DataError, match=r"needs spec\.fields\.1\.stemming = 'german'.*made by Nightjar 4\.2\.0: install"
    ):
        read_manifest(str(artifact / "encoder"), StateManifest)


def test_a_setting_at_its_default_is_not_in_the_fingerprint() -> None:
    class Later(FeatureSpec):
        added: int = 7

    document = SERVED.model_dump(mode="json")
    assert Later.model_validate(document).fingerprint == SERVED.fingerprint
    assert Later.model_validate(document | {"added": 8}).fingerprint != SERVED.fingerprint
