"""Nothing that grows with the data comes to the driver: a night under a limit that any of its tables would exceed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from py4j.protocol import Py4JError
from pyspark.sql import SparkSession

from nightjar.features.contract.manifests import DatasetManifest, StateManifest
from nightjar.features.contract.publishing import read_manifest
from nightjar.features.contract.spec import FeatureSpec
from nightjar.features.dataset.build import BuildDates, build, plan_build
from tests.kits.feature_logs import days, write_day

DATES = days("2026-03-01", 3)
ROWS = 25_000
LIMIT = "spark.driver.maxResultSize"
LIMIT_BYTES = 160 << 10
SPEC = FeatureSpec.model_validate(
    {
        "name": "large",
        "label": "clicked",
        "timestamp": "at",
        "fields": [{"name": "user"}],
        "dense": [{"name": "price", "transform": "log"}],
        "frequencies": [{"name": "user", "keys": ["user"], "windows": ["1d", "all"], "prior": 0.1}],
    }
)


def write_users(logs: Path, day: str, seed: int) -> None:
    """As many users as rows, who come back every day."""
    rng = np.random.default_rng(seed)
    table = {
        "clicked": rng.integers(0, 2, ROWS),
        "at": pa.array([datetime.fromisoformat(day).replace(tzinfo=UTC)] * ROWS, pa.timestamp("us", "UTC")),
        "user": [f"{user * 0x9E3779B97F4A7C15 % 2**64:016x}" for user in range(ROWS)],
        "price": rng.random(ROWS),
    }
    write_day(logs, day, pa.table(table))


@pytest.fixture
def limited(spark: SparkSession) -> Iterator[SparkSession]:
    """Spark refuses to bring more than LIMIT_BYTES of a job's results to the driver."""
    settings = spark.sparkContext._jsc.sc().conf()  # type: ignore[union-attr]
    before = settings.get(LIMIT, "1g")
    session = spark.newSession()
    session.conf.set("spark.sql.shuffle.partitions", "2")
    # Spark's own broadcasts of small tables pass through the driver, up to this size, whatever the data's.
    session.conf.set("spark.sql.autoBroadcastJoinThreshold", "-1")
    settings.set(LIMIT, str(LIMIT_BYTES))
    try:
        yield session
    finally:
        settings.set(LIMIT, before)


def test_neither_rows_nor_vocabularies_nor_counts_pass_through_the_driver(
    limited: SparkSession, tmp_path: Path
) -> None:
    for seed, day in enumerate(DATES):
        write_users(tmp_path / "logs", day, seed)
    for holdout in (1, 2):
        plan = plan_build(
            SPEC,
            str(tmp_path / "logs"),
            str(tmp_path / "out"),
            BuildDates(
                train_from=DATES[holdout - 1],
                train_to=DATES[holdout - 1],
                history_from=DATES[0],
                holdout=DATES[holdout],
            ),
        )
        built = build(limited, plan)
    assert built.holdout_dir
    assert read_manifest(built.holdout_dir, DatasetManifest).rows == ROWS
    assert read_manifest(built.state_dir, StateManifest).vocabulary_sizes["user"] > ROWS
    tables = [f"{built.state_dir}/vocabulary/user", f"{built.state_dir}/frequency/user", f"{built.holdout_dir}/data"]
    for table in tables:
        with pytest.raises(Py4JError, match="is bigger than"):
            limited.read.parquet(table).collect()
