"""Serving against a float64 scorer that shares no code with it."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from nightjar import serving
from nightjar.features.contract.errors import DataError
from nightjar.features.contract.layout import BIAS, TableLayout, table_layout
from nightjar.features.encoder.rows import Rows
from nightjar.jobs import promote_model
from nightjar.serving import InContext, tables
from nightjar.serving.packing.pack import pack
from nightjar.serving.tables import WideTable, pool
from tests.kits.serving.serving_kit import World, encode, make_rows, make_world

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def artifact(world: World, tmp_path_factory: pytest.TempPathFactory) -> str:
    output = str(tmp_path_factory.mktemp("models") / "artifact")
    pack(world.candidate, world.state, world.holdout, output)
    return output


@pytest.mark.parametrize("model", ["wide_deep", "lr", "deep"])
def test_scores_equal_an_independent_float64_scorer(tmp_path: Path, model: str):
    world = make_world(tmp_path, model)
    pack(world.candidate, world.state, world.holdout, str(tmp_path / "artifact"))
    rows = make_rows(300, seed=99)
    scores = serving.load(str(tmp_path / "artifact")).score(rows)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, world.model.score(rows), rtol=0, atol=2e-6)


def test_every_kind_of_rows_gives_the_same_scores(world: World, artifact: str):
    model, rows = serving.load(artifact), make_rows(200, seed=5)
    scores = model.score(rows)
    table = pa.Table.from_pylist(rows)
    chunked = pa.concat_tables([table.slice(0, 70), table.slice(70)])
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    frame = pd.DataFrame(columns, dtype=object)
    for form in (table, chunked, columns, frame):
        np.testing.assert_array_equal(model.score(form), scores)
    np.testing.assert_array_equal(model.score_encoded(encode(world.state, rows)), scores)


CONTEXT = ("user", "seen", "words", "age", "pair_impressions_so_far", "pair_positives_so_far")


@pytest.mark.parametrize("common", [CONTEXT, CONTEXT[:1], ("item_id", "tags"), tuple(make_rows(1, seed=1)[0])])
def test_candidates_in_their_context_have_the_scores_of_rows_that_repeat_it(artifact: str, common: tuple[str, ...]):
    """Also of lists and numbers in common, of crosses within and over the context, and of batches of 7 rows."""
    model = serving.load(artifact)
    for seed in range(20):
        first, *rows = make_rows(21, seed)
        context = {name: first[name] for name in common}
        candidates = [{name: value for name, value in row.items() if name not in common} for row in rows]
        repeated = [{**row, **context} for row in rows]
        np.testing.assert_array_equal(model.score(InContext(context, candidates)), model.score(repeated))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("nightjar.serving.model.BATCH_ROWS", 7)
            found = model.score(InContext(context, candidates))
        np.testing.assert_allclose(found, model.score(repeated), rtol=0, atol=1e-7)


def test_a_key_absent_from_some_dicts_is_missing_there(artifact: str):
    model, rows = serving.load(artifact), make_rows(50, seed=6)
    sparse = [{name: value for name, value in row.items() if value is not None} for row in rows]
    np.testing.assert_array_equal(model.score(sparse), model.score(rows))


def test_absent_keys_are_missing_values_and_absent_columns_one_clear_error(artifact: str):
    model, rows = serving.load(artifact), make_rows(5, seed=6)
    for row in rows:
        del row["age"], row["tags"]
    null = [{**row, "age": None, "tags": None} for row in rows]
    np.testing.assert_array_equal(model.score(rows), model.score(null))
    for form in (pa.Table.from_pylist(rows), pd.DataFrame(rows)):
        with pytest.raises(DataError, match=r"lack the columns \['age', 'tags'\], which features read"):
            model.score(form)


def test_columns_of_different_lengths_and_mixed_types_are_clear_errors(artifact: str):
    model, rows = serving.load(artifact), make_rows(4, seed=6)
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    with pytest.raises(DataError, match="differ in length"):
        model.score(columns | {"age": [1.0]})
    with pytest.raises(DataError, match="'user' mixes types"):
        model.score(columns | {"user": ["a", 1, "b", 2]})


def test_counts_so_far_are_required_in_every_row(artifact: str):
    model, rows = serving.load(artifact), make_rows(100, seed=7)
    without = [{name: v for name, v in row.items() if not name.endswith("so_far")} for row in rows]
    with pytest.raises(DataError, match=r"lack the columns \['pair_impressions_so_far', 'pair_positives_so_far'\]"):
        model.score(without)
    rows[3]["pair_positives_so_far"] = None
    with pytest.raises(DataError, match="'pair_positives_so_far', a count of the day so far, is missing in 1 rows"):
        model.score(rows)


def test_a_model_says_what_a_request_brings(artifact: str):
    found = {column.name: (column.type, column.required) for column in serving.load(artifact).inputs}
    numbers = dict.fromkeys(("age", "price", "depth"), ("number", True))
    lists = dict.fromkeys(("seen", "tags", "words"), ("list of categories", True))
    counts = dict.fromkeys(("pair_impressions_so_far", "pair_positives_so_far"), ("count", True))
    assert found == dict.fromkeys(("user", "item_id", "premium"), ("category", True)) | lists | numbers | counts


def test_the_inputs_of_a_published_version_are_printed(artifact: str, capsys: pytest.CaptureFixture[str]):
    models, _, version = artifact.rpartition("/")
    assert promote_model.main(["inputs", version, "--models", models]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 11
    assert lines[1] == "* item_id                  category            field item"
    assert promote_model.main(["inputs", "nothing", "--models", models]) == 2


def test_a_model_is_printed_in_a_line(artifact: str):
    model = serving.load(artifact)
    assert repr(model).startswith(f"<{model.manifest.model} of ")
    assert f"counters as of {model.counters_as_of}>" in str(model)
    assert len(str(model)) < 200


def test_no_rows_give_no_scores(artifact: str):
    model = serving.load(artifact)
    empty: list[Rows] = [[], pd.DataFrame(), pa.Table.from_pylist(make_rows(3, seed=1)).slice(0, 0)]
    for nothing in empty:
        scores = model.score(nothing)
        assert scores.shape == (0,)
        assert scores.dtype == np.float32


def test_rank_orders_by_score_and_keeps_ties(artifact: str):
    model, rows = serving.load(artifact), make_rows(30, seed=8)
    scores = model.score(rows + rows)
    expected = sorted(range(60), key=lambda n: (-scores[n], n))
    assert list(model.rank(rows + rows)) == expected
    assert list(model.rank(rows + rows, k=7)) == expected[:7]


def test_batches_and_threads_change_nothing(artifact: str, monkeypatch: pytest.MonkeyPatch):
    model, rows = serving.load(artifact, threads=2), make_rows(101, seed=9)
    scores = model.score(rows)
    with ThreadPoolExecutor(8) as pool:
        for other in pool.map(model.score, [rows] * 32):
            np.testing.assert_array_equal(other, scores)
    monkeypatch.setattr("nightjar.serving.model.BATCH_ROWS", 7)
    np.testing.assert_allclose(model.score(rows), scores, rtol=0, atol=1e-7)


def test_encoded_rows_without_a_column_are_a_clear_error(world: World, artifact: str):
    columns = encode(world.state, make_rows(3, seed=1))
    del columns["x_user_item"]
    with pytest.raises(DataError, match=r"lack the columns \['x_user_item'\]"):
        serving.load(artifact).score_encoded(columns)


def test_a_damaged_or_missing_file_is_named(world: World, tmp_path: Path):
    output = str(tmp_path / "artifact")
    pack(world.candidate, world.state, world.holdout, output)
    damaged = tmp_path / "artifact/scoring/embedding_4.npy"
    content = bytearray(damaged.read_bytes())
    content[-1] ^= 1
    damaged.write_bytes(content)
    with pytest.raises(DataError, match=r"damaged: \['scoring/embedding_4.npy'\]"):
        serving.load(output)
    damaged.unlink()
    with pytest.raises(DataError, match=r"lacks \['scoring/embedding_4.npy'\]"):
        serving.load(output)


def test_what_is_not_an_artifact_is_said_so(world: World, tmp_path: Path):
    with pytest.raises(DataError, match="not a published directory"):
        serving.load(str(tmp_path))
    with pytest.raises(DataError, match="kind"):
        serving.load(world.candidate)


def test_serving_works_where_spark_horovod_and_torch_are_not_installed(artifact: str):
    program = f"""
import sys
absent = {{"torch", "pyspark", "horovod", "petastorm", "sklearn", "matplotlib", "jinja2"}}
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in absent:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
import pyarrow.parquet as pq
from nightjar import serving
print(*serving.load({artifact!r}).score(pq.read_table({artifact + "/golden/raw.parquet"!r})))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    golden = np.load(f"{artifact}/golden/scores.npy")
    np.testing.assert_allclose(np.array(done.stdout.split(), dtype=float), golden, rtol=0, atol=1e-5)


def test_a_large_wide_table_is_looked_up_by_search(world: World, monkeypatch: pytest.MonkeyPatch):
    layout = table_layout(world.columns)
    ids = np.array(sorted(world.model.wide), dtype=np.int64)
    weights = np.array([world.model.wide[i] for i in ids], dtype=np.float32)
    coordinates = np.arange(layout.wide_rows)
    small = WideTable(layout, ids, weights)
    monkeypatch.setattr(tables, "DENSE_VECTOR_ROWS", 0)
    large = WideTable(layout, ids, weights)
    np.testing.assert_array_equal(large.lookup(coordinates), small.lookup(coordinates))
    assert large.lookup(np.array([BIAS]))[0] == np.float32(world.model.wide[BIAS])


@pytest.mark.parametrize("ids", [[3, 1], [1, 1], [-1, 2], [0, 10**9]])
def test_wide_ids_must_ascend_within_the_table(world: World, ids: list[int]):
    layout: TableLayout = table_layout(world.columns)
    with pytest.raises(DataError, match="must ascend within"):
        WideTable(layout, np.array(ids), np.zeros(2, dtype=np.float32))


@pytest.mark.parametrize("pooling", ["sum", "mean", "sqrtn"])
def test_pooling_equals_a_loop_over_the_lists(pooling: str):
    rng = np.random.default_rng(3)
    lengths = np.array([0, 3, 0, 0, 1, 7, 0])
    vectors = rng.normal(size=(lengths.sum(), 5)).astype(np.float32)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    power = {"sum": 0.0, "mean": 1.0, "sqrtn": 0.5}[pooling]
    expected = [vectors[a:b].astype(np.float64).sum(axis=0) / max(b - a, 1) ** power for a, b in pairwise(offsets)]
    np.testing.assert_allclose(pool(vectors, offsets, pooling), expected, rtol=1e-6, atol=1e-7)  # type: ignore[arg-type]


def test_the_manifest_is_what_the_model_was_made_from(world: World, artifact: str):
    model = serving.load(artifact)
    assert model.manifest.columns == world.columns
