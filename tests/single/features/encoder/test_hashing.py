"""The hash is Spark's xxhash64, on every value that a log can hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from nightjar.features.encoder.hashing import (
    MISSING,
    canonical,
    combine,
    find,
    hash_bytes,
    hash_long,
    hash_strings,
)

INT64 = (-(2**63), 2**63 - 1)
EXTREMES = [0, 1, -1, 42, *INT64, 2**32, -(2**31)]
STRINGS = ["", "a", "\0", "Zoë", "日本", "🦉", " ", "a" * 31, "a" * 32, "a" * 33, "é" * 1000, None]

slow = settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))


def spark_hashes(spark: SparkSession, *columns: pa.Array) -> np.ndarray:
    names = [f"c{i}" for i in range(len(columns))]
    table = pa.table(list(columns), names=names)
    return spark.createDataFrame(table).select(F.xxhash64(*names).alias("h")).toArrow()["h"].to_numpy()


@slow
@given(values=st.lists(st.none() | st.text(max_size=100), min_size=1, max_size=300))
def test_strings_hash_as_in_spark(spark: SparkSession, values: list[str | None]) -> None:
    values += STRINGS
    expected = spark_hashes(spark, pa.array(values, pa.string()))
    np.testing.assert_array_equal(hash_strings(values), expected)
    present = [value is not None for value in values]
    np.testing.assert_array_equal(
        hash_bytes([value.encode() for value in values if value is not None]), expected[present]
    )


@slow
@given(pairs=st.lists(st.tuples(st.integers(*INT64), st.integers(*INT64)), min_size=1, max_size=300))
def test_tuples_of_hashes_combine_as_in_spark(spark: SparkSession, pairs: list[tuple[int, int]]) -> None:
    pairs += [(a, b) for a in EXTREMES for b in EXTREMES]
    left, right = (np.array(side, dtype=np.int64) for side in zip(*pairs, strict=True))
    np.testing.assert_array_equal(hash_long(left), spark_hashes(spark, pa.array(left)))
    expected = spark_hashes(spark, pa.array(left), pa.array(right), pa.array(left))
    np.testing.assert_array_equal(combine([left, right, left]), expected)


@pytest.mark.parametrize(
    "array",
    [
        pa.array([True, False, None]),
        pa.array([*EXTREMES, None], pa.int64()),
        pa.array([-128, 127, None], pa.int8()),
        pa.array([-(2**31), 2**31 - 1], pa.int32()),
    ],
    ids=lambda array: str(array.type),
)
def test_the_canonical_string_is_what_sparks_cast_gives(spark: SparkSession, array: pa.Array) -> None:
    table = spark.createDataFrame(pa.table({"v": array}))
    casts = table.select(F.col("v").cast("string").alias("s")).toArrow()["s"].to_pylist()
    assert [canonical(value) for value in array.to_pylist()] == casts


def test_numpy_scalars_are_canonical_too() -> None:
    assert [canonical(v) for v in (np.int64(-5), np.bool_(True), "x", None)] == ["-5", "true", "x", None]


@pytest.mark.parametrize("value", [1.5, b"a", ["a"], float("nan")])
def test_a_value_of_another_type_is_an_error(value: Any) -> None:
    with pytest.raises(TypeError, match="must be a string, an integer, a boolean or missing; got"):
        canonical(value)


def test_missing_has_a_hash_of_its_own_and_order_matters() -> None:
    assert hash_strings([None])[0] == MISSING
    a, b = hash_strings(["a"]), hash_strings(["b"])
    missing = np.array([MISSING])
    assert len({int(combine(pair)[0]) for pair in ([a, b], [b, a], [a, missing], [missing, a], [a], [a, a])}) == 6


def test_the_hash_stays_the_same_for_ever() -> None:
    # XXH64 with seed 42: `xxhsum`-compatible values, computed with the reference library's own streaming interface.
    import xxhash

    stream = xxhash.xxh64(seed=42)
    stream.update(b"Zo")
    stream.update("ë".encode())
    assert hash_strings(["Zoë"]).view(np.uint64)[0] == stream.intdigest()
    assert hash_long(np.array([7])).view(np.uint64)[0] == xxhash.xxh64((7).to_bytes(8, "little"), 42).intdigest()


@pytest.mark.parametrize("size", [0, 1, 100, 10_000])
def test_find_gives_the_place_of_what_is_there_and_says_what_is_not(size: int) -> None:
    rng = np.random.default_rng(size)
    known = np.unique([*rng.integers(*INT64, size), *INT64[:size]]).astype(np.int64)
    wanted = np.concatenate([known, rng.integers(*INT64, 500), known[:300], INT64])
    rng.shuffle(wanted)
    places = {value: place for place, value in enumerate(known.tolist())}
    position, found = find(known, wanted)
    assert found.tolist() == [value in places for value in wanted.tolist()]
    assert position[found].tolist() == [places[value] for value in wanted.tolist() if value in places]
