"""Spark's native expressions and serving's NumPy give the same encoded rows, bit for bit, on adversarial values."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from features.dataset import encode
from features.encoder import FIRST_ID, Column, Encoder, EncoderState, Vocabulary
from features.layout import dataset_columns
from features.logs import check_logs, read_logs
from features.manifest import StateManifest, begin, commit, describe_files
from features.ragged import Ragged
from features.rows import hash_rows
from features.spark_rows import hashed
from features.spec import FeatureSpec
from features.state import FittedState

DAY = "2026-03-01"
INT64 = (-(2**63), 2**63 - 1)
STRINGS = [None, "", " ", "a", "A", "null", "true", "42", "-1", "\0", "a\0b", "Zoë", "Zoe\u0308", "日本", "🦉" * 40]
INTEGERS = [None, 0, 1, -1, 42, *INT64]
LISTS: list[list[str | None] | None]
LISTS = [None, [], [None], [""], ["", ""], ["a", None, "a", "b"], ["b", "a"], ["Zoë", "日本", None, "🦉"], ["x"] * 50]
FLOATS = [None, math.nan, 0.0, -0.0, 1.0, math.pi, -2.5, math.inf, -math.inf, 5e-324, 1.7976931348623157e308, 1e39]

SCHEMA = pa.schema(
    {
        "label": pa.bool_(),
        "at": pa.timestamp("us"),
        "text": pa.string(),
        "long": pa.int64(),
        "byte": pa.int8(),
        "flag": pa.bool_(),
        "words": pa.list_(pa.string()),
        "numbers": pa.list_(pa.int64()),
        "flags": pa.list_(pa.bool_()),
        "x": pa.float64(),
        "y": pa.float32(),
    }
)
SPEC = FeatureSpec.model_validate(
    {
        "name": "twins",
        "label": "label",
        "timestamp": "at",
        "fields": [
            {"name": "text"},
            {"name": "long"},
            {"name": "byte"},
            {"name": "flag"},
            {"name": "words", "multi_valued": True},
            {"name": "numbers", "multi_valued": True},
            {"name": "flags", "multi_valued": True},
        ],
        "dense": [
            {"name": "x_quantile", "column": "x", "quantiles": 4, "missing_value": 0.5},
            {"name": "x_log", "column": "x", "transform": "log"},
            {"name": "x", "transform": "identity", "missing_indicator": False},
            {"name": "y", "transform": "identity"},
            {"name": "long", "transform": "log"},
            {"name": "flag", "transform": "identity"},
        ],
        "crosses": [
            {"name": "scalars", "fields": ["text", "long", "flag"], "buckets": 2**30},
            {"name": "reversed", "fields": ["flag", "long", "text"], "buckets": 2**30},
            {"name": "one_list", "fields": ["byte", "words", "text"], "buckets": 2**30},
            {"name": "two_lists", "fields": ["numbers", "words"], "buckets": 2**30},
            {"name": "narrow", "fields": ["words", "numbers", "flags"], "buckets": 2},
        ],
    }
)

longs = st.none() | st.sampled_from(INTEGERS) | st.integers(*INT64)
words = st.none() | st.sampled_from(STRINGS) | st.text(max_size=40)
row = st.fixed_dictionaries(
    {
        "label": st.booleans(),
        "at": st.just(datetime(2026, 3, 1, tzinfo=UTC).replace(tzinfo=None)),
        "text": words,
        "long": longs,
        "byte": st.none() | st.integers(-128, 127),
        "flag": st.none() | st.booleans(),
        "words": st.none() | st.lists(words, max_size=6),
        "numbers": st.none() | st.lists(longs, max_size=4),
        "flags": st.none() | st.lists(st.none() | st.booleans(), max_size=4),
        "x": st.none() | st.floats(),
        "y": st.none() | st.floats(width=32),
    }
)


def publish_state(directory: str, state: EncoderState) -> None:
    begin(directory)
    for name, vocabulary in state.vocabularies.items():
        folder = Path(directory, "vocabulary", name)
        folder.mkdir(parents=True)
        pq.write_table(pa.table({"hash": vocabulary.hashes, "id": vocabulary.ids}), folder / "part-00000.parquet")
    manifest = StateManifest(
        files=describe_files(directory),
        spec=SPEC,
        spec_fingerprint=SPEC.fingerprint,
        first_date=DAY,
        through_date=DAY,
        vocabulary_sizes={name: vocabulary.size for name, vocabulary in state.vocabularies.items()},
        boundaries={name: tuple(values) for name, values in state.boundaries.items()},
    )
    commit(directory, manifest)


def state_that_knows_half(table: pa.Table) -> EncoderState:
    """Every second distinct value has an id, in an order that is not that of the hashes."""
    boundaries = {"x_quantile": np.array([-1.0, 0.0, 1.0])}
    empty = EncoderState(
        {f.name: Vocabulary(np.zeros(0, np.int64), np.zeros(0, np.int32)) for f in SPEC.fields}, boundaries
    )
    batch = hash_rows(FittedState(SPEC, empty, {}), table)
    vocabularies = {}
    for name, column in batch.hashes.items():
        known = np.unique(column.values if isinstance(column, Ragged) else column)[::2]
        ids = np.arange(len(known), dtype=np.int32)[::-1] + FIRST_ID
        vocabularies[name] = Vocabulary(known, ids.astype(np.int32))
    return EncoderState(vocabularies, boundaries)


def arrow_of(column: Column) -> pa.Array:
    if isinstance(column, Ragged):
        return pa.ListArray.from_arrays(pa.array(column.offsets, pa.int32()), column.values)
    return pa.array(column)


def assert_twins(spark: SparkSession, table: pa.Table, folder: Path) -> None:
    log = folder / "logs" / f"date={DAY}"
    log.mkdir(parents=True)
    pq.write_table(table, log / "part-0.parquet")
    state = state_that_knows_half(table)
    directory = str(folder / "state")
    publish_state(directory, state)
    (raw,) = read_logs(spark, check_logs(str(folder / "logs"), [DAY], SPEC))
    columns = dataset_columns(SPEC, {name: v.size for name, v in state.vocabularies.items()})
    of_spark = encode(hashed(raw, SPEC).coalesce(1), directory, columns).toArrow()
    of_serving = Encoder(SPEC, state).encode(hash_rows(FittedState(SPEC, state, {}), table))
    assert of_spark["label"].to_pylist() == table["label"].to_pylist()
    assert of_spark.column_names[1:] == list(of_serving)
    for name, column in of_serving.items():
        left, right = of_spark[name].combine_chunks(), arrow_of(column)
        if isinstance(column, Ragged):
            assert left.to_pylist() == right.to_pylist(), name
        else:
            # Bytes, so that -0.0 differs from 0.0.
            assert left.to_numpy().tobytes() == right.to_numpy().tobytes(), name


def test_every_awkward_value_is_encoded_alike(spark: SparkSession, tmp_path: Path) -> None:
    count = 4 * max(len(values) for values in (STRINGS, INTEGERS, LISTS, FLOATS))

    def cycle(values: list[Any], stride: int) -> list[Any]:
        return [values[(i * stride + i // len(values)) % len(values)] for i in range(count)]

    numbers = [None if v is None else [None if w is None else len(w) - 1 for w in v] for v in LISTS]
    columns = {
        "label": cycle([True, False], 1),
        "at": [datetime(2026, 3, 1)] * count,
        "text": cycle(STRINGS, 1),
        "long": cycle(INTEGERS, 1),
        "byte": cycle([None, -128, 127, 0], 3),
        "flag": cycle([None, True, False], 2),
        "words": cycle(LISTS, 1),
        "numbers": cycle(numbers, 2),
        "flags": cycle([None, [], [None], [True, True], [False, None, True]], 2),
        "x": cycle(FLOATS, 1),
        "y": [
            None if v is None else np.float32(v if math.isinf(v) else np.clip(v, -3e38, 3e38)) for v in cycle(FLOATS, 5)
        ],
    }
    assert_twins(spark, pa.table(columns, schema=SCHEMA), tmp_path)


@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
@given(rows=st.lists(row, min_size=1, max_size=60))
def test_random_rows_are_encoded_alike(spark: SparkSession, tmp_path_factory: Any, rows: list[dict[str, Any]]) -> None:
    assert_twins(spark, pa.Table.from_pylist(rows, schema=SCHEMA), tmp_path_factory.mktemp("twins"))
