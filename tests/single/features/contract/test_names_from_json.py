"""A name that is read from JSON leads nowhere but below the directory that it is joined to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from nightjar.features.contract.errors import DataError
from nightjar.features.contract.manifests import (
    AggregateManifest,
    CountersManifest,
    DecisionManifest,
    FileEntry,
    Lineage,
    Manifest,
    NightManifest,
    ParentCandidate,
    ValidationManifest,
)
from nightjar.features.contract.publishing import read_manifest
from nightjar.features.contract.records import NightStart
from nightjar.serving import registry
from nightjar.serving.registry import Pointer, Pruning
from tests.kits.registry_kit import publish, publish_all

ESCAPES = (
    "../x",
    "..",
    ".",
    "",
    "a/../../x",
    "/etc/passwd",
    "a//b",
    "a/",
    "s3://b/x",
    "a::file:///x",
    "~",
    "*",
    "a\0b",
)
ESCAPES += ("a\\..\\b", "_hidden", ".hidden", "a/.b", "x\n", "a b", "?", "[a]", "x" * 2000)
DAYS = dict.fromkeys(("date", "through_date", "learned_date"), "2026-01-02")
ENTRY = {"path": "data/part-00000.parquet", "bytes": 1, "sha256": "0" * 64}
NIGHT: dict[str, Any] = {"files": [], "date": "2026-01-01", "version": "v", "verdict": "published", "ingredients": {}}
COUNTERS = {"files": [], "fingerprint": "f", "first_date": "2026-01-01", "through_date": "2026-01-02", "keys": {}}
MOVE = {"version": "v", "digest": "0" * 64, "reason": "r", "sequence": 1}


@pytest.mark.parametrize("name", ESCAPES)
@pytest.mark.parametrize(
    ("model", "document", "field"),
    [
        (FileEntry, ENTRY, "path"),
        (Pointer, MOVE, "version"),
        (Pointer, MOVE, "counters"),
        (Pointer, MOVE, "judged"),
        (CountersManifest, COUNTERS, "previous"),
        (CountersManifest, COUNTERS, "through_date"),
        (Lineage, {}, "judged"),
        (Lineage, {}, "learned_date"),
        (Pruning, {}, "versions"),
        (NightManifest, {**NIGHT, "directories": {}}, "version"),
        (NightManifest, {**NIGHT, "directories": {}}, "date"),
        (NightManifest, NIGHT, "directories"),
        (DecisionManifest, {"files": [], "champion": None, "verdict": "published"}, "version"),
        (DecisionManifest, {"files": [], "version": "v", "verdict": "published"}, "champion"),
        (ParentCandidate, {"digest": "d", "through_date": "2026-01-01", "decay": 1.0}, "candidate"),
        (NightStart, {}, "parent"),
        (AggregateManifest, {"files": [], "spec_fingerprint": "s", "rows": 1, "positives": 0}, "date"),
        (
            ValidationManifest,
            {"files": [], "rows": 1, "reference": [], "allowed": [], "passed": True, "checks": []},
            "date",
        ),
    ],
)
def test_names_and_paths_stay_below_their_root(
    model: type[BaseModel], document: dict[str, Any], field: str, name: str
) -> None:
    value: Any = {"versions": [name], "directories": {"train": [name]}}.get(field, name)
    with pytest.raises(ValidationError):
        model.model_validate({**document, field: value})
    value = {"versions": ["v-1.2"], "directories": {"train": ["models/v"]}, **DAYS}.get(field, "a-B_1.2")
    model.model_validate({**document, field: value})


@pytest.mark.parametrize("day", ["2026-02-29", "2026-13-01", "2026-00-10", "0000-01-01", "2026-1-1", "20260101"])
def test_a_date_is_a_day_that_there_is(day: str) -> None:
    with pytest.raises(ValidationError):
        CountersManifest.model_validate({**COUNTERS, "through_date": day})


@pytest.mark.parametrize("name", ["lock", "history", "champion.json"])
def test_what_is_the_registrys_own_is_no_version(name: str) -> None:
    with pytest.raises(ValidationError, match="is a registry's own"):
        Pruning.model_validate({"versions": [name]})


@pytest.mark.parametrize("name", ["../../victim", "", "lock", "*", "."])
def test_a_pruning_that_names_something_else_removes_nothing(tmp_path: Path, name: str) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    models = tmp_path / "out" / "models"
    publish(str(models), "v1")
    (models / "lock").mkdir()
    (models / "history").mkdir()
    (models / "history" / "pruning.json").write_text(json.dumps({"versions": [name]}))
    with pytest.raises(DataError, match=r"pruning\.json"):
        registry.prune(str(models), 5)
    assert victim.exists()
    assert (models / "lock").exists()
    assert registry.versions(str(models)) == ["v1"]


def test_a_history_that_leads_in_a_circle_ends(tmp_path: Path) -> None:
    root = str(tmp_path)
    publish_all(root, "ab")
    registry.promote(root, "a", "one")
    registry.promote(root, "b", "two")
    for name in ("champion.json", "history/000002.json"):
        move = json.loads((tmp_path / name).read_text())
        (tmp_path / name).write_text(json.dumps({**move, "previous": 2}))
    with pytest.raises(DataError, match="previous must be less than sequence 2"):
        list(registry.line(root))
    registry_entry = json.loads((tmp_path / "history/000001.json").read_text())
    (tmp_path / "champion.json").write_text(json.dumps({**move, "previous": 1}))
    (tmp_path / "history/000001.json").write_text(json.dumps({**registry_entry, "sequence": 7, "previous": 1}))
    with pytest.raises(DataError, match="not the entry of that number"):
        list(registry.line(root))


@pytest.mark.parametrize("content", [b"[" * 100_000, b"\xff\xfe", b"", b"null", b"[]", b'{"bytes": 1' + b"0" * 9999])
def test_a_manifest_of_any_bytes_is_a_data_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(DataError, match=r"manifest\.json"):
        read_manifest(str(tmp_path), Manifest)
