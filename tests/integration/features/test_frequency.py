"""Frequency statistics of whole builds against counts by hand over all raw rows, for keys with and without lists."""

from __future__ import annotations

import math
import shutil
from collections import Counter
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from nightjar.features.contract.manifests import StateManifest
from nightjar.features.contract.publishing import read_manifest
from nightjar.features.contract.spec import FeatureSpec, Frequency
from nightjar.features.dataset.build import build, encode_days
from nightjar.features.dataset.plan import BuildDates, BuildPlan, BuildSettings, BuiltFeatures, plan_build
from nightjar.features.encoder.encoder import Encoder
from nightjar.features.encoder.rows import hash_rows
from nightjar.features.encoder.state import load_state
from tests.kits.feature_logs import SPEC as AWKWARD
from tests.kits.feature_logs import days, read_encoded, read_logs, write_day, write_logs

DATES = days("2026-03-01", 5)
COUNTS = ["impressions", "positives", "rate", "log_odds", "log_count"]
SPEC = FeatureSpec.model_validate(
    AWKWARD.model_dump(exclude={"dense", "crosses", "frequencies"})
    | {
        "fields": [
            *(field.model_dump() for field in AWKWARD.fields if field.name != "mobile"),
            {"name": "band", "column": "price", "boundaries": [0.0, 1e307]},
        ],
        "frequencies": [
            {
                "name": "app",
                "keys": ["app"],
                "windows": ["2d", "all"],
                "statistics": [*COUNTS, "count_rank", "days_since_first_seen"],
                "prior": 0.2,
            },
            {
                "name": "tags",
                "keys": ["tags", "band"],
                "windows": ["1d"],
                "statistics": [*COUNTS, "count_rank", "days_since_first_seen"],
                "delay_days": 1,
                "prior": 0.3,
            },
            {
                "name": "live",
                "keys": ["user", "tags"],
                "windows": ["1d"],
                "statistics": ["impressions", "positives", "days_since_first_seen"],
                "as_of": "impression",
                "missing_so_far": "zero",
                "prior": 0.2,
            },
        ],
    }
)
SOURCES = {field.name: field.source for field in SPEC.fields}
Row = dict[str, Any]


def write_rows(root: Path) -> Path:
    """Every day lacks some values, so that keys come late, pause, and leave the windows."""
    write_logs(root, DATES, rows=50)
    for n, day in enumerate(DATES):
        table = pa.concat_tables([pq.ParquetFile(path).read() for path in sorted((root / f"date={day}").iterdir())])
        apps = table["app.id"].to_pylist()
        kept = [i for i, app in enumerate(apps) if app is None or app % 5 != n]
        shutil.rmtree(root / f"date={day}")
        write_day(root, day, table.take(kept))
    return root


def plan(logs: Path, output: Path) -> BuildPlan:
    settings = BuildSettings(min_files=2, rows_per_file=1000)
    dates = {"history_from": DATES[0], "train_from": DATES[1], "train_to": DATES[3], "holdout": DATES[4]}
    return plan_build(SPEC, str(logs), str(output), BuildDates(**dates), settings=settings)


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rows(tmp_path_factory.mktemp("raw") / "logs")


@pytest.fixture(scope="module")
def built(spark: SparkSession, logs: Path, tmp_path_factory: pytest.TempPathFactory) -> BuiltFeatures:
    return build(spark, plan(logs, tmp_path_factory.mktemp("features")))


def encoded(built: BuiltFeatures) -> dict[float, Row]:
    assert built.holdout_dir
    return read_encoded(built.train_dir) | read_encoded(built.holdout_dir)


def keys_of(row: Row, frequency: Frequency) -> set[tuple[Any, ...]]:
    sides = []
    for name in frequency.keys:
        value = row[SOURCES[name]]
        if name == "band":
            sides.append({None if value is None or math.isnan(value) else (value >= 0) + (value >= 1e307)})
        else:
            sides.append({v for v in value or [] if v is not None} if name == "tags" else {value})
    return set(product(*sides))


def by_hand(rows: list[Row], row: Row, frequency: Frequency) -> dict[str, float]:
    """Every column of `frequency` for one row, from the definitions in features.contract.spec.Frequency."""
    mine, end = keys_of(row, frequency), row["day"] - frequency.delay_days
    columns: dict[str, float] = {}
    for window in frequency.windows:
        start = 0 if window == "all" else end - int(window[:-1])
        shown: Counter[tuple[Any, ...]] = Counter()
        positive: Counter[tuple[Any, ...]] = Counter()
        for other in rows:
            earlier = other["day"] == row["day"] and other["at"] < row["at"] and frequency.as_of == "impression"
            if start <= other["day"] < end or earlier:
                for key in keys_of(other, frequency):
                    shown[key] += 1
                    positive[key] += other["clicked"]
        n, k = sum(shown[key] for key in mine), sum(positive[key] for key in mine)
        prior, strength = frequency.prior, frequency.strength
        rate = (k + prior * strength) / (n + strength)
        counts = sorted(count for count in shown.values() if count)
        columns |= {
            f"{frequency.name}_{window}_impressions": n,
            f"{frequency.name}_{window}_positives": k,
            f"{frequency.name}_{window}_rate": rate,
            f"{frequency.name}_{window}_log_odds": math.log(
                rate / (1 - rate) * (1 - frequency.prior) / frequency.prior
            ),
            f"{frequency.name}_{window}_log_count": math.log(1 + n),
            f"{frequency.name}_{window}_count_rank": max(
                (sum(c <= shown[key] for c in counts) / len(counts) for key in mine if shown[key]), default=0.0
            ),
        }
    first = [o["day"] for o in rows if o["day"] < end and mine & keys_of(o, frequency)]
    columns[f"{frequency.name}_days_since_first_seen"] = row["day"] - min(first) if first else 0
    return {name: value for name, value in columns.items() if name in [c for c, _, _ in frequency.columns()]}


def test_every_statistic_equals_its_definition_over_all_rows(built: BuiltFeatures, logs: Path) -> None:
    rows = [row | {"day": n} for n, table in enumerate(read_logs(logs, DATES).values()) for row in table.to_pylist()]
    found = encoded(built)
    assert len(found) == sum(row["day"] > 0 for row in rows)
    values: dict[str, set[float]] = {}
    for row in rows:
        if row["day"] == 0:
            continue
        for frequency in SPEC.frequencies:
            for name, expected in by_hand(rows, row, frequency).items():
                actual = found[row["row_id"]][f"d_{name}"]
                values.setdefault(name, set()).add(actual)
                if name.endswith(("impressions", "positives", "count_rank", "first_seen")):
                    assert actual == np.float32(expected), name
                else:
                    assert actual == pytest.approx(expected, rel=1e-6, abs=1e-6), name
    # The logs are such that no statistic could be right by chance.
    assert {name: len(of) > 2 for name, of in values.items()} == dict.fromkeys(values, True)


def test_serving_gives_the_raw_rows_the_statistics_that_spark_gave(built: BuiltFeatures, logs: Path) -> None:
    assert built.holdout_dir
    state = load_state(built.state_dir, read_manifest(built.state_dir, StateManifest))
    (raw,) = read_logs(logs, DATES[4:]).values()
    golden = [pq.read_table(Path(built.holdout_dir, "golden", f"{n}.parquet")) for n in ("raw", "encoded")]
    rows = read_encoded(built.holdout_dir)
    of_spark = {name: [rows[t][name] for t in raw["row_id"].to_pylist()] for name in rows[next(iter(rows))]}
    for request, expected in ((raw, of_spark), (golden[0], golden[1].to_pydict())):
        for name, column in Encoder(SPEC, state.encoder).encode(hash_rows(state, request)).items():
            # Only golden rows bring the impressions of their own day.
            if name.startswith("d_") and (request is golden[0] or not name.startswith("d_live_1d")):
                assert column.tolist() == expected[name], name


def test_a_days_labels_move_no_statistic_of_the_day_but_some_of_the_next(
    spark: SparkSession, built: BuiltFeatures, logs: Path, tmp_path: Path
) -> None:
    raw = read_logs(logs, DATES)[DATES[2]]
    labels = pa.array([1 - label for label in raw["clicked"].to_pylist()], pa.int32())
    shutil.copytree(logs, tmp_path / "logs")
    shutil.rmtree(tmp_path / "logs" / f"date={DATES[2]}")
    write_day(tmp_path / "logs", DATES[2], raw.set_column(0, "clicked", labels))
    # In the same output, where the counts of the other days are found again.
    permuted = plan(tmp_path / "logs", Path(built.state_dir).parents[1])
    mine, other = encoded(built), read_encoded(encode_days(spark, permuted, built.state_dir, DATES[1:]))

    def moved(day: str) -> set[str]:
        truths = read_logs(logs, [day])[day]["row_id"].to_pylist()
        return {name for t in truths for name in mine[t] if name != "label" and mine[t][name] != other[t][name]}

    assert moved(DATES[1]) == set()
    assert moved(DATES[2]) == {"d_live_1d_positives"}
    assert {name.rpartition("_")[2] for name in moved(DATES[3])} <= {"positives", "rate", "odds"}
    assert "d_app_2d_rate" in moved(DATES[3])
    # A delay of one day.
    assert not any(name.startswith("d_tags") for name in moved(DATES[3]))
    assert "d_tags_1d_rate" in moved(DATES[4])
