"""A table without time is dealt to days by a hash: the same in every format, and whatever rows come later."""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from nightjar.features.contract.spec import FeatureSpec
from nightjar.features.encoder.hashing import hash_strings
from nightjar.features.input.config import InputConfig
from nightjar.features.input.days import date_of
from nightjar.features.input.folders import DAY, LogPartition, read_logs
from nightjar.features.input.timestamped import logs_at

SPEC = FeatureSpec.model_validate(
    {
        "name": "people",
        "label": "rich",
        "timestamp": "day",
        "derive": [{"name": "even", "expression": "person % 2 == 0"}],
        "fields": [{"name": "job"}, {"name": "even"}],
    }
)
DATES = ["2010-05-01", "2010-05-02", "2010-05-03"]
NARROW = pa.schema({"rich": pa.int32(), "job": pa.string(), "person": pa.int32()})
KINDS = {"rich": "int", "job": "string", "person": "bigint"}


def people(count: int) -> list[dict[str, int | str | None]]:
    """Ids of few and of many digits, one of them missing, and equal rows."""
    rng = np.random.default_rng(3)
    ids = [None, *rng.integers(-(2**31), 2**31, count).tolist(), 7, 7, 7]
    return [{"rich": n % 2, "job": "ab"[n % 2], "person": person} for n, person in enumerate(ids)]


def days_of(spark: SparkSession, config: InputConfig, path: Path) -> tuple[list[LogPartition], dict[str, list[int]]]:
    logs = logs_at(config, str(path), lambda: spark)
    assert logs.first_date(SPEC) == DATES[0]
    days = logs.check(DATES, SPEC)
    found = defaultdict(list)
    for table in read_logs(spark, days):
        of_timestamp = F.unix_date(F.to_date("day")).alias("day")
        for row in table.select(DAY, of_timestamp, "person", "even").collect():
            found[date_of(row[DAY])].append(row["person"])
            assert row["day"] == row[DAY]
            assert row["even"] == (None if row["person"] is None else row["person"] % 2 == 0)
    return days, {day: sorted(ids, key=str) for day, ids in found.items()}


def test_rows_are_dealt_by_the_value_of_a_column(spark: SparkSession, tmp_path: Path) -> None:
    rows = people(60)
    wanted = defaultdict(list)
    for row in rows:
        person = row["person"]
        (hashed,) = hash_strings([None if person is None else str(person)]).tolist()
        wanted[DATES[hashed % 3]].append(person)
    wanted = {day: sorted(ids, key=str) for day, ids in wanted.items()}
    assert {len(ids) > 10 for ids in wanted.values()} == {True}
    settings = {"days": "hash(person)", "hash_days": 3, "earliest": DATES[0]}
    pq.write_table(pa.Table.from_pylist(rows, NARROW), tmp_path / "narrow.parquet")
    days, found = days_of(spark, InputConfig.model_validate(settings), tmp_path / "narrow.parquet")
    assert found == wanted
    assert [day.rows for day in days] == [len(wanted[day]) for day in DATES]
    with (tmp_path / "people.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(KINDS))
        writer.writeheader()
        writer.writerows(reversed(rows))
    _, found = days_of(
        spark, InputConfig.model_validate({**settings, "format": "csv", "columns": KINDS}), tmp_path / "people.csv"
    )
    assert found == wanted
    pq.write_table(
        pa.Table.from_pylist([*rows, {"rich": 1, "job": "a", "person": 8}], NARROW), tmp_path / "more.parquet"
    )
    more, _ = days_of(spark, InputConfig.model_validate(settings), tmp_path / "more.parquet")
    changed = {day.date for day, before in zip(more, days, strict=True) if day.fingerprint != before.fingerprint}
    assert changed == {DATES[hash_strings(["8"]).tolist()[0] % 3]}
