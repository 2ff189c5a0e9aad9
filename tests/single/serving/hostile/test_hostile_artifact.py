"""An artifact whose manifest fits its files, and whose files make no sense: a DataError, and nothing written."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nightjar import serving
from nightjar.features.contract.errors import DataError
from nightjar.serving.packing.pack import pack
from tests.kits.serving.serving_kit import World, make_world


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, Path]:
    place = tmp_path_factory.mktemp("world")
    made = make_world(place)
    pack(made.candidate, made.state, made.holdout, str(place / "artifact"))
    return made, place / "artifact"


def sign(directory: Path, change: Callable[[dict[str, Any]], object] = lambda manifest: None) -> str:
    """Let the manifest fit the files, as whoever can write there can; its digest."""
    path = directory / "manifest.json"
    manifest = json.loads(path.read_text())
    for entry in manifest["files"]:
        content = (directory / entry["path"]).read_bytes()
        entry |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    change(manifest)
    path.write_text(json.dumps(manifest))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


def parquet(table: pa.Table) -> bytes:
    stream = pa.BufferOutputStream()
    pq.write_table(table, stream)
    content: bytes = stream.getvalue().to_pybytes()
    return content


HUGE = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776,), }\n"
CONTENTS = {
    "junk": b"\x08\x07junk" * 100,
    "nothing": b"",
    "a huge array": b"\x93NUMPY\x01\x00" + len(HUGE).to_bytes(2, "little") + HUGE,
    "a pickle": npy(np.array([{}], dtype=object)),
    "another array": npy(np.zeros((3, 3))),
    "another table": parquet(pa.table({"x": ["y"]})),
    "a table of nulls": parquet(pa.table({name: pa.nulls(3) for name in ("hash", "id", "value", "key")})),
}


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize(
    "pattern", ["scoring/head.onnx", "scoring/wide_*.npy", "scoring/embedding_*.npy", "encoder/vocabulary/*/*.parquet"]
)
def test_files_that_make_no_sense_are_a_data_error(
    world: tuple[World, Path], tmp_path: Path, pattern: str, content: str
) -> None:
    artifact = tmp_path / "artifact"
    shutil.copytree(world[1], artifact)
    paths = list(artifact.glob(pattern))
    assert paths
    for path in paths:
        path.write_bytes(CONTENTS[content])
    sign(artifact)
    with pytest.raises(DataError):
        serving.load(str(artifact))


def set_columns(**values: object) -> Callable[[dict[str, Any]], None]:
    def change(manifest: dict[str, Any]) -> None:
        for column in manifest["columns"]:
            column |= values

    return change


@pytest.mark.parametrize(
    "change",
    [
        set_columns(size=2**40, embedding=1024),
        set_columns(size=-5),
        set_columns(embedding=-1),
        lambda manifest: manifest.update(columns=[]),
        lambda manifest: manifest.update(files=[]),
        lambda manifest: manifest["files"].append({"path": "../x", "bytes": 1, "sha256": "0" * 64}),
        lambda manifest: manifest["files"].append({"path": "x", "bytes": 10**30, "sha256": "0" * 64}),
    ],
    ids=range(7),
)
def test_a_manifest_that_makes_no_sense_is_a_data_error(
    world: tuple[World, Path], tmp_path: Path, change: Callable[[dict[str, Any]], object]
) -> None:
    artifact = tmp_path / "artifact"
    shutil.copytree(world[1], artifact)
    sign(artifact, change)
    with pytest.raises(DataError):
        serving.load(str(artifact))


@pytest.mark.parametrize("path", ["../../../secret.txt", "../secret.txt", "/secret.txt", "a/../../../../secret.txt"])
def test_packing_reads_and_writes_nothing_outside(tmp_path: Path, path: str) -> None:
    made = make_world(tmp_path / "deep" / "world")
    secret = tmp_path / "secret.txt"
    secret.write_text("private")
    before = set(tmp_path.rglob("*"))
    entry = {"path": path, "bytes": 7, "sha256": hashlib.sha256(b"private").hexdigest(), "rows": None}
    for directory in (made.state, made.candidate, made.holdout):
        manifest = Path(directory) / "manifest.json"
        whole = manifest.read_text()
        document = json.loads(whole)
        document["files"].append(entry)
        manifest.write_text(json.dumps(document))
        with pytest.raises(DataError, match=r"path"):
            pack(made.candidate, made.state, made.holdout, str(tmp_path / "deep" / "models" / "v1"))
        manifest.write_text(whole)
    assert set(tmp_path.rglob("*")) == before
