"""Fitting the encoder's state: ids for ever, boundaries that only the rows decide."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from nightjar.features.contract.manifests import StateManifest
from nightjar.features.contract.publishing import read_manifest
from nightjar.features.contract.spec import CategoricalField, DenseFeature
from nightjar.features.counts.rollup import admissions
from nightjar.features.dataset.build import BuildDates, build, plan_build
from nightjar.features.encoder.dense import Moments
from nightjar.features.encoder.encoder import FIRST_ID
from nightjar.features.encoder.hashing import hash_strings
from nightjar.features.encoder.state import load_state
from nightjar.features.fit.fitting import quantile_boundaries
from nightjar.features.fit.moments import fit_moments
from nightjar.features.fit.vocabularies import with_ids
from nightjar.features.input.folders import check_logs
from nightjar.features.spark.tables import ROWS_PER_FILE, Destination, dealt
from tests.kits.feature_logs import SPEC, days, make_day, write_day, write_logs

Daily = dict[int, Counter[str]]


def daily_counts(seed: int) -> Daily:
    rng = random.Random(seed)
    return {day: Counter(f"v{int(rng.expovariate(0.01))}" for _ in range(400)) for day in (3, 4, 6, 7)}


def fit(spark: SparkSession, daily: Daily, policy: CategoricalField) -> dict[str, tuple[int, int]]:
    """Id and impressions of each value that is not retired."""
    values = [(day, value, n) for day, counts in daily.items() for value, n in counts.items()]
    random.Random(len(values)).shuffle(values)
    table = pa.table(
        {
            "table": pa.array([1] * len(values), pa.int32()),
            "day": pa.array([day for day, _, _ in values], pa.int32()),
            "hash": hash_strings([value for _, value, _ in values]),
            "value": [value for _, value, _ in values],
            "impressions": [n for _, _, n in values],
            "admitted": pa.nulls(len(values), pa.int32()),
            "at_admission": pa.nulls(len(values), pa.int64()),
            "last": pa.array([day for day, _, _ in values], pa.int32()),
        }
    )
    # Sized as if it were large, so that it has several parts.
    counts = dealt(
        spark.createDataFrame(table), [Destination("", "", 1), Destination("", "", 5 * ROWS_PER_FILE)], "hash"
    )
    known = admissions(counts, [1, policy.min_count])
    found = with_ids(known, [CategoricalField(name="other"), policy], max(daily)).toArrow().to_pylist()
    assert all(hash_strings([row["value"]])[0] == row["hash"] for row in found)
    return {row["value"]: (row["id"], row["impressions"]) for row in found}


def by_hand(daily: Mapping[int, Counter[str]], policy: CategoricalField) -> dict[str, tuple[int, int]]:
    """Night after night: the most frequent newcomers of a day as far as there is room, in the order of hashes."""
    ids: dict[str, int] = {}
    seen: Counter[str] = Counter()
    last: dict[str, int] = {}
    for day in sorted(daily):
        seen += daily[day]
        last |= dict.fromkeys(daily[day], day)
        newcomers = [value for value, n in seen.items() if n >= policy.min_count and value not in ids]
        hashes = dict(zip(newcomers, hash_strings(newcomers).tolist(), strict=True))
        room = None if policy.max_size is None else policy.max_size - len(ids)
        chosen = sorted(newcomers, key=lambda v: (-seen[v], hashes[v]))[:room]
        for value in sorted(chosen, key=lambda v: hashes[v]):
            ids[value] = 1 + policy.oov_buckets + len(ids)
    unseen_for = {value: max(daily) - day for value, day in last.items()}
    kept = [v for v in ids if policy.retire_after_days is None or unseen_for[v] < policy.retire_after_days]
    return {value: (ids[value], seen[value]) for value in kept}


@pytest.mark.parametrize(
    "policy",
    [
        {"min_count": 1},
        {"min_count": 3, "oov_buckets": 5},
        {"min_count": 1, "max_size": 40},
        {"min_count": 2, "max_size": 215, "retire_after_days": 3},
    ],
    ids=str,
)
def test_all_days_at_once_give_the_ids_that_night_after_night_gives(
    spark: SparkSession, policy: dict[str, int]
) -> None:
    daily, field = daily_counts(len(policy)), CategoricalField.model_validate({"name": "f"} | policy)
    tonight, last_night = by_hand(daily, field), by_hand({day: daily[day] for day in (3, 4, 6)}, field)
    assert fit(spark, daily, field) == tonight
    assert fit(spark, {day: daily[day] for day in (3, 4, 6)}, field) == last_night
    assert all(tonight[value][0] == number for value, (number, _) in last_night.items() if value in tonight)
    if "retire_after_days" in policy:
        assert last_night.keys() - tonight.keys(), "or nothing was retired"
        assert tonight.keys() & daily[3].keys() - daily[4].keys() - daily[6].keys(), "or nothing came back"
    if "max_size" in policy:
        assert len({number for number, _ in tonight.values()}) <= policy["max_size"] < len(set().union(*daily.values()))


def test_boundaries_are_the_quantiles_of_the_known_values(spark: SparkSession, tmp_path: Path) -> None:
    dates = days("2026-03-01", 2)
    spec = SPEC.model_copy(update={"dense": SPEC.dense[:1]})
    logs = write_logs(tmp_path / "logs", dates, rows=70)
    partitions = check_logs(str(logs), dates, spec)
    prices = [p for day in dates for p in make_day(day, 70)["price"].to_pylist() if p is not None and p == p]
    expected = np.percentile(np.clip(prices, -1.7976931348623157e308, 1.7976931348623157e308), [20, 40, 60, 80])
    np.testing.assert_allclose(quantile_boundaries(spark, spec, partitions)["price"], expected, rtol=1e-12)


def test_moments_are_those_of_the_finite_values_whatever_way_the_log_is_cut(
    spark: SparkSession, tmp_path: Path
) -> None:
    rng = np.random.default_rng(3)
    columns = {
        "far": rng.normal(1e15, 2.0, 1000),
        "outlier": np.append(rng.normal(size=999), 1.7e308),
        "widest": np.where(rng.random(1000) < 0.5, 1.7976931348623157e308, -1.7976931348623157e308),
        "flat": np.full(1000, 0.1),
        "none": np.full(1000, np.nan),
    }
    table = make_day("2026-03-01", 1000)
    for name, values in columns.items():
        values[:4] = np.nan, np.inf, -np.inf, np.nan
        table = table.append_column(name, pa.array(values, mask=np.arange(1000) == 3))
    dense = tuple(DenseFeature(name=name, transform="standardise") for name in columns)
    spec = SPEC.model_copy(update={"dense": dense})
    fitted = []
    for name, files, order in (("a", 1, slice(None)), ("b", 3, slice(None, None, -1))):
        write_day(tmp_path / name, "2026-03-01", table.take(np.arange(1000)[order]), files)
        fitted.append(fit_moments(spark, spec, check_logs(str(tmp_path / name), ["2026-03-01"], spec)))
    assert fitted[0] == fitted[1]
    assert fitted[0].pop("none") == Moments(0.0, 0.0)
    assert fitted[0]["flat"] == Moments(0.1, 0.0)
    for name, found in fitted[0].items():
        exact = [Fraction(x) for x in columns[name][4:].tolist()]
        mean = sum(exact) / len(exact)
        variance = sum((x - mean) ** 2 for x in exact) / len(exact)
        # Exact arithmetic, since squares of the largest doubles are none.
        error = abs(Fraction(found.mean) - mean)
        assert error**2 <= variance / 10**16 or error <= Fraction(math.ulp(found.mean)), name
        assert abs(Fraction(found.deviation) ** 2 - variance) <= variance / 10**8, name


def test_boundaries_of_a_sample_do_not_depend_on_how_the_log_is_cut(spark: SparkSession, tmp_path: Path) -> None:
    spec = SPEC.model_copy(update={"dense": SPEC.dense[:1]})
    table = make_day("2026-03-01", 4000)
    uniform = np.random.default_rng(5).random(4000)
    table = table.set_column(table.column_names.index("price"), "price", pa.array(uniform))
    fitted = []
    for name, files, order in (("a", 1, slice(None)), ("b", 3, slice(None, None, -1))):
        write_day(tmp_path / name, "2026-03-01", table.take(np.arange(4000)[order]), files)
        partitions = check_logs(str(tmp_path / name), ["2026-03-01"], spec)
        fitted.append(quantile_boundaries(spark, spec, partitions, sample_rows=1000)["price"])
    assert fitted[0] == fitted[1]
    # Four standard deviations of a quantile's rank in a sample of about 1000 rows.
    np.testing.assert_allclose(fitted[0], [0.2, 0.4, 0.6, 0.8], atol=4 * 0.5 / 1000**0.5)


def test_columns_without_a_single_value_can_be_fitted(spark: SparkSession, tmp_path: Path) -> None:
    spec = SPEC.model_copy(
        update={"fields": SPEC.fields[:2], "dense": SPEC.dense[:1], "crosses": (), "frequencies": ()}
    )
    table = make_day("2026-03-01", 5)
    for name in ("user", "price"):
        index = table.column_names.index(name)
        table = table.set_column(index, name, pa.nulls(5, table.schema.field(name).type))
    write_day(tmp_path / "logs", "2026-03-01", table)
    plan = plan_build(
        spec, str(tmp_path / "logs"), str(tmp_path / "out"), BuildDates(train_from="2026-03-01", train_to="2026-03-01")
    )
    built = build(spark, plan)
    manifest = read_manifest(built.state_dir, StateManifest)
    assert manifest.vocabulary_sizes["user"] == FIRST_ID
    assert manifest.boundaries["price"] == (0.0, 0.0, 0.0, 0.0)
    assert load_state(built.state_dir, manifest).encoder.vocabularies["user"].size == FIRST_ID
    data = pa.concat_tables([pq.ParquetFile(path).read() for path in Path(built.train_dir, "data").iterdir()])
    assert data["f_user"].to_pylist() == [0] * 5
    assert data["d_price_missing"].to_pylist() == [1.0] * 5
