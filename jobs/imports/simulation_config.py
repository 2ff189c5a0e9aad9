"""What a simulated log is made of: the constants of its truth, and how many users and apps there are."""

from __future__ import annotations

from datetime import date, timedelta

from pydantic import Field, model_validator

from nightjar.features.contract.strict import Strict

TRUTH_VERSION = 1
ROWS_PER_DAY_LIMIT = 10**10
LIST_SLOTS = 12
POSITIONS = 10
LATENT_DIM = 4
AGE_WAVE_YEARS = (20.0, 26.0, 33.0, 41.0)
DEMOGRAPHIC_SHARE = 0.6
CATEGORY_SHARE = 0.6

# (country, its main language, relative number of users)
COUNTRIES = (
    ("us", "en", 24.0), ("in", "hi", 18.0), ("br", "pt", 12.0), ("de", "de", 9.0), ("jp", "ja", 8.0),
    ("mx", "es", 7.0), ("fr", "fr", 6.0), ("gb", "en", 6.0), ("kr", "ko", 4.0), ("es", "es", 3.0),
    ("at", "de", 2.0), ("is", "is", 1.0),
)  # fmt: skip
LANGUAGES = tuple(dict.fromkeys(language for _, language, _ in COUNTRIES))
DEVICES = (
    ("phone_mid", 40.0), ("phone_high", 25.0), ("phone_low", 20.0), ("tablet", 10.0), ("foldable", 5.0),
)  # fmt: skip
CATEGORIES = (
    "games_puzzle", "games_action", "games_cards", "social", "dating", "music", "video", "photo", "news",
    "books", "finance", "shopping", "travel", "fitness", "education", "tools",
)  # fmt: skip
HOUR_WEIGHTS = (3, 2, 1, 1, 1, 2, 4, 6, 7, 7, 7, 8, 9, 8, 7, 7, 8, 9, 11, 13, 14, 12, 9, 5)

LOG_COLUMNS = (
    "impression_id", "timestamp", "user_id", "country", "language", "device", "age", "installed_apps", "hour",
    "weekday", "app_id", "app_category", "app_age_days", "app_price", "position", "installed",
    "true_probability", "date",
)  # fmt: skip
LOGIT_PARTS = ("base", "context", "quality", "drift", "latent", "pairs", "dense")


class Truth(Strict):
    """Constants of the true logit, in logits. The module's docstring has the formula."""

    bias: float = -1.75
    position_effect: float = 0.25
    hour_effect: float = 0.15
    user_scale: float = Field(default=0.3, ge=0)
    quality_scale: float = Field(default=0.35, ge=0)
    drift_scale: float = Field(default=0.55, ge=0)
    latent_scale: float = Field(default=0.9, ge=0)
    pair_apps: int = Field(default=60, ge=1, description="the apps with the lowest ids, which are the most popular")
    pair_share: float = Field(default=0.15, ge=0, le=1, description="share of the ordered pairs that carry an effect")
    pair_effect: float = Field(default=2.5, ge=0)
    pair_clip: float = Field(default=4.0, ge=0)


class SimulationConfig(Strict):
    """What a log is made of. Two logs with equal configs are equal, row by row."""

    seed: int = Field(default=7, ge=-(2**63), lt=2**63)
    start_date: date = date(2026, 1, 5)
    rows_per_day: int = Field(default=100_000, ge=1, le=ROWS_PER_DAY_LIMIT)
    users: int = Field(default=5_000, ge=1, description="users on the first day")
    users_per_day: int = Field(default=100, ge=0, description="users that arrive each later day")
    apps: int = Field(default=400, ge=2 * len(CATEGORIES), description="apps on the first day")
    apps_per_day: int = Field(default=8, ge=0, description="apps that are launched each later day")
    user_skew: float = Field(default=1.5, ge=1, description="user id = users * u ** user_skew, u uniform: 1 is no skew")
    app_skew: float = Field(default=2.0, ge=1, description="the same for apps")
    recent_share: float = Field(
        default=0.1, ge=0, le=1, description="share of the candidates drawn from the newest apps"
    )
    recent_apps: int = Field(default=40, ge=1, description="how many apps are the newest")
    taste_share: float = Field(
        default=0.6, ge=0, le=1, description="share of installed apps chosen by the user's taste"
    )
    truth: Truth = Truth()

    @model_validator(mode="after")
    def _check(self) -> SimulationConfig:
        if self.truth.pair_apps > self.apps:
            raise ValueError(f"truth.pair_apps must not exceed apps; got {self.truth.pair_apps} and {self.apps}")
        return self

    def date_of(self, day: int) -> date:
        """The date of day 0, 1, ... of the log."""
        return self.start_date + timedelta(days=day)

    def users_on(self, day: int) -> int:
        """Number of users that exist on `day`: ids 0 to this number, exclusive."""
        return self.users + self.users_per_day * day

    def apps_on(self, day: int) -> int:
        """Number of apps that exist on `day`: ids 0 to this number, exclusive."""
        return self.apps + self.apps_per_day * day
