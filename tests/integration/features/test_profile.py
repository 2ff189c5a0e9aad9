"""What Spark counts for a day's validation, against NumPy, SciPy and loops over the raw rows."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from scipy.spatial.distance import jensenshannon

from nightjar.features.checks.checks import Day
from nightjar.features.checks.drift import HEAD_SHARE, DailyCounts, drifts
from nightjar.features.checks.others import shares_of_others
from nightjar.features.checks.profile import bin_of, profile_dir, profiles
from nightjar.features.contract.artifact_files import HISTOGRAM
from nightjar.features.contract.manifests import AggregateManifest, ProfileManifest
from nightjar.features.contract.spec import FeatureSpec
from nightjar.features.input.days import day_number
from nightjar.features.input.folders import check_logs
from tests.kits.feature_logs import SPEC, days, make_day, read_logs, write_day

DATES = days("2026-03-01", 3)


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three days: the last is the first again, its rows in another order and later."""
    root = tmp_path_factory.mktemp("logs")
    first = make_day(DATES[0], 60)
    later = pa.array([at.as_py().replace(day=3) for at in first.column("at")], first.schema.field("at").type)
    write_day(root, DATES[0], first)
    write_day(root, DATES[1], make_day(DATES[1], 70))
    moved = first.set_column(first.column_names.index("at"), "at", later)
    write_day(root, DATES[2], moved.take(np.random.default_rng(0).permutation(60)), files=3)
    return root


@pytest.fixture(scope="module")
def profiled(spark: SparkSession, logs: Path, tmp_path_factory: pytest.TempPathFactory) -> list[ProfileManifest]:
    partitions = check_logs(str(logs), DATES, SPEC)
    return list(profiles(spark, SPEC, str(tmp_path_factory.mktemp("out")), partitions).values())


def test_values_and_missing_rows_are_those_of_a_loop(logs: Path, profiled: list[ProfileManifest]) -> None:
    for manifest, (_, raw) in zip(profiled, read_logs(logs, DATES).items(), strict=True):
        for name, column in manifest.columns.items():
            values = raw.column(name).to_pylist()
            if name == "tags":
                held = [len({v for v in row or [] if v is not None}) for row in values]
            else:
                held = [int(v is not None and v == v) for v in values]
            assert (column.values, column.missing) == (sum(held), held.count(0)), name
            assert not column.constant


def test_content_is_the_same_in_any_order_and_at_any_time_and_other_for_other_rows(
    profiled: list[ProfileManifest],
) -> None:
    first, second, again = (manifest.columns for manifest in profiled)
    assert "at" not in first
    assert again == first
    assert all(second[name].content != first[name].content for name in first)


def test_a_day_is_profiled_the_same_alone_and_among_others(
    spark: SparkSession, logs: Path, profiled: list[ProfileManifest], tmp_path: Path
) -> None:
    partitions = check_logs(str(logs), DATES, SPEC)
    (alone,) = profiles(spark, SPEC, str(tmp_path), partitions[1:2]).values()
    assert alone == profiled[1]
    assert len([entry for entry in alone.files if entry.path.startswith(HISTOGRAM)]) == len(SPEC.dense)
    assert Path(profile_dir(str(tmp_path), SPEC, partitions[1]), "manifest.json").exists()


def test_a_spec_without_dense_features_has_profiles_without_histograms(
    spark: SparkSession, logs: Path, tmp_path: Path
) -> None:
    spec = SPEC.model_copy(update={"dense": ()})
    (alone,) = profiles(spark, spec, str(tmp_path), check_logs(str(logs), DATES[:1], spec)).values()
    assert alone.files == ()
    assert alone.columns["mobile"].values + alone.columns["mobile"].missing == 60


def test_bins_are_narrow_symmetric_and_hold_every_double(spark: SparkSession) -> None:
    numbers = [0.0, -0.0, 1e-9, 1.0, 1.01, 1.03, -1.03, 1e300, math.inf, -math.inf, math.nan, None, 2013.0, 2014.0]
    table = spark.createDataFrame([(n, x) for n, x in enumerate(numbers)], "n int, x double")
    bins = [row["bin"] for row in table.select("n", bin_of(F.col("x")).alias("bin")).orderBy("n").collect()]
    found = dict(zip(map(str, numbers), bins, strict=True))
    assert found["0.0"] == found["-0.0"] == found["1e-09"] == 0
    assert found["1.0"] == 4096 * 20 + 1
    assert found["1.01"] == 4096 * 20 + 1 + round(4096 * math.log2(1.01))
    assert found["1.03"] == -found["-1.03"] == 4096 * 20 + 1 + round(4096 * math.log2(1.03))
    assert found["nan"] is None
    assert found["None"] is None
    assert found["inf"] == -found["-inf"] > found["1e+300"]
    assert found["2014.0"] > found["2013.0"]


def test_divergence_is_scipys_of_frequent_values_and_all_others_together(spark: SparkSession) -> None:
    random = np.random.default_rng(1)
    counts = {day: Counter((random.zipf(1.4, 3000) % 5000).tolist()) for day in DATES}
    counts[DATES[2]][77] += 500
    rows = [(day_number(day), value, n) for day, held in counts.items() for value, n in held.items()]
    table = spark.createDataFrame(rows, "day int, value bigint, impressions bigint")
    sizes = {day: held.total() for day, held in counts.items()}
    other = DailyCounts(table.withColumn("value", F.lit(1)), sizes)  # beside it, and of nobody's concern
    _, found = drifts([other, DailyCounts(table, sizes, min_count=3)], DATES[2])
    everything = sum(counts.values(), Counter())
    head = [value for value, n in everything.items() if n >= HEAD_SHARE * everything.total()]
    for day in DATES:
        others = sum((held for other, held in counts.items() if other not in (day, DATES[2])), Counter())
        p, q = (
            np.array([held[v] for v in head] + [held.total() - sum(held[v] for v in head)])
            for held in (counts[day], others)
        )
        assert found[day].divergence == pytest.approx(jensenshannon(p, q, base=2) ** 2, abs=1e-6)
        unseen = sum(n for value, n in counts[day].items() if others[value] < 3)
        assert found[day].unseen == pytest.approx(unseen / sizes[day])


def test_numbers_are_held_against_the_quantiles_of_the_reference_days(spark: SparkSession) -> None:
    """A city's latitudes, of which some move by 70 km on the newest day; years; and a value of that day alone."""
    random = np.random.default_rng(4)
    held: dict[str, dict[str, np.ndarray]] = {
        "moved": {day: random.normal(41.33 if day == DATES[2] else 40.70, 0.05, 3000) for day in DATES},
        "still": {day: random.normal(40.70, 0.05, 3000) for day in DATES},
        "below": {day: random.normal(-5.0 if day == DATES[2] else 40.70, 0.05, 3000) for day in DATES},
        "years": {
            day: random.choice(
                [2021.0, 2022.0, 2023.0], 3000, p=[0.2, 0.3, 0.5] if day == DATES[2] else [0.3, 0.3, 0.4]
            )
            for day in DATES
        },
        "new": {day: np.repeat([1.0, 2.0 if day == DATES[2] else 1.0], 1500) for day in DATES},
    }
    rows = [(name, day_number(day), float(x)) for name, of in held.items() for day, xs in of.items() for x in xs]
    values = spark.createDataFrame(rows, "name string, day int, x double").select(
        "name", "day", bin_of(F.col("x")).alias("value")
    )
    counts = values.groupBy("name", "day", "value").agg(F.count(F.lit(1)).alias("impressions")).cache()
    features = [
        DailyCounts(counts.where(F.col("name") == name).drop("name"), dict.fromkeys(DATES, 3000), ordered=True)
        for name in held
    ]
    found = dict(zip(held, (by_day[DATES[2]] for by_day in drifts(features, DATES[2])), strict=True))
    counts.unpersist()
    assert found["moved"].divergence == pytest.approx(1.0, abs=0.001)
    assert found["below"].divergence == pytest.approx(1.0, abs=1e-9)
    assert found["still"].divergence == pytest.approx(0.0, abs=0.02)
    exact = [
        np.unique(np.concatenate([held["years"][d] for d in of]), return_counts=True)[1]
        for of in (DATES[2:], DATES[:2])
    ]
    assert found["years"].divergence == pytest.approx(jensenshannon(*exact, base=2) ** 2, abs=1e-6)
    new = jensenshannon([0.5, 0.5], [1.0, 0.0], base=2) ** 2
    assert found["new"].divergence == pytest.approx(new, abs=1e-6)


def test_a_day_without_values_has_no_divergence(spark: SparkSession) -> None:
    table = spark.createDataFrame([(day_number(DATES[0]), 1, 5)], "day int, value bigint, impressions bigint")
    (found,) = drifts([DailyCounts(table, {DATES[0]: 5, DATES[1]: 0})], DATES[1])
    assert found[DATES[1]].divergence is None
    assert found[DATES[0]].divergence is None


def test_what_others_held_is_counted_of_the_rows_themselves(spark: SparkSession, tmp_path: Path) -> None:
    """A number that varied within one bin, one that did within its boundaries, a list, a string, and a constant."""
    spec = FeatureSpec.model_validate(
        {
            "name": "others",
            "label": "clicked",
            "timestamp": "at",
            "fields": [
                {"name": "range", "column": "price", "boundaries": [1, 50]},
                {"name": "tags", "multi_valued": True},
                {"name": "kind"},
            ],
            "dense": [{"name": "seconds"}, {"name": "still"}],
        }
    )

    def write(day: str, others: int) -> None:
        """The first rows hold others."""
        at = datetime.fromisoformat(day).replace(tzinfo=UTC)
        rows = [
            {"clicked": n % 2, "at": at, "price": 7.0 + n * (n < others), "tags": ["a"] if n < others else ["a", "b"]}
            | {"kind": None if n < others else "k", "seconds": 1.7e9 + n * (n < others), "still": 1.0}
            for n in range(1, 201)
        ]
        (tmp_path / f"date={day}").mkdir(exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / f"date={day}" / "0.parquet")

    for day, others in zip(DATES, (3, 101, 1), strict=True):
        write(day, others)
    logs = check_logs(str(tmp_path), DATES, spec)
    aggregate = AggregateManifest(files=(), spec_fingerprint="", date=DATES[0], rows=200, positives=100)
    found = profiles(spark, spec, str(tmp_path / "out"), logs).values()
    *reference, newest = (Day(log, aggregate, profile) for log, profile in zip(logs, found, strict=True))
    shares = shares_of_others(spark, spec, newest, reference)
    assert shares == {name: {DATES[0]: 0.01, DATES[1]: 0.5} for name in ("price", "tags", "kind", "seconds")}
    gone = [replace(day, log=replace(day.log, gone=True)) for day in reference]
    assert shares_of_others(spark, spec, newest, [gone[0], reference[1]])["price"] == {DATES[1]: 0.5}
    assert shares_of_others(spark, spec, newest, gone) == {}
