"""Rows are drawn, not distinct rows: a log with a timestamp of a day and no unique id against binomial expectations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from scipy import stats

from nightjar.features.contract.artifact_files import GOLDEN_RAW
from nightjar.features.contract.categorical import AdmitByPoisson
from nightjar.features.contract.manifests import DatasetManifest
from nightjar.features.contract.publishing import read_manifest
from nightjar.features.contract.spec import FeatureSpec
from nightjar.features.counts.conjunctions import counted_conjunctions
from nightjar.features.dataset.build import build
from nightjar.features.dataset.plan import BuildDates, BuildSettings, plan_build
from nightjar.features.dataset.sampling import sample_negatives
from nightjar.features.fit.fitting import quantile_boundaries
from nightjar.features.input.folders import check_logs, read_logs
from nightjar.features.spark.equal_rows import with_unique_hashes
from nightjar.features.spark.rows import ROW_HASH, hashed
from nightjar.features.spark.tables import DAY

DAYS = ("2026-03-01", "2026-03-02")
GROUPS = 60


def spec_of(**more: Any) -> FeatureSpec:
    return FeatureSpec.model_validate(
        {"name": "t", "label": "y", "timestamp": "at", "fields": [{"name": "ad"}, {"name": "country"}], **more}
    )


def copies(sizes: np.ndarray, seed: int, positives: float = 0.0) -> pa.Table:
    """sizes[g] rows of group g in a random order, equal but for their labels."""
    rng = np.random.default_rng(seed)
    group = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    return pa.table(
        {
            "y": (rng.random(len(group)) < positives).astype(np.int32),
            "at": pa.array(np.full(len(group), np.datetime64(f"{DAYS[0]}T12:00", "us"))),
            "ad": group + 1000 * seed,
            "country": np.where(group % 2, "de", "fr"),
        }
    )


def write_day(root: Path, day: str, rows: pa.Table, files: int = 1) -> None:
    folder = root / f"date={day}"
    folder.mkdir(parents=True)
    step = -(-len(rows) // files)
    for n in range(files):
        pq.write_table(rows.slice(n * step, step), folder / f"{n}.parquet")


def hashed_rows(spark: SparkSession, root: Path, rows: pa.Table, spec: FeatureSpec) -> DataFrame:
    write_day(root, DAYS[0], rows, files=3)
    return hashed(read_logs(spark, check_logs(str(root), DAYS[:1], spec))[0], spec, keep=("ad",))


def assert_binomial(kept: np.ndarray, sizes: np.ndarray, rate: float) -> None:
    """Each group's number by itself, and all of them together: chi square over the groups."""
    squares = (kept - sizes * rate) ** 2 / (sizes * rate * (1 - rate))
    assert 1e-6 < stats.chi2.sf(squares.sum(), len(sizes)) < 1 - 1e-6
    assert stats.chi2.sf(squares.max(), 1) * len(sizes) > 1e-6


def test_a_row_without_an_equal_keeps_its_hash_and_every_copy_has_its_own(spark: SparkSession) -> None:
    rows = spark.createDataFrame(
        [(1, "a", -0.0), (1, "a", 0.0), (1, "a", -0.0), (2, "b", 1.0)], f"`{ROW_HASH}` bigint, name string, x double"
    )

    def told_apart(partitions: int) -> list[tuple[Any, ...]]:
        table = with_unique_hashes(rows.repartition(partitions)).withColumn("x", F.col("x").cast("string"))
        return sorted(map(tuple, table.collect()))

    found = told_apart(1)
    assert found == told_apart(3)
    assert len({row[0] for row in found}) == 4
    assert {row[0] for row in found if row[1] == "b"} == {2}
    assert [row[0] for row in found if row[1] == "a"].count(1) == 1
    alone = rows.where("name = 'b'")
    assert with_unique_hashes(alone) is alone
    assert with_unique_hashes(rows.where("false")).count() == 0


@pytest.mark.parametrize("seed", [1, 2])
def test_a_share_of_the_copies_is_kept_in_every_group(spark: SparkSession, tmp_path: Path, seed: int) -> None:
    sizes = np.random.default_rng(seed).integers(50, 800, GROUPS)
    spec = spec_of(sampling={"negatives": 0.5})
    rows = with_unique_hashes(hashed_rows(spark, tmp_path, copies(sizes, seed), spec)).cache()
    for rate in (0.02, 0.1, 0.5):
        kept = sample_negatives(rows, spec_of(sampling={"negatives": rate})).groupBy("ad").count().collect()
        counts = {row["ad"] - 1000 * seed: row["count"] for row in kept}
        assert_binomial(np.array([counts.get(group, 0) for group in range(GROUPS)]), sizes, rate)


def test_of_request_wise_sampling_copies_without_a_request_are_units_and_a_request_stays_whole(
    spark: SparkSession, tmp_path: Path
) -> None:
    sizes, spec = np.full(GROUPS, 400), spec_of(sampling={"negatives": 0.2, "request": "request"})
    rows = copies(sizes, seed=3)
    number = np.arange(len(rows))
    request = [None if n % 2 else f"r{n // 8}" for n in number]  # four rows each, which may be equal
    table = with_unique_hashes(hashed_rows(spark, tmp_path, rows.append_column("request", pa.array(request)), spec))
    kept = sample_negatives(table, spec).select("ad", "row:request").toPandas()
    alone = kept[kept["row:request"] == 42].groupby("ad").size().reindex(np.arange(GROUPS) + 3000, fill_value=0)
    without = np.bincount(rows.column("ad").to_numpy()[1::2] - 3000, minlength=GROUPS)
    assert_binomial(alone.to_numpy(), without, 0.2)
    whole = kept[kept["row:request"] != 42].groupby("row:request").size()
    assert set(whole) == {4}
    assert_binomial(np.array([len(whole)]), np.array([len(rows) // 8]), 0.2)


@pytest.mark.parametrize(("seed", "probability"), [(0, 0.01), (7, 0.1), (8, 0.5)])
def test_poisson_inclusion_draws_every_copy(spark: SparkSession, tmp_path: Path, seed: int, probability: float) -> None:
    sizes = np.random.default_rng(seed).integers(300, 900, GROUPS)
    admission = {"by": "poisson", "probability": probability, "seed": seed}
    spec = spec_of(crosses=[{"name": "c", "fields": ["ad", "country"], "admission": admission, "buckets": 1024}])
    assert isinstance(spec.crosses[0].admission, AdmitByPoisson)
    rows = with_unique_hashes(hashed_rows(spark, tmp_path, copies(sizes, seed), spec))
    drawn = rows.groupBy("ad").agg(F.count(counted_conjunctions(spec.crosses[0], spec)).alias("n")).orderBy("ad")
    assert_binomial(np.array([row["n"] for row in drawn.collect()]), sizes, probability)


def test_quantiles_of_a_sample_follow_the_rows_and_not_the_distinct_ones(spark: SparkSession, tmp_path: Path) -> None:
    """Three values in 60,000 rows: their shares move by 0.03 (six sigma) in a sample of 10,000."""
    sizes = np.array([30_000, 18_000, 12_000])
    spec = spec_of(dense=[{"name": "ad_number", "column": "ad", "quantiles": 100}])
    write_day(tmp_path, DAYS[0], copies(sizes, seed=0), files=2)
    partitions = check_logs(str(tmp_path), DAYS[:1], spec)
    boundaries = np.array(quantile_boundaries(spark, spec, partitions, sample_rows=10_000)["ad_number"])
    shares = np.bincount(boundaries.astype(int), minlength=3) / len(boundaries)
    np.testing.assert_allclose(shares, sizes / sizes.sum(), atol=0.03)


def test_a_data_set_of_copies_is_spread_over_its_files_with_distinct_golden_rows(
    spark: SparkSession, tmp_path: Path
) -> None:
    sizes = np.full(6, 600)
    settings = BuildSettings(min_files=8)
    made = []
    for files in (1, 5):  # another cut of the same rows gives the same bytes
        root = tmp_path / str(files)
        for day in DAYS:
            write_day(root / "logs", day, copies(sizes, seed=4, positives=0.1), files)
        plan = plan_build(
            spec_of(sampling={"negatives": 0.5}),
            *(str(root / "logs"), str(root / "out")),
            BuildDates(train_from=DAYS[0], train_to=DAYS[0], holdout=DAYS[1]),
            settings,
        )
        made.append(build(spark, plan))
    manifests = [[read_manifest(d, DatasetManifest) for d in (b.train_dir, str(b.holdout_dir))] for b in made]
    assert [m.data_files for m in manifests[0]] == [m.data_files for m in manifests[1]]
    assert {m.rows for m in (of[1] for of in manifests)} == {sizes.sum()}
    spread = np.array([entry.rows for entry in manifests[0][1].data_files])
    assert len(spread) == 8
    assert stats.chisquare(spread).pvalue > 1e-6
    golden = pq.read_table(Path(str(made[0].holdout_dir), GOLDEN_RAW)).to_pylist()
    assert len(golden) == len({tuple(row.values()) for row in golden}) == 6 or len(golden) == 12  # by label, too
    assert DAY not in golden[0]
