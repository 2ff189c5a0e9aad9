"""A delimited list is the same values to Spark's native expressions and to serving, bit for bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from nightjar.features.contract.errors import DataError
from nightjar.features.contract.spec import FeatureSpec
from nightjar.features.encoder.encoder import EncoderState
from nightjar.features.encoder.hashing import hash_strings
from nightjar.features.encoder.ragged import Ragged
from nightjar.features.encoder.rows import hash_rows
from nightjar.features.encoder.state import FittedState
from nightjar.features.spark.rows import hash_field
from nightjar.features.spark.tables import read_parquet

SEPARATORS = ["|", "::", ".", ", ", "\\E", "\\Q", "[a", "$", "é", "🦉", "\t", "a", " "]
PIECES = [
    "",
    "a",
    "b",
    "|",
    ":",
    "::",
    ".",
    ",",
    " ",
    "\\",
    "\\E",
    "Q",
    "E",
    "[",
    "$",
    "é",
    "e\u0301",
    "🦉",
    "\ud7ff",
    "\0",
    "\t",
]
INVALID = [b"a|\xff|b", b"\xed\xa0\x80|a", b"\xc0\x80|a", b"a|b\xf0\x9f\xa6", b"\xf4\x90\x80\x80", b"\xfe|"]
SPEC = FeatureSpec.model_validate(
    {
        "name": "split",
        "label": "label",
        "timestamp": "at",
        "fields": [
            {"name": f"f{n}", "column": "text", "multi_valued": True, "split": separator}
            for n, separator in enumerate(SEPARATORS)
        ],
    }
)


def lists_of(column: object) -> list[list[int]]:
    assert isinstance(column, Ragged)
    return [column.values[a:b].tolist() for a, b in zip(column.offsets, column.offsets[1:], strict=False)]


def test_spark_and_serving_split_alike(spark: SparkSession, tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    texts = ["".join(rng.choice(PIECES, rng.integers(0, 9))).encode() for _ in range(400)]
    values = [None, b"", b"Action|Comedy", b"|a||b|", *texts, *INVALID]
    column = pa.array(values, pa.binary()).view(pa.string())
    table = pa.table({"row": pa.array(range(len(values)), pa.int32()), "text": column})
    pq.write_table(table, tmp_path / "0.parquet")
    hashes = [hash_field(field).alias(field.name) for field in SPEC.fields]
    rows = read_parquet(spark, [str(tmp_path)]).select(F.col("row"), *hashes).orderBy("row").collect()
    served = hash_rows(FittedState(SPEC, EncoderState({}, {}), {}), table.select(["text"])).hashes
    for field in SPEC.fields:
        assert [row[field.name] for row in rows] == lists_of(served[field.name]), field.split
    # What is meant, by hand.
    first = lists_of(served["f0"])
    genres, two = hash_strings([b"Action", b"Comedy"]).tolist(), hash_strings([b"a", b"b"]).tolist()
    assert first[:4] == [[], [], genres, two]
    assert first[-len(INVALID) :] == [[]] * len(INVALID)


def test_a_request_brings_the_string_that_the_log_holds() -> None:
    state = FittedState(SPEC, EncoderState({}, {}), {})
    assert lists_of(hash_rows(state, {"text": "a|b"}).hashes["f0"]) == [hash_strings([b"a", b"b"]).tolist()]
    assert lists_of(hash_rows(state, [{"text": None}, {}]).hashes["f0"]) == [[], []]
    with pytest.raises(
        DataError, match=r"column 'text' has the type list<.*>; a field with split is a string with '\|'"
    ):
        hash_rows(state, [{"text": ["a", "b"]}])
