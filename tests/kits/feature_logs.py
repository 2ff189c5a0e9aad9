"""Small logs full of awkward values, for the tests of features.

`truth` is different in every row, so that an encoded row can be traced back to its raw row.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from nightjar.features.contract.spec import FeatureSpec

SPEC = FeatureSpec.model_validate(
    {
        "name": "awkward",
        "label": "clicked",
        "timestamp": "at",
        "group": "user",
        "weight": "w",
        "truth": "row_id",
        "fields": [
            {"name": "user", "min_count": 3},
            {"name": "app", "column": "app.id", "min_count": 2},
            {"name": "tags", "multi_valued": True},
            {"name": "mobile"},
        ],
        "dense": [
            {"name": "price", "quantiles": 5},
            {"name": "age", "transform": "log"},
            {"name": "score", "transform": "identity", "missing_value": -1.0},
        ],
        "crosses": [
            {"name": "user_app", "fields": ["user", "app"], "buckets": 1024},
            {"name": "tags_mobile_app", "fields": ["tags", "mobile", "app"], "buckets": 4096},
        ],
        "frequencies": [
            {
                "name": "app",
                "keys": ["app"],
                "windows": ["1d", "3d", "all"],
                "statistics": ["impressions", "positives", "rate", "log_odds", "log_count"],
                "prior": 0.2,
            },
            {
                "name": "late",
                "keys": ["user", "mobile"],
                "windows": ["2d"],
                "statistics": ["impressions", "positives"],
                "delay_days": 1,
                "prior": 0.2,
            },
            {
                "name": "live",
                "keys": ["user"],
                "windows": ["1d", "all"],
                "statistics": ["impressions", "positives"],
                "as_of": "impression",
                "missing_so_far": "zero",
                "prior": 0.2,
            },
        ],
    }
)

SCHEMA = pa.schema(
    {
        "clicked": pa.int32(),
        "at": pa.timestamp("us", "UTC"),
        "user": pa.string(),
        "w": pa.float64(),
        "row_id": pa.float64(),
        "app.id": pa.int64(),
        "tags": pa.list_(pa.string()),
        "mobile": pa.bool_(),
        "price": pa.float64(),
        "age": pa.int32(),
        "score": pa.float32(),
    }
)

USERS = ["", "a", "Zoë", "日本", "🦉", "null", None, "a ", "42"]
APPS = [0, 1, -1, 2**63 - 1, -(2**63), 42, None]
TAGS = [None, [], [""], [None], ["x", "x", "y"], ["y", None, "x", "🦉"], ["z"] * 5]
PRICES = [None, float("nan"), 0.0, -0.0, 1.5, -2.25, float("inf"), float("-inf"), 1e-320, 1.7e308]
SCORES = [None, float("nan"), 0.0, 3.5, float("inf"), float("-inf"), 1e-40, -7.0]
AGES = [None, 0, -1, 2**31 - 1, -(2**31), 30]


def days(first: str, count: int) -> list[str]:
    """`count` dates from `first` on."""
    return [(date.fromisoformat(first) + timedelta(days=n)).isoformat() for n in range(count)]


def make_day(day: str, rows: int, seed: int = 1) -> pa.Table:
    """`rows` random rows of one day; timestamps are drawn from few seconds, so that ties are common."""
    number = (date.fromisoformat(day) - date(1970, 1, 1)).days
    rng = np.random.default_rng([seed, number])
    start = datetime.fromisoformat(day).replace(tzinfo=UTC)

    def pick(values: Sequence[Any]) -> list[Any]:
        return [values[i] for i in rng.integers(len(values), size=rows)]

    columns = {
        "clicked": pick([0, 0, 1]),
        "at": [start + timedelta(seconds=int(s)) for s in rng.integers(20, size=rows)],
        "user": pick(USERS),
        "w": pick([0.5, 1.0, 2.0]),
        "row_id": [(number % 1000 + i / (rows + 1)) / 1000 for i in range(rows)],
        "app.id": pick(APPS),
        "tags": pick(TAGS),
        "mobile": pick([True, False, None]),
        "price": pick(PRICES),
        "age": pick(AGES),
        "score": pick(SCORES),
    }
    return pa.table(columns, schema=SCHEMA)


def write_day(root: Path, day: str, table: pa.Table, files: int = 2) -> None:
    """Write one day of a log as `files` Parquet files."""
    folder = root / f"date={day}"
    folder.mkdir(parents=True)
    step = -(-table.num_rows // files)
    for n in range(files):
        pq.write_table(table.slice(n * step, step), folder / f"part-{n}.parquet")


def write_logs(root: Path, dates: Sequence[str], rows: int = 60) -> Path:
    """Write several days of `make_day`."""
    for day in dates:
        write_day(root, day, make_day(day, rows))
    return root


def read_logs(root: Path, dates: Sequence[str]) -> dict[str, pa.Table]:
    """The raw rows of each date."""
    return {
        day: pa.concat_tables([pq.ParquetFile(p).read() for p in sorted((root / f"date={day}").iterdir())])
        for day in dates
    }


def read_encoded(directory: str) -> dict[float, dict[str, Any]]:
    """The encoded rows of a published data set by their `truth`."""
    tables = [pq.ParquetFile(path).read() for path in sorted(Path(directory, "data").iterdir())]
    return {row["truth"]: row for row in pa.concat_tables(tables).to_pylist()}


def files_under(root: Path) -> dict[str, bytes]:
    """Every file below a folder with its content, by its path in it."""
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}
