"""Spark's native expressions and serving's NumPy give the same encoded rows, bit for bit, on adversarial values."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from benchmarks.encoder_twins import (
    DERIVED,
    DERIVED_DENSE,
    DERIVED_FIELDS,
    FLOATS,
    INT64,
    INTEGERS,
    STRINGS,
    build_twins,
    differences,
)
from benchmarks.encoder_twins import SCHEMA as TWINS_SCHEMA
from nightjar.features.contract.categorical import AdmitByBloom, Cross
from nightjar.features.contract.layout import dataset_columns
from nightjar.features.contract.manifests import StateManifest
from nightjar.features.contract.publishing import begin, commit, describe_files
from nightjar.features.contract.spec import FeatureSpec
from nightjar.features.dataset.write import encode
from nightjar.features.encoder.admission import CountingBloomFilter, Listed, free_bits
from nightjar.features.encoder.encoder import ColumnValues, Encoder, EncoderState, Vocabulary
from nightjar.features.encoder.hashing import conjoin
from nightjar.features.encoder.ragged import Ragged
from nightjar.features.encoder.rows import hash_rows
from nightjar.features.encoder.state import FittedState
from nightjar.features.input.folders import check_logs, read_logs
from nightjar.features.spark.rows import hashed

DAY = "2026-03-01"
LISTS: list[list[str | None] | None]
LISTS = [None, [], [None], [""], ["", ""], ["a", None, "a", "b"], ["b", "a"], ["Zoë", "日本", None, "🦉"], ["x"] * 50]

SCHEMA = pa.schema([field for field in TWINS_SCHEMA if field.name != "row"])
BLOOM = {"by": "bloom", "min_count": 2, "counters": 64, "hashes": 2}
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
            {"name": "spread", "column": "text", "oov_buckets": 3},
            {"name": "hashed", "column": "long", "kind": "hashed", "buckets": 5},
            {"name": "hashed_list", "column": "words", "kind": "hashed", "buckets": 4, "multi_valued": True},
            *DERIVED_FIELDS,
        ],
        "derive": DERIVED,
        "dense": [
            {"name": "x_quantile", "column": "x", "quantiles": 4, "missing_value": 0.5},
            {"name": "x_log", "column": "x", "transform": "log"},
            {"name": "x", "transform": "identity", "missing_indicator": False},
            {"name": "y", "transform": "identity"},
            {"name": "long", "transform": "log"},
            {"name": "flag", "transform": "identity"},
            DERIVED_DENSE[0],
            {"name": "scaled", "transform": "log"},
        ],
        "crosses": [
            {"name": "scalars", "fields": ["text", "long", "flag"], "buckets": 2**30},
            {"name": "reversed", "fields": ["flag", "long", "text"], "buckets": 2**30},
            {"name": "one_list", "fields": ["byte", "words", "text"], "buckets": 2**30},
            {"name": "two_lists", "fields": ["numbers", "words"], "buckets": 2**30},
            {"name": "narrow", "fields": ["words", "numbers", "flags"], "buckets": 2},
            {"name": "exact", "fields": ["text", "byte"], "vocabulary": "exact"},
            {"name": "exact_list", "fields": ["words", "flag"], "vocabulary": "exact"},
            {"name": "counted", "fields": ["long", "text"], "admission": {"by": "count", "min_count": 2}},
            {"name": "drawn", "fields": ["words", "long"], "admission": {"by": "poisson", "probability": 0.5}},
            {"name": "filtered", "fields": ["text", "flag"], "admission": BLOOM},
            {"name": "filtered_list", "fields": ["numbers", "text"], "admission": BLOOM},
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


@pytest.fixture
def new_york(spark: SparkSession) -> Iterator[None]:
    """The JVM and this process live in New York's time zone."""
    assert spark._jvm
    zones = spark._jvm.java.util.TimeZone
    before = zones.getDefault(), os.environ.get("TZ")
    zones.setDefault(zones.getTimeZone("America/New_York"))
    os.environ["TZ"] = "America/New_York"
    time.tzset()
    yield
    zones.setDefault(before[0])
    os.environ.pop("TZ")
    if before[1] is not None:
        os.environ["TZ"] = before[1]
    time.tzset()


def test_a_whole_build_on_a_day_of_23_hours_is_encoded_alike_by_the_artifact(
    spark: SparkSession, new_york: None, tmp_path: Path
) -> None:
    built, raw = build_twins(spark, tmp_path, rows=20_000, seed=1)
    assert {name: rows for name, rows in differences(built, raw).items() if rows} == {}


def publish_state(directory: str, state: EncoderState) -> None:
    begin(directory)
    tables = {f"vocabulary/{field.name}": state.vocabularies[field.name] for field in SPEC.fields if not field.buckets}
    tables |= {f"cross/{name}": fitted for name, fitted in state.crosses.items()}
    for path, fitted in tables.items():
        if isinstance(fitted, Vocabulary):
            table = {"hash": fitted.hashes, "id": fitted.ids}
        elif isinstance(fitted, Listed):
            table = {"hash": fitted.hashes}
        else:
            positions = np.flatnonzero(fitted.reached).astype(np.uint64)
            table = {"hash": (positions << np.uint64(free_bits(len(fitted.reached)))).view(np.int64)}
        Path(directory, path).mkdir(parents=True)
        pq.write_table(pa.table(table), Path(directory, path, "part-00000.parquet"))
    manifest = StateManifest(
        files=describe_files(directory),
        spec=SPEC,
        spec_fingerprint=SPEC.fingerprint,
        first_date=DAY,
        through_date=DAY,
        vocabulary_sizes=sizes_of(state.vocabularies),
        cross_sizes=sizes_of(state.crosses),
        boundaries={name: tuple(values) for name, values in state.boundaries.items()},
    )
    commit(directory, manifest)


def state_that_knows_half(table: pa.Table) -> EncoderState:
    """Every second distinct value or conjunction is admitted, with ids in an order that is not that of the hashes."""
    batch = hash_rows(FittedState(SPEC, EncoderState({}, {}), {}), table)

    def half(column: ColumnValues) -> np.ndarray:
        return np.unique(column.values if isinstance(column, Ragged) else column)[::2]

    def ids(column: ColumnValues, hash_ids: int, retired: int) -> Vocabulary:
        known = half(column)
        given = np.arange(len(known), dtype=np.int32)[::-1] + np.int32(1 + hash_ids + retired)
        return Vocabulary(known, given, hash_ids, retired)

    def fitted(cross: Cross) -> Vocabulary | Listed | CountingBloomFilter:
        conjunctions = conjoin([batch.hashes[name] for name in cross.fields])
        if cross.vocabulary == "exact":
            return ids(conjunctions, 1, 2)
        if not isinstance(cross.admission, AdmitByBloom):
            return Listed(half(conjunctions))
        return CountingBloomFilter(np.arange(cross.admission.counters) % 3 > 0, cross.admission.hashes)

    return EncoderState(
        vocabularies={
            field.name: ids(batch.hashes[field.name], field.hash_ids, 3)
            if field.kind == "vocabulary"
            else Vocabulary(np.zeros(0, np.int64), np.zeros(0, np.int32), field.hash_ids)
            for field in SPEC.fields
        },
        boundaries={"x_quantile": np.array([-1.0, 0.0, 1.0])},
        crosses={cross.name: fitted(cross) for cross in SPEC.crosses if cross.is_fitted},
    )


def sizes_of(fitted: Mapping[str, object]) -> dict[str, int]:
    return {name: vocabulary.size for name, vocabulary in fitted.items() if isinstance(vocabulary, Vocabulary)}


def arrow_of(column: ColumnValues) -> pa.Array:
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
    columns = dataset_columns(SPEC, sizes_of(state.vocabularies), sizes_of(state.crosses))
    of_spark = encode(hashed(raw, SPEC).coalesce(1), directory, columns).toArrow()
    of_serving = Encoder(SPEC, state).encode(hash_rows(FittedState(SPEC, state, {}), table))
    assert of_spark["label"].to_pylist() == table["label"].to_pylist()
    assert of_spark.column_names[1:] == list(of_serving)
    sizes = {column.name: column.size for column in columns}
    for name, column in of_serving.items():
        held = column.values if isinstance(column, Ragged) else column
        assert name.startswith("d_") or not len(held) or 0 <= held.min() <= held.max() < sizes[name], name
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
