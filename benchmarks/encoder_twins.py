"""Spark's output and the artifact's encoder on generated rows full of awkward values, compared bit for bit.

    TZ=America/New_York python -m benchmarks.encoder_twins --rows 1000000

Builds the features of two days, the night before and the day of New York's change to daylight saving time, loads the
state as an artifact does, encodes the second day's raw rows with it, and compares every column of every row.
tests/integration/features/test_encoder_twins.py does the same with fewer rows.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import SparkSession

from nightjar.features.contract.artifact_files import DATA
from nightjar.features.contract.manifests import StateManifest
from nightjar.features.contract.outputs import date_folder
from nightjar.features.contract.publishing import read_manifest
from nightjar.features.contract.spec import FeatureSpec
from nightjar.features.dataset.build import build
from nightjar.features.dataset.plan import BuildDates, BuiltFeatures, plan_build
from nightjar.features.encoder.encoder import ColumnValues, Encoder
from nightjar.features.encoder.ragged import Ragged, from_arrow
from nightjar.features.encoder.rows import hash_rows, so_far_columns
from nightjar.features.encoder.state import load_state

DATES = ("2026-03-07", "2026-03-08")
INT64 = (-(2**63), 2**63 - 1)
STRINGS = [
    *(None, "", " ", "\0", "a\0b", "a", "A", "null", "true", "42", "-1", "-0", "NaN", "\ufeff", "e\u200d", "\u202eabc"),
    # The same letters composed and not: two values.
    *("Zoë", "Zoe\u0308", "\u1100\u1161", "가", "Å", "\u212b", "ﬁ", "fi"),
    # Around UTF-16's surrogates, and beyond the first plane.
    *("\ud7ff", "\ue000", "\uffff", "\U00010000", "\U0010ffff", "🦉", "👩\u200d👩\u200d👧", "🦉" * 40, "日本"),
    # Every tail of XXH64: 32 bytes at a time, then 8, 4 and 1.
    *("x" * length for length in range(2, 70)),
]
INTEGERS = [None, 0, 1, -1, 42, 2**31, 2**53 + 1, *INT64, INT64[0] + 1]
FLOATS = [
    *(None, math.nan, 0.0, -0.0, 1.0, math.pi, -2.5, math.inf, -math.inf, 5e-324, -5e-324, 2.2250738585072014e-308),
    *(1.7976931348623157e308, -1.7976931348623157e308, 3.4028234663852886e38, 1e39, 0.1, math.nextafter(0.1, 1)),
]
DERIVED = [
    {"name": "joined", "expression": 'concat(text, "/", long, "/", x, "/", flag)'},
    {"name": "tidy", "expression": 'lower(trim(coalesce(substring(text, 1, 3), "none")))'},
    {"name": "parts", "expression": 'replace(upper(text), "X", "|")'},
    {"name": "slot", "expression": "int(weekday(at) * 100 + hour(at))"},
    {"name": "is_high", "expression": "(x > y if flag else x >= 0.1) or long in (1, 42)"},
    {"name": "ratio", "expression": "(x + y) / long"},
    {"name": "scaled", "expression": "log1p(abs(ratio)) % 3 - number(text)"},
]
DERIVED_FIELDS = [
    *({"name": name} for name in ("joined", "tidy", "slot", "is_high")),
    {"name": "parts", "multi_valued": True, "split": "|"},
    {"name": "ratio_band", "column": "ratio", "boundaries": [-1.0, 0.0, 1.0]},
]
DERIVED_DENSE = [{"name": "ratio", "transform": "identity"}, {"name": "scaled", "quantiles": 5}]
STATISTICS = ["impressions", "positives", "rate", "log_odds", "log_count", "days_since_first_seen"]
SPEC = FeatureSpec.model_validate(
    {
        "name": "twins",
        "label": "label",
        "timestamp": "at",
        "truth": "row",
        "fields": [
            {"name": "text", "min_count": 2},
            {"name": "long"},
            {"name": "byte"},
            {"name": "flag"},
            {"name": "words", "multi_valued": True, "min_count": 3},
            {"name": "numbers", "multi_valued": True},
            {"name": "flags", "multi_valued": True},
            {"name": "band", "column": "x", "boundaries": [-2.5, 0.0, 5e-324, 0.1, 1e39]},
            {"name": "long_band", "column": "long", "boundaries": [0, 42, 2**53]},
            {"name": "hashed", "column": "text", "kind": "hashed", "buckets": 1000},
            {"name": "hashed_list", "column": "words", "kind": "hashed", "buckets": 1000, "multi_valued": True},
            *DERIVED_FIELDS,
        ],
        "derive": DERIVED,
        "dense": [
            {"name": "x_quantile", "column": "x", "quantiles": 7, "missing_value": 0.5},
            {"name": "x_log", "column": "x", "transform": "log"},
            {"name": "x", "transform": "identity", "missing_indicator": False},
            {"name": "x_standard", "column": "x", "transform": "standardise"},
            {"name": "y", "transform": "standardise", "missing_value": -1.0},
            {"name": "y_quantile", "column": "y"},
            {"name": "long", "transform": "log"},
            {"name": "flag", "transform": "identity"},
            *DERIVED_DENSE,
        ],
        "crosses": [
            {"name": "scalars", "fields": ["text", "long", "flag"], "buckets": 2**30},
            {"name": "reversed", "fields": ["flag", "long", "text"], "buckets": 2**30},
            {"name": "one_list", "fields": ["byte", "words", "text"], "buckets": 2**30},
            {"name": "two_lists", "fields": ["numbers", "words"], "buckets": 2**30},
            {"name": "bands", "fields": ["band", "long_band", "words"], "buckets": 2**30},
            {"name": "narrow", "fields": ["words", "numbers", "flags"], "buckets": 2},
            {"name": "exact", "fields": ["words", "flag"], "vocabulary": "exact"},
            {"name": "counted", "fields": ["text", "byte"], "admission": {"by": "count", "min_count": 3}},
            {"name": "drawn", "fields": ["words", "byte"], "admission": {"by": "poisson", "probability": 0.1}},
            {"name": "bloomed", "fields": ["text", "flag"], "admission": {"by": "bloom", "min_count": 3}},
        ],
        "frequencies": [
            {"name": "text", "keys": ["text"], "statistics": [*STATISTICS, "count_rank"], "prior": 0.3},
            {"name": "lists", "keys": ["words", "band"], "statistics": [*STATISTICS, "count_rank"], "prior": 0.3},
            {"name": "live", "keys": ["byte", "flag"], "statistics": STATISTICS, "prior": 0.3, "as_of": "impression"},
            {"name": "derived", "keys": ["tidy", "slot"], "statistics": STATISTICS, "prior": 0.3},
        ],
    }
)
SCHEMA = pa.schema(
    {
        "label": pa.bool_(),
        "at": pa.timestamp("us"),
        "row": pa.float64(),
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


def make_rows(day: str, rows: int, seed: int) -> pa.Table:
    """Half of the values are awkward ones, the others random; `row` is different in every row, in [0, 1)."""
    rng = np.random.default_rng([seed, int(day.replace("-", ""))])

    def pick(pool: Sequence[Any], kind: pa.DataType, count: int) -> pa.Array:
        return pa.array(pool, kind).take(pa.array(rng.integers(len(pool), size=count)))

    def lists(pool: Sequence[Any], kind: pa.DataType, longest: int) -> pa.Array:
        lengths = rng.integers(0, longest + 1, rows)
        offsets = pa.array(np.append(0, np.cumsum(lengths)), pa.int32(), mask=np.append(rng.random(rows) < 0.1, False))
        return pa.ListArray.from_arrays(offsets, pick(pool, kind, int(lengths.sum())))

    strings = [*STRINGS, *(_text(rng) for _ in range(rows // 50))]
    integers = [*INTEGERS, *rng.integers(*INT64, size=rows // 50).tolist()]
    # Any 64 bits are a double: subnormal ones, infinities, NaN with all payloads.
    doubles = rng.integers(*INT64, size=rows // 2).view(np.float64)
    usual = rng.normal(size=rows // 4)
    start = np.datetime64(day, "us")
    return pa.table(
        {
            "label": pa.array(rng.random(rows) < 0.3),
            "at": pa.array(start + rng.integers(0, 86_400, rows).astype("timedelta64[s]"), pa.timestamp("us")),
            "row": pa.array(np.arange(rows) / rows),
            "text": pick(strings, pa.string(), rows),
            "long": pick(integers, pa.int64(), rows),
            "byte": pick([None, -128, 127, *range(20)], pa.int8(), rows),
            "flag": pick([None, True, False], pa.bool_(), rows),
            "words": lists(STRINGS[:30] + strings[-20:], pa.string(), 4),
            "numbers": lists(integers[:40], pa.int64(), 3),
            "flags": lists([None, True, False], pa.bool_(), 3),
            "x": pick([*FLOATS * max(1, rows // 50), *usual, *doubles], pa.float64(), rows),
            "y": pick([*map(_single, FLOATS), *usual.astype(np.float32)], pa.float32(), rows),
        },
        schema=SCHEMA,
    )


def build_twins(spark: SparkSession, folder: Path, rows: int, seed: int) -> tuple[BuiltFeatures, pa.Table]:
    """Publish the features of two days of `rows` rows each; the second day's raw rows."""
    tables = {day: make_rows(day, rows, seed) for day in DATES}
    for day, table in tables.items():
        target = folder / "logs" / date_folder(day)
        target.mkdir(parents=True)
        pq.write_table(table, target / "part-0.parquet", row_group_size=max(1, rows // 4))
    plan = plan_build(
        SPEC,
        str(folder / "logs"),
        str(folder / "features"),
        BuildDates(train_from=DATES[0], train_to=DATES[0], holdout=DATES[1]),
    )
    return build(spark, plan), tables[DATES[1]]


def differences(built: BuiltFeatures, raw: pa.Table) -> dict[str, int]:
    """Rows that differ between Spark's encoding of `raw` and the artifact's, by column, for every column."""
    assert built.holdout_dir
    state = load_state(built.state_dir, read_manifest(built.state_dir, StateManifest))
    parts = [pq.ParquetFile(path).read() for path in sorted(Path(built.holdout_dir, DATA).iterdir())]
    of_spark = pa.concat_tables(parts).sort_by("truth").combine_chunks()
    of_artifact = Encoder(SPEC, state.encoder).encode(hash_rows(state, _with_so_far(raw)))
    assert of_spark.num_rows == raw.num_rows
    assert of_spark["truth"].equals(raw["row"])
    assert [name for name in of_spark.column_names if name[:2] in ("f_", "x_", "d_")] == list(of_artifact)
    return {
        name: unequal_rows(from_arrow(of_spark[name].combine_chunks()), column) for name, column in of_artifact.items()
    }


def unequal_rows(left: ColumnValues, right: ColumnValues) -> int:
    """Rows whose bytes differ, so that -0.0 is not 0.0."""
    if isinstance(left, Ragged) and isinstance(right, Ragged):
        if not np.array_equal(left.offsets, right.offsets):
            return int((left.lengths != right.lengths).sum())
        return int((left.values != right.values).sum())
    assert isinstance(left, np.ndarray)
    assert isinstance(right, np.ndarray)
    return int((left.view(np.int32) != right.view(np.int32)).sum())


def _with_so_far(raw: pa.Table) -> pa.Table:
    """A request's own columns: what its key has been shown today, strictly earlier."""
    rows = raw.select(["byte", "flag", "at", "label"]).to_pandas()
    keys = [rows["byte"].fillna(-1000).astype(int), rows["flag"].map({True: 1, False: 0}).fillna(-1).astype(int)]
    groups = [*(key.rename(str(n)) for n, key in enumerate(keys)), rows["at"]]
    moments = pd.DataFrame({"impressions": 1, "positives": rows["label"].astype(int)}).groupby(groups).sum()
    earlier = moments.groupby(level=[0, 1]).cumsum() - moments
    found = earlier.loc[pd.MultiIndex.from_arrays(groups)]
    for name, what in zip(so_far_columns(SPEC.frequencies[2]), ("impressions", "positives"), strict=True):
        raw = raw.append_column(name, pa.array(found[what].to_numpy()))
    return raw


def _text(rng: np.random.Generator) -> str:
    points = rng.integers(0, 0x110000 - 0x800, rng.integers(0, 20))
    return "".join(chr(p if p < 0xD800 else p + 0x800) for p in points)


def _single(value: float | None) -> float | None:
    with np.errstate(over="ignore"):
        return None if value is None else float(np.float32(value))


def main(argv: Sequence[str] | None = None) -> int:
    """Compare; exit status 1 if a row differs."""
    parser = argparse.ArgumentParser(prog="encoder_twins", description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows a day")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args(argv)
    from nightjar.jobs.common.spark_session import spark_session

    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, spark_session("encoder_twins") as spark:
        built, raw = build_twins(spark, Path(folder), args.rows, args.seed)
        middle = time.monotonic()
        found = differences(built, raw)
    end = time.monotonic()
    different = {name: rows for name, rows in found.items() if rows}
    print(f"{raw.num_rows} rows x {len(found)} columns in the time zone {time.tzname[0]}")
    print(f"Spark's build of both days {middle - start:.0f} s; encoding and comparison {end - middle:.0f} s")
    print(
        "\n".join(f"{name}: {rows} rows differ" for name, rows in different.items()) or "no row differs in any column"
    )
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
