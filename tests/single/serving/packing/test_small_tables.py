"""Tables in 16 or 8 bits: what they hold, that every reader scores with it, and that nothing else changes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from nightjar import serving
from nightjar.features.contract.errors import DataError
from nightjar.features.contract.layout import table_layout
from nightjar.features.contract.manifests import ArtifactManifest
from nightjar.features.contract.publishing import commit, describe_files, read_manifest
from nightjar.serving.packing import dry_run
from nightjar.serving.packing.config import ArtifactConfig
from nightjar.serving.packing.pack import pack
from nightjar.serving.packing.small_tables import to_bfloat16, to_float16, to_int8
from nightjar.serving.tables import WideTable
from tests.kits.serving.second_reader import Artifact
from tests.kits.serving.serving_kit import World, make_candidate, make_rows, make_world
from tests.kits.serving.serving_oracle import Oracle

CONFIGS = [
    ArtifactConfig(embeddings="int8", wide="bfloat16"),
    ArtifactConfig(embeddings="float16", wide="float16"),
    ArtifactConfig(embeddings="int8"),
    ArtifactConfig(wide="bfloat16"),
]
INT8 = ArtifactConfig(embeddings="int8")


def pack_it(world: World, directory: Path, config: ArtifactConfig) -> str:
    pack(world.candidate, world.state, world.holdout, str(directory), config=config)
    return str(directory)


def rounded(world: World, config: ArtifactConfig) -> World:
    """The world whose model has the weights that such tables hold, by other means than the code under test."""
    oracle, kinds = world.model, {"float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}
    wide = {
        n: weight if n == 0 else float(np.float32(weight).astype(kinds[config.wide]))
        for n, weight in oracle.wide.items()
    }
    tables = {}
    for width, table in oracle.embeddings.items():
        if config.embeddings == "int8":
            # Of whole numbers the nearest, at steps of a 127th of the row's largest.
            step = np.abs(table).max(axis=1, keepdims=True) / 127
            tables[width] = np.where(step > 0, np.round(table / np.where(step > 0, step, 1)) * step, 0.0)
        else:
            tables[width] = table.astype(kinds[config.embeddings]).astype(np.float64)
    return replace(world, model=replace(oracle, wide=wide, embeddings=tables))


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_every_reader_scores_with_what_the_tables_hold(tmp_path: Path, config: ArtifactConfig) -> None:
    world = make_world(tmp_path)
    artifact, rows = pack_it(world, tmp_path / "artifact", config), make_rows(200, seed=3)
    model, expected = serving.load(artifact), rounded(world, config).model
    served = model.score(rows)
    np.testing.assert_allclose(served, expected.score(rows), rtol=0, atol=3e-6)
    assert np.abs(served - world.model.score(rows)).max() > 1e-5, "the trainer's tables are another model"
    np.testing.assert_allclose(Artifact(artifact).scores(rows), served, rtol=0, atol=1e-6)
    for row in rows[:20]:
        found = model.explain(row)
        assert found.base + sum(c.logit for c in found.contributions) == pytest.approx(found.logit, abs=1e-5)
        assert found.logit == pytest.approx(expected.logit(row), abs=2e-5)


def test_golden_scores_are_those_of_the_packed_model(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    artifact = pack_it(world, tmp_path / "artifact", INT8)
    golden, trained = np.load(f"{artifact}/golden/scores.npy"), world.model.score(world.rows[:16])
    np.testing.assert_allclose(golden, rounded(world, INT8).model.score(world.rows[:16]), rtol=0, atol=3e-6)
    assert np.abs(golden - trained).max() > 1e-4
    found = dry_run.check(artifact)
    assert found.measured is not None
    assert found.measured.largest_difference == 0.0


def test_tables_stay_mapped_and_small(tmp_path: Path) -> None:
    model = serving.load(pack_it(make_world(tmp_path), tmp_path / "artifact", CONFIGS[0]))
    for table in model.embeddings:
        assert table.weights.dtype == np.int8
        assert isinstance(table.weights.base, np.memmap)
        assert table.scales is not None
        assert isinstance(table.scales.base, np.memmap)
    assert model.wide is not None
    assert all(a.dtype in (np.uint16, np.int64) for a in vars(model.wide).values() if getattr(a, "size", 1) > 1)


def test_wide_weights_are_the_same_as_a_vector_and_by_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    artifact, rows = pack_it(make_world(tmp_path), tmp_path / "artifact", CONFIGS[0]), make_rows(100, seed=4)
    scores = serving.load(artifact).score(rows)
    monkeypatch.setattr("nightjar.serving.tables.DENSE_VECTOR_ROWS", 1)
    np.testing.assert_array_equal(serving.load(artifact).score(rows), scores)


def test_an_artifact_says_by_its_format_whether_it_takes_a_later_reader(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    plain = read_manifest(pack_it(world, tmp_path / "plain", ArtifactConfig()), ArtifactManifest)
    small = read_manifest(pack_it(world, tmp_path / "small", INT8), ArtifactManifest)
    assert (plain.format, small.format) == (2, 3)
    assert set(plain.inputs) == {"candidate", "state", "holdout"}
    assert "artifact" not in json.loads((tmp_path / "plain/manifest.json").read_text())["lineage"]
    assert small.lineage.artifact == {"embeddings": "int8"}


def test_packed_otherwise_it_is_another_artifact(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    pack_it(world, tmp_path / "artifact", INT8)
    pack_it(world, tmp_path / "artifact", INT8)
    with pytest.raises(DataError, match="published already"):
        pack_it(world, tmp_path / "artifact", ArtifactConfig(embeddings="float16"))


def test_tables_that_do_not_give_the_trainers_scores_are_not_packed(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    wrong = world.model.score(world.rows[:16]) + np.eye(1, 16, 3)[0] * 1e-4
    world = replace(world, candidate=make_candidate(tmp_path / "wrong", world.state, world.model, wrong))
    with pytest.raises(DataError, match=r"is not packed: with its own tables, 1 of 16 golden scores .* row 3"):
        pack_it(world, tmp_path / "artifact", INT8)


@pytest.mark.parametrize(
    ("path", "change", "message"),
    [
        ("embedding_4_scales.npy", lambda a: a[:-1], r"embedding_4\.npy holds int8, with scales of"),
        ("embedding_4.npy", lambda a: a.astype(np.int16), r"embedding_4\.npy holds int16"),
        ("wide_bias.npy", lambda a: np.append(a, a), "the wide table has a bias of float32"),
        ("wide_weights.npy", lambda a: a.astype(np.int16), "weights of int16"),
    ],
)
def test_tables_that_cannot_be_read_are_refused(tmp_path: Path, path: str, change, message: str) -> None:
    artifact = pack_it(make_world(tmp_path), tmp_path / "artifact", CONFIGS[0])
    file = Path(artifact) / "scoring" / path
    np.save(file, change(np.load(file)))
    manifest = read_manifest(artifact, ArtifactManifest)
    commit(artifact, manifest.model_copy(update={"files": describe_files(artifact)}))
    with pytest.raises(DataError, match=message):
        serving.load(artifact)


def test_8_bits_are_the_nearest_multiples_of_a_rows_scale() -> None:
    rng = np.random.default_rng(5)
    rows = (rng.normal(size=(500, 8)) * 10.0 ** rng.uniform(-30, 30, (500, 1))).astype(np.float32)
    rows[:3] = np.array([[0.0], [1e-44], [3e38]])
    multiples, scales = to_int8(rows)
    assert multiples.dtype == np.int8
    assert multiples.min() >= -127
    held = multiples.astype(np.float32) * scales[:, None]
    normal = rows[np.abs(rows).max(axis=1) > 1e-30]
    error = np.abs(held - rows)[np.abs(rows).max(axis=1) > 1e-30] / np.abs(normal).max(axis=1, keepdims=True)
    assert error.max() <= 0.5 / 127 * (1 + 1e-5)
    assert not held[0].any()
    assert np.isfinite(held).all()
    assert np.abs(multiples).max(axis=1)[3:].min() == 127


def test_16_bits_are_the_nearest_and_what_is_beyond_them_is_refused() -> None:
    rng = np.random.default_rng(6)
    bits = rng.integers(0, 0x7F000000, 10_000, dtype=np.uint32)
    bits[:4] = (0x3F808000, 0x3F818000, 0x3F80FFFF, 0)  # two ties, one that carries, zero
    values = bits.view(np.float32) * rng.choice([-1, 1], len(bits)).astype(np.float32)
    np.testing.assert_array_equal(to_bfloat16(values, "w"), values.astype(ml_dtypes.bfloat16).view(np.uint16))
    for convert in (to_float16, to_bfloat16):
        with pytest.raises(DataError, match=r"the weights holds a weight of 3.4e\+38, beyond the range of"):
            convert(np.array([1.0, -3.4e38], np.float32), "the weights")


def test_a_wide_table_lists_its_bias_once() -> None:
    layout = table_layout(Oracle.draw("lr", 1).columns)
    with pytest.raises(DataError, match="or more than one"):
        WideTable(layout, np.array([0]), np.ones(1, np.float16), np.ones(1, np.float32))
