"""The simulated log is what it claims to be: reproducible, calibrated, and made of parts that each matter."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
import xxhash
from scipy.special import expit, xlogy
from sklearn.metrics import roc_auc_score

from nightjar.features.encoder.hashing import hash_long

pytest.importorskip("pyspark")

from pyspark.sql import functions as F

from nightjar.jobs.imports.bayes_floor import bayes_floor
from nightjar.jobs.imports.simulation import impressions, impressions_with_parts, pair_effect
from nightjar.jobs.imports.simulation_config import LOG_COLUMNS, LOGIT_PARTS, SimulationConfig

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

CONFIG = SimulationConfig(rows_per_day=20_000)
DAY = 3
SCHEMA = {
    "impression_id": "bigint", "timestamp": "timestamp", "user_id": "string", "country": "string",
    "language": "string", "device": "string", "age": "double", "installed_apps": "array<string>",
    "hour": "int", "weekday": "int", "app_id": "string", "app_category": "string", "app_age_days": "double",
    "app_price": "double", "position": "int", "installed": "int", "true_probability": "double",
    "date": "date",
}  # fmt: skip


@pytest.fixture(scope="module")
def day(spark: SparkSession) -> pd.DataFrame:
    """20,000 impressions of DAY with the parts of their logits."""
    return impressions_with_parts(spark.range(0, CONFIG.rows_per_day, 1, 4), CONFIG, DAY).toPandas()


def numbers(ids: pd.Series) -> np.ndarray:
    return ids.str[1:].to_numpy().astype(np.int64)


def logit(day: pd.DataFrame) -> np.ndarray:
    return day[[f"logit_{part}" for part in LOGIT_PARTS]].to_numpy().sum(axis=1)


def cross_entropy(p: np.ndarray, q: np.ndarray) -> float:
    """Expected log loss of the prediction q when the true probability is p."""
    return float(-(xlogy(p, q) + xlogy(1 - p, 1 - q)).mean())


def test_log_has_the_promised_columns_and_types(spark):
    log = impressions(spark.range(1), CONFIG, DAY)
    assert {field.name: field.dataType.simpleString() for field in log.schema} == SCHEMA
    assert tuple(log.columns) == LOG_COLUMNS


def test_rows_do_not_depend_on_partitions_or_on_the_other_rows(spark, day):
    alone = impressions_with_parts(spark.range(700, 900, 1, 1), CONFIG, DAY).toPandas()
    together = day[day.impression_id.isin(alone.impression_id)].reset_index(drop=True)
    pd.testing.assert_frame_equal(alone, together, check_exact=True)


def test_another_seed_gives_another_log(spark, day):
    other = impressions(spark.range(0, 300, 1, 1), CONFIG.model_copy(update={"seed": 8}), DAY).toPandas()
    same = day.iloc[:300]
    for column in ("user_id", "app_id", "true_probability", "timestamp"):
        assert (other[column] == same[column]).mean() < 0.1, column


def test_true_probability_is_the_logistic_of_the_sum_of_the_parts(day):
    np.testing.assert_allclose(day.true_probability, expit(logit(day)), rtol=1e-13)


def test_label_is_a_draw_of_the_seed_the_day_and_the_row_against_the_true_probability(day):
    of_seed = int(hash_long(np.array([CONFIG.seed])).view(np.uint64)[0])
    of_tag = np.array([xxhash.xxh64_intdigest(b"label", of_seed)], dtype=np.uint64).view(np.int64)
    hashed = hash_long(np.arange(len(day)), hash_long(np.array([DAY]), of_tag))
    uniform = (hashed.view(np.uint64) >> np.uint64(11)) * 2.0**-53
    np.testing.assert_array_equal(day.installed, uniform < day.true_probability)


def test_labels_agree_with_the_true_probability_overall_and_in_every_decile(day):
    deciles = pd.qcut(day.true_probability, 10, labels=False)
    for _, rows in [("all", day), *day.groupby(deciles)]:
        p = rows.true_probability
        sigma = np.sqrt((p * (1 - p)).sum())
        assert abs(rows.installed.sum() - p.sum()) < 4 * sigma


def test_pair_part_is_the_clipped_sum_of_the_effects_of_the_users_apps_on_the_shown_app(spark, day):
    size = CONFIG.truth.pair_apps + 2
    grid = spark.range(size * size).select(F.floor(F.col("id") / size).alias("i"), (F.col("id") % size).alias("a"))
    table = np.zeros((size, size))
    for row in grid.select("i", "a", pair_effect(CONFIG, F.col("i"), F.col("a")).alias("effect")).collect():
        table[row.i, row.a] = row.effect

    assert not table[CONFIG.truth.pair_apps :].any()
    assert not table[:, CONFIG.truth.pair_apps :].any()
    assert (np.diag(table)[: CONFIG.truth.pair_apps] == -CONFIG.truth.pair_effect).all()
    assert (table != 0).mean() == pytest.approx(CONFIG.truth.pair_share, abs=0.03)

    def effect(installed: list[str], shown: int) -> float:
        return float(sum(table[i, shown] for i in (int(app[1:]) for app in installed) if max(i, shown) < size))

    sums = [effect(i, a) for i, a in zip(day.installed_apps, numbers(day.app_id), strict=True)]
    np.testing.assert_allclose(
        day.logit_pairs, np.clip(sums, -CONFIG.truth.pair_clip, CONFIG.truth.pair_clip), atol=1e-12
    )


@pytest.mark.parametrize(
    ("part", "at_least"), [("pairs", 0.02), ("latent", 0.03), ("drift", 0.008), ("quality", 0.006)]
)
def test_an_oracle_without_a_part_loses_materially(day, part, at_least):
    without = logit(day) - day[f"logit_{part}"] + day[f"logit_{part}"].mean()
    p = day.true_probability.to_numpy()
    assert cross_entropy(p, expit(without)) - cross_entropy(p, p) > at_least


def test_floor_is_the_entropy_and_the_auc_of_the_true_probability(spark, day):
    p, y = day.true_probability.to_numpy(), day.installed.to_numpy()
    floor = bayes_floor(spark.createDataFrame(day[["installed", "true_probability"]]))
    assert floor.rows == len(day)
    assert floor.label_rate == pytest.approx(y.mean(), rel=1e-12)
    assert floor.log_loss == pytest.approx(cross_entropy(p, p), rel=1e-12)
    assert floor.normalized_entropy == pytest.approx(floor.log_loss / cross_entropy(p, np.full_like(p, p.mean())))
    assert floor.auc == pytest.approx(roc_auc_score(y, p), abs=2e-4)


def test_defaults_make_a_log_worth_learning(day):
    p = day.true_probability.to_numpy()
    assert 0.15 < p.mean() < 0.25
    assert 0.75 < cross_entropy(p, p) / cross_entropy(p, np.full_like(p, p.mean())) < 0.85
    assert 0.77 < roc_auc_score(day.installed, p) < 0.84


def test_new_users_and_apps_arrive_every_day(day):
    users, apps = numbers(day.user_id), numbers(day.app_id)
    assert users.min() >= 0
    assert CONFIG.users_on(DAY - 1) <= users.max() < CONFIG.users_on(DAY)
    assert apps.min() >= 0
    assert CONFIG.apps_on(DAY - 1) <= apps.max() < CONFIG.apps_on(DAY)
    launched_today = apps >= CONFIG.apps_on(DAY - 1)
    assert (day.app_age_days[launched_today] == 0).all()
    launched_yesterday = (apps >= CONFIG.apps_on(DAY - 2)) & ~launched_today
    assert (day.app_age_days[launched_yesterday] == 1).all()
    assert (day.app_age_days[apps < CONFIG.apps] >= DAY).all()


def test_users_and_apps_keep_their_attributes_while_an_apps_popularity_drifts(spark, day):
    later = impressions_with_parts(spark.range(0, 3_000, 1, 2), CONFIG, DAY + 4).toPandas()
    for key, attributes in (
        ("user_id", ["country", "language", "device", "age"]),
        ("app_id", ["app_category", "app_price"]),
    ):
        both = pd.concat([day, later])
        assert (both.groupby(key)[attributes].nunique(dropna=False) == 1).all(axis=None)
    drift = pd.concat([frame.groupby("app_id").logit_drift.first() for frame in (day, later)], axis=1).dropna()
    assert (drift.iloc[:, 0] != drift.iloc[:, 1]).all()
    assert drift.diff(axis=1).iloc[:, 1].std() > 0.2


def test_values_are_sane(day):
    assert day.impression_id.is_unique
    assert day.notna().all()[[c for c in LOG_COLUMNS if c not in ("language", "age")]].all()
    assert 0.01 < day.language.isna().mean() < 0.06
    assert 0.04 < day.age.isna().mean() < 0.12
    assert day.age.min() >= 13
    assert day.installed_apps.map(lambda apps: len(apps) <= 12 and len(set(apps)) == len(apps)).all()
    assert (day.installed_apps.map(len) == 0).mean() > 0.03
    assert (numbers(day.installed_apps.explode().dropna()) < CONFIG.apps).all()
    assert set(day.position) == set(range(1, 11))
    assert (day.app_price >= 0).all()
    assert 0.4 < (day.app_price == 0).mean() < 0.9
    assert (day.timestamp.dt.date == CONFIG.date_of(DAY)).all()
    assert (day.date == CONFIG.date_of(DAY)).all()
    assert (day.timestamp.dt.hour == day.hour).all()
    assert day.hour.nunique() == 24
    assert (day.weekday == CONFIG.date_of(DAY).weekday()).all()


def test_no_feature_gives_the_truth_away(day):
    features = [c for c in LOG_COLUMNS if c not in ("installed", "true_probability")]
    numeric = day[features].select_dtypes("number").drop(columns="weekday")
    assert numeric.corrwith(day.true_probability).abs().max() < 0.5
    assert numeric.corrwith(day.installed).abs().max() < 0.5


def test_installed_apps_tell_about_a_users_taste(day):
    """Where the share of the user's list in the shown app's category is high, installs are more likely."""
    category = numbers(day.app_id) % 16
    same = np.array(
        [any(int(i[1:]) % 16 == c for i in apps) for apps, c in zip(day.installed_apps, category, strict=True)]
    )
    assert day.logit_latent[same].mean() - day.logit_latent[~same].mean() > 0.4
