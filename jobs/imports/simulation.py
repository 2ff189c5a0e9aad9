"""App-store impression logs with a known truth.

A log row is a pure function of (seed, day, row): every draw is an xxhash64 of the seed, a tag that names the
draw and the ids that it belongs to. Users and apps are never stored; their attributes are functions of their
ids. The same seed therefore gives the same rows whatever the partitioning, the number of days or of machines.

The truth, for user u, app a, day d, position k and hour h (all parts in logits):

    P(installed) = sigmoid(base + context + quality + drift + latent + pairs + dense)

    base     truth.bias
    context  -truth.position_effect * ln(k) + truth.hour_effect * cos(2 pi (h - 20) / 24)
    quality  truth.user_scale * N(u) + truth.quality_scale * N(a): how often u installs, how good a is
    drift    truth.drift_scale * (sin(2 pi (d / T1(a) + f1(a))) + sin(2 pi (d / T2(a) + f2(a)))), with T1 in
             [8, 16] and T2 in [20, 40] days: yesterday's install rate predicts today's, last month's does not
    latent   truth.latent_scale * <p_u, q_a> / sqrt(D): taste, D = 4. p_u mixes a demographic vector (country,
             device and a wave of age with a period of 20 to 41 years) with the user's own; q_a mixes the
             category's with the app's own
    pairs    sum over installed apps i of effect(i, a), clipped to +-truth.pair_clip: for the truth.pair_apps
             most popular apps, effect(i, a) is +-truth.pair_effect for a share truth.pair_share of the pairs
             (i, a), -truth.pair_effect for i = a, else 0. No attribute tells which: they must be memorised
    dense    0.4 exp(-age of the app in days / 14) - 0.25 ln(1 + price) - 0.008 (age of the user - 34)

N(.) is a standard normal draw by id. A user's list of installed apps leans to the categories that suit the
user's taste, so that it tells about p_u; an impression shows the better (by drift) of two candidate apps.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from nightjar.jobs.imports.draws import Draws, choice, pick, total_of
from nightjar.jobs.imports.simulation_config import (
    AGE_WAVE_YEARS,
    CATEGORIES,
    CATEGORY_SHARE,
    COUNTRIES,
    DEMOGRAPHIC_SHARE,
    DEVICES,
    HOUR_WEIGHTS,
    LANGUAGES,
    LATENT_DIM,
    LIST_SLOTS,
    LOG_COLUMNS,
    LOGIT_PARTS,
    POSITIONS,
    ROWS_PER_DAY_LIMIT,
    SimulationConfig,
)


def impressions(rows: DataFrame, config: SimulationConfig, day: int) -> DataFrame:
    """The log of one day.

    In:  rows.id (bigint), the row numbers wanted: 0 to config.rows_per_day, exclusive, for the whole day.
    Out: LOG_COLUMNS, one row for each of `rows`. `installed` is the label; `true_probability` is its true
         probability, which no feature may read; `weekday` is 0 on Mondays; times are UTC. `language` and
         `age` are null for some users, everything else never is.
    """
    return impressions_with_parts(rows, config, day).select(*LOG_COLUMNS)


def impressions_with_parts(rows: DataFrame, config: SimulationConfig, day: int) -> DataFrame:
    """`impressions` plus a double column logit_<part> for each of LOGIT_PARTS; they sum to the true logit."""
    draws = Draws(config.seed)
    shown = _with_impression(rows, config, day, draws)
    known = _with_app(_with_user(shown, config, draws), config, day, draws)
    return _with_label(_with_logit_parts(known, config, draws), config, day, draws)


def pair_effect(config: SimulationConfig, installed: Column, shown: Column) -> Column:
    """effect(i, a) in logits (double) of an installed app on a shown app, both given by number (bigint)."""
    truth = config.truth
    u = Draws(config.seed).uniform("pair", installed, shown)
    drawn = (
        F.when(u < truth.pair_share / 2, truth.pair_effect)
        .when(u < truth.pair_share, -truth.pair_effect)
        .otherwise(0.0)
    )
    popular = (installed < truth.pair_apps) & (shown < truth.pair_apps)
    return F.when(popular, F.when(installed == shown, -truth.pair_effect).otherwise(drawn)).otherwise(0.0)


def _with_impression(rows: DataFrame, config: SimulationConfig, day: int, draws: Draws) -> DataFrame:
    """Append what is drawn for each row: user, app, time, position and the uniform that decides the label."""
    row, today = F.col("id"), F.lit(day).cast("long")
    midnight = int(datetime.combine(config.date_of(day), datetime.min.time(), UTC).timestamp())

    def uniform(tag: str) -> Column:
        return draws.uniform(tag, today, row)

    def candidate(which: str) -> Column:
        u, active = uniform(f"app/{which}"), config.apps_on(day)
        recent = active - 1 - F.floor(u * min(config.recent_apps, active))
        popular = F.floor(F.pow(u, F.lit(config.app_skew)) * active)
        return F.when(uniform(f"app/{which}/recent") < config.recent_share, recent).otherwise(popular)

    return (
        rows.select(
            row,
            (F.lit(day * ROWS_PER_DAY_LIMIT).cast("long") + row).alias("impression_id"),
            F.floor(F.pow(uniform("user"), F.lit(config.user_skew)) * config.users_on(day)).alias("user"),
            candidate("first").alias("first"),
            candidate("second").alias("second"),
            choice(uniform("hour"), HOUR_WEIGHTS).alias("hour"),
            F.floor(uniform("second_of_hour") * 3600).alias("second_of_hour"),
            (F.floor(uniform("position") * POSITIONS) + 1).cast("int").alias("position"),
            uniform("label").alias("u_label"),
        )
        .withColumn("first_drift", _drift(F.col("first"), day, config, draws))
        .withColumn("second_drift", _drift(F.col("second"), day, config, draws))
        .select(
            "impression_id",
            "user",
            "hour",
            "position",
            "u_label",
            F.when(F.col("first_drift") >= F.col("second_drift"), F.col("first"))
            .otherwise(F.col("second"))
            .alias("app"),
            F.greatest("first_drift", "second_drift").alias("drift"),
            F.timestamp_seconds(F.lit(midnight) + F.col("hour") * 3600 + F.col("second_of_hour")).alias("timestamp"),
        )
    )


def _drift(app: Column, day: int, config: SimulationConfig, draws: Draws) -> Column:
    def wave(which: str, shortest: float, longest: float) -> Column:
        period = shortest + (longest - shortest) * draws.uniform(f"drift/{which}/period", app)
        return F.sin(2 * math.pi * (F.lit(float(day)) / period + draws.uniform(f"drift/{which}/phase", app)))

    return config.truth.drift_scale * (wave("fast", 8.0, 16.0) + wave("slow", 20.0, 40.0))


def _with_user(shown: DataFrame, config: SimulationConfig, draws: Draws) -> DataFrame:
    """Append the user's attributes, taste p0..p3 and installed apps (by number), all functions of `user`."""
    user = F.col("user")

    def uniform(tag: str) -> Column:
        return draws.uniform(f"user/{tag}", user)

    country_weights, device_weights = [w for *_, w in COUNTRIES], [w for _, w in DEVICES]
    demographics = shown.withColumns(
        {
            "country_index": choice(uniform("country"), country_weights),
            "device_index": choice(uniform("device"), device_weights),
            "true_age": F.floor(F.greatest(F.lit(13.0), F.lit(34.0) + 13.0 * draws.normal("user/age", user))),
        }
    )
    taste = {}
    for k, years in enumerate(AGE_WAVE_YEARS):
        country = pick(F.col("country_index"), draws.constants(f"country/{k}", country_weights))
        device = pick(F.col("device_index"), draws.constants(f"device/{k}", device_weights))
        wave = math.sqrt(2) * F.sin(F.col("true_age") * (2 * math.pi / years) + draws.phase(f"age/{k}"))
        demographic = (country + device + wave) * math.sqrt(DEMOGRAPHIC_SHARE / 3)
        taste[f"p{k}"] = demographic + math.sqrt(1 - DEMOGRAPHIC_SHARE) * draws.normal(f"user/taste/{k}", user)
    main_language = pick(F.col("country_index"), [language for _, language, _ in COUNTRIES])
    any_language = pick(F.floor(uniform("language/any") * len(LANGUAGES)).cast("int"), LANGUAGES)
    return (
        demographics.withColumns(taste)
        .withColumn("favourites", _favourite_categories(draws))
        .withColumns(
            {
                "user_id": F.concat(F.lit("u"), user.cast("string")),
                "country": pick(F.col("country_index"), [country for country, _, _ in COUNTRIES]),
                "language": F.when(
                    uniform("language/known") >= 0.03,
                    F.when(uniform("language/main") < 0.85, main_language).otherwise(any_language),
                ),
                "device": pick(F.col("device_index"), [device for device, _ in DEVICES]),
                "age": F.when(uniform("age/known") >= 0.08, F.col("true_age").cast("double")),
                "installed_numbers": _installed_numbers(user, config, draws),
            }
        )
        .withColumn(
            "installed_apps",
            F.transform("installed_numbers", lambda i: F.concat(F.lit("a"), i.cast("string"))),
        )
    )


def _favourite_categories(draws: Draws) -> Column:
    """The two categories that suit the taste p0..p3 best, best first: array<struct<score, index>>."""
    factors = category_factors(draws)
    scored = [
        F.struct(
            total_of([F.col(f"p{k}") * factors[k][c] for k in range(LATENT_DIM)]).alias("score"),
            F.lit(c).cast("long").alias("index"),
        )
        for c in range(len(CATEGORIES))
    ]
    return F.slice(F.sort_array(F.array(*scored), asc=False), 1, 2)


def _installed_numbers(user: Column, config: SimulationConfig, draws: Draws) -> Column:
    """Between 0 and LIST_SLOTS different apps, by number, in the order drawn: array<bigint>.

    App number n is of category n modulo the number of categories; an app chosen by taste is a popular app
    moved to a near number of a favourite category. Only apps of the first day are installed.
    """

    def slot(j: int) -> Column:
        number = F.lit(j).cast("long")
        popular = F.floor(F.pow(draws.uniform("list/app", user, number), F.lit(config.app_skew)) * config.apps)
        why = draws.uniform("list/why", user, number)
        category = (
            F.when(why < config.taste_share * 0.6, F.col("favourites")[0]["index"])
            .when(why < config.taste_share, F.col("favourites")[1]["index"])
            .otherwise(popular % len(CATEGORIES))
        )
        moved = popular - popular % len(CATEGORIES) + category
        return F.when(moved < config.apps, moved).otherwise(moved - len(CATEGORIES))

    length = F.floor(draws.uniform("list/length", user) * (LIST_SLOTS + 1)).cast("int")
    return F.array_distinct(F.slice(F.array(*[slot(j) for j in range(LIST_SLOTS)]), F.lit(1), length))


def _with_app(known: DataFrame, config: SimulationConfig, day: int, draws: Draws) -> DataFrame:
    """Append the shown app's attributes and factors q0..q3, all functions of `app` and the day."""
    app = F.col("app")
    factors = category_factors(draws)
    category = (app % len(CATEGORIES)).cast("int")
    before_the_log = F.floor(-400.0 * F.log1p(-draws.uniform("app/age", app))) + day
    since_launch = F.lit(day - 1).cast("long") - F.floor((app - config.apps) / max(config.apps_per_day, 1))
    price = F.round(F.exp(0.8 + 0.8 * draws.normal("app/price", app)), 2)
    columns = {
        "app_id": F.concat(F.lit("a"), app.cast("string")),
        "app_category": pick(category, CATEGORIES),
        "app_age_days": F.when(app < config.apps, before_the_log).otherwise(since_launch).cast("double"),
        "app_price": F.when(draws.uniform("app/free", app) < 0.65, 0.0).otherwise(price),
    }
    for k in range(LATENT_DIM):
        own = math.sqrt(1 - CATEGORY_SHARE) * draws.normal(f"app/factor/{k}", app)
        columns[f"q{k}"] = math.sqrt(CATEGORY_SHARE) * pick(category, factors[k]) + own
    return known.withColumns(columns)


def _with_logit_parts(known: DataFrame, config: SimulationConfig, draws: Draws) -> DataFrame:
    truth = config.truth
    pairs = F.aggregate("installed_numbers", F.lit(0.0), lambda total, i: total + pair_effect(config, i, F.col("app")))
    parts = {
        "base": F.lit(truth.bias),
        "context": truth.hour_effect * F.cos((F.col("hour") - 20) * (2 * math.pi / 24))
        - truth.position_effect * F.log(F.col("position").cast("double")),
        "quality": truth.user_scale * draws.normal("user/quality", F.col("user"))
        + truth.quality_scale * draws.normal("app/quality", F.col("app")),
        "drift": F.col("drift"),
        "latent": truth.latent_scale
        / math.sqrt(LATENT_DIM)
        * total_of([F.col(f"p{k}") * F.col(f"q{k}") for k in range(LATENT_DIM)]),
        "pairs": F.greatest(F.lit(-truth.pair_clip), F.least(F.lit(truth.pair_clip), pairs)),
        "dense": 0.4 * F.exp(F.col("app_age_days") / -14.0)
        - 0.25 * F.log1p("app_price")
        - 0.008 * (F.col("true_age") - 34),
    }
    return known.withColumns({f"logit_{part}": parts[part] for part in LOGIT_PARTS})


def _with_label(known: DataFrame, config: SimulationConfig, day: int, draws: Draws) -> DataFrame:
    today = config.date_of(day)
    logit = total_of([F.col(f"logit_{part}") for part in LOGIT_PARTS])
    return (
        known.withColumn("true_probability", 1.0 / (1.0 + F.exp(-logit)))
        .withColumns(
            {
                "installed": (F.col("u_label") < F.col("true_probability")).cast("int"),
                "weekday": F.lit(today.weekday()),
                "date": F.lit(today),
            }
        )
        .select(*LOG_COLUMNS, *[f"logit_{part}" for part in LOGIT_PARTS])
    )


def category_factors(draws: Draws) -> list[list[float]]:
    """[LATENT_DIM][categories], each row with mean 0 and variance 1."""
    return [draws.constants(f"category/{k}", [1.0] * len(CATEGORIES)) for k in range(LATENT_DIM)]
