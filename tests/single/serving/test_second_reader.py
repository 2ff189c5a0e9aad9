"""docs/artifact-format.md is enough: a reader written from it, which shares nothing with serving, gives the same."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest
import xxhash

from nightjar import serving
from nightjar.features.encoder.encoder import Encoder
from nightjar.features.encoder.ragged import Ragged
from nightjar.features.encoder.rows import hash_rows
from nightjar.serving.packing.pack import pack
from tests.kits.serving import second_reader
from tests.kits.serving.second_reader import Artifact, xxh64
from tests.kits.serving.serving_kit import make_rows, make_world


@pytest.mark.parametrize("seed", [0, 42, 2**64 - 1, -5])
def test_its_hash_is_xxh64(seed: int):
    rng = np.random.default_rng(seed & 0xFF)
    for length in range(100):
        data = rng.bytes(length)
        assert xxh64(data, seed) & (2**64 - 1) == xxhash.xxh64_intdigest(data, seed & (2**64 - 1))


@pytest.mark.parametrize("model", ["wide_deep", "lr", "deep"])
def test_its_ids_and_scores_are_those_of_serving_and_of_the_golden_rows(tmp_path: Path, model: str):
    world = make_world(tmp_path, model)
    path = str(tmp_path / "artifact")
    pack(world.candidate, world.state, world.holdout, path)
    artifact, served, rows = Artifact(path), serving.load(path), make_rows(200, seed=3)
    columns = Encoder(served.state.spec, served.state.encoder).encode(hash_rows(served.state, rows))
    for n, row in enumerate(rows):
        ids, dense = artifact.encode(row)
        for name, found in ids.items():
            column = columns[name]
            assert found == (column.take(np.array([n])).values.tolist() if isinstance(column, Ragged) else [column[n]])
        for name, x in dense.items():
            assert x == pytest.approx(float(np.asarray(columns[f"d_{name}"])[n]), rel=1e-6)
    np.testing.assert_allclose(artifact.scores(rows), served.score(rows), rtol=0, atol=1e-6)
    golden = np.load(f"{path}/golden/scores.npy")
    np.testing.assert_allclose(artifact.scores(world.rows[: len(golden)]), golden, rtol=0, atol=1e-6)


def test_it_knows_nothing_of_nightjar():
    tree = ast.parse(Path(second_reader.__file__).read_text(encoding="utf-8"))
    modules = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    modules |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert not {module.partition(".")[0] for module in modules} & {"nightjar", "tests", "xxhash"}
