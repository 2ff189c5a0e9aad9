"""The feature spec: what the logs' columns mean and which features are made of them.

The spec is the contract between the Spark jobs, the trainer and serving. It is read from YAML, checked as a whole
(every mistake is reported at once, with its path) and identified by a fingerprint that travels with every data
set, model and artifact. This module is free of PySpark.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, ModelWrapValidatorHandler, StrictFloat, StrictInt, ValidationError, model_validator

from nightjar.features.contract.categorical import (
    CategoricalField,
    Cross,
    Label,
    LabelRule,
    Name,
    is_finite_number,
    unknown_fields,
)
from nightjar.features.contract.expressions.derived import (
    DerivedColumn,
    circular,
    log_columns,
    meaning,
    problems_of,
)
from nightjar.features.contract.strict import Strict, digest, with_problems

Window = Annotated[str, Field(pattern=r"^([1-9][0-9]{0,3}d|all)$")]
Statistic = Literal["impressions", "positives", "rate", "log_odds", "log_count", "count_rank", "days_since_first_seen"]


class DenseFeature(Strict):
    """A numeric input. What is larger than the largest float32, infinities included, is clipped to it."""

    name: Name
    """Name of the dense column."""
    column: str = ""
    """The log column that it reads; the feature's name if empty."""
    transform: Literal["quantile", "standardise", "log", "identity"] = "quantile"
    """`quantile`: (i - 1) / (n - 1) for a value in the i-th of n quantiles (Cheng et al. 2016, section 4.1).
    `standardise`: (x - mean) / standard deviation of the finite values of the training days; 0 if all are equal. `log`:
    sign(x) log(1 + |x|). `identity`: x as it is."""
    quantiles: int = Field(100, ge=2, le=10_000)
    """Of the transform `quantile`: how many, fitted on the training days."""
    missing_value: float = Field(0.0, ge=-1e6, le=1e6)
    """What null and NaN become."""
    missing_indicator: bool = True
    """Adds a column that is 1 where the value is missing."""
    serve_as: StrictInt | StrictFloat | None = None
    """What stands for the column when the model serves, in every row, whatever a request brings; see `fields`. Empty:
    requests bring the column."""

    @model_validator(mode="after")
    def _check_serve_as(self) -> DenseFeature:
        if self.serve_as is not None and not is_finite_number(self.serve_as):
            raise ValueError(f"serve_as must be a finite number; got {self.serve_as}")
        return self

    @property
    def source(self) -> str:
        """The log column that the feature reads."""
        return self.column or self.name


class Frequency(Strict):
    """How often a key (the values of one or more fields) was shown and was positive, point in time.

    A multi-valued field gives a row several keys (and counts the row once under each). Impressions and positives are
    then those of all its keys together, rank and days those of the key that has most. An empty list counts as a key
    that was never seen.
    """

    name: Name
    """Beginning of the dense columns' names: `name_window_statistic`."""
    keys: tuple[Name, ...] = Field(min_length=1, max_length=4)
    """Names of the fields whose values make the key."""
    windows: tuple[Window, ...] = Field(("all",), min_length=1)
    """Lengths of time that are counted: `1d`, `7d`, ... or `all`. For a row of day D and a window w, the days [D - w -
    delay, D - delay): never D's own rows."""
    statistics: tuple[Statistic, ...] = Field(("rate", "log_count"), min_length=1)
    """`impressions` and `positives`: the counts. `rate`: (positives + prior * strength) / (impressions + strength).
    `log_odds`: logit(rate) - logit(prior). `log_count`: log(1 + impressions). `count_rank`: of all keys shown in the
    window, the share of those shown at most as often as this one; in (0, 1], 0 for a key that was not shown.
    `days_since_first_seen`: D minus the first day before D - delay on which the logs hold the key; 0 if none does. It
    has no window, and so one column."""
    delay_days: int = Field(0, ge=0)
    """Days between a row's day and the newest counted one, for labels that arrive late."""
    prior: float = Field(gt=0.0, lt=1.0)
    """The rate of a key that was never seen."""
    strength: float = Field(20.0, gt=0.0, allow_inf_nan=False)
    """Impressions that the prior is worth."""
    as_of: Literal["day", "impression"] = "day"
    """`day`: counts of whole days. `impression`: the rows of day D whose timestamp is strictly earlier than the row's
    own are added; needs `delay_days: 0`. A request then brings them: `<name>_impressions_so_far` and
    `<name>_positives_so_far`."""
    missing_so_far: Literal["error", "zero"] = "error"
    """Of `as_of: impression`: what a request without these counts, or with null for one, is. `zero`: one of keys that
    were not shown on its day."""

    @model_validator(mode="after")
    def _check(self) -> Frequency:
        for what, values in (("keys", self.keys), ("windows", self.windows), ("statistics", self.statistics)):
            if len(set(values)) < len(values):
                raise ValueError(f"{what} repeats a value: {list(values)}")
        if self.as_of == "impression" and self.delay_days:
            raise ValueError(f"as_of: impression needs delay_days: 0; got {self.delay_days}")
        if self.as_of == "day" and self.missing_so_far != "error":
            raise ValueError("missing_so_far needs as_of: impression; counts of whole days are not in a request")
        if self.as_of == "impression" and "count_rank" in self.statistics:
            raise ValueError(
                "as_of: impression has no count_rank: keys are ranked by the counts of whole days. "
                "Declare it in a frequency of its own, with as_of: day"
            )
        return self

    @property
    def is_ranked(self) -> bool:
        """True if count_rank is asked for."""
        return "count_rank" in self.statistics

    @property
    def is_dated(self) -> bool:
        """True if days_since_first_seen is asked for."""
        return "days_since_first_seen" in self.statistics

    def columns(self) -> Iterator[tuple[str, str | None, Statistic]]:
        """Name, window and statistic of each dense column."""
        for window in self.windows:
            for statistic in self.statistics:
                if statistic != "days_since_first_seen":
                    yield f"{self.name}_{window}_{statistic}", window, statistic
        if self.is_dated:
            yield f"{self.name}_days_since_first_seen", None, "days_since_first_seen"


class Sampling(Strict):
    """Negatives of the training days are kept with probability `negatives`, and then weigh 1 / negatives.

    Counts, vocabularies and quantiles see every row, and so do evaluations.
    """

    negatives: float = Field(gt=0.0, lt=1.0)
    """The share of negatives that is kept."""
    request: str | None = Field(None, min_length=1)
    """A column that names the request that a row was shown in. Requests without a positive are then kept or left out as
    a whole. Empty: each row by itself."""


def window_days(window: str) -> int | None:
    """Length of a window in days; None for `all`."""
    return None if window == "all" else int(window[:-1])


class FeatureSpec(Strict):
    """Everything that turns a log row into a training example."""

    name: Name
    """Names the spec in manifests and pages."""
    label: Label
    """The column of the label: 0 or 1, integral, boolean or floating. Or a rule that makes it of other columns, which
    no feature may read, but for `share_of`."""
    timestamp: str = Field(min_length=1)
    """The column of the impression's time, in UTC."""
    group: str | None = None
    """The column whose values group rows for GAUC and for the gate's bootstrap, such as a user's id."""
    weight: str | None = None
    """The column of a row's weight in loss and metrics. Empty: 1."""
    truth: str | None = Field(None, description="true probability of generated logs; no feature may read it")
    """The column of the true probability, which generated logs know. It gives regret and the floor; no feature may read
    it."""
    fields: tuple[CategoricalField, ...] = Field(min_length=1)
    """Categorical inputs."""
    dense: tuple[DenseFeature, ...] = ()
    """Numeric inputs."""
    crosses: tuple[Cross, ...] = ()
    """Cross-products of fields, for the wide part."""
    frequencies: tuple[Frequency, ...] = ()
    """Statistics of keys as of the days before a row's own."""
    derive: tuple[DerivedColumn, ...] = ()
    """Columns that are computed of others, for features to read."""
    sampling: Sampling | None = None
    """Leaves negatives of the training days out. Empty: every row is trained on."""

    @model_validator(mode="wrap")
    @classmethod
    def _check(cls, value: Any, validated: ModelWrapValidatorHandler[FeatureSpec]) -> FeatureSpec:
        """All mistakes at once: names that nothing has are told beside whatever else is wrong."""
        unknown = list(unknown_fields(value)) if isinstance(value, Mapping) else []
        try:
            spec = validated(value)
        except ValidationError as error:
            raise with_problems(error, unknown, value) from error
        problems = [*spec._duplicate_names(), *unknown, *problems_of(spec.derive, spec._roles()), *spec._unserved()]
        if not circular(spec.derive):
            problems += spec._forbidden_sources()
        if problems:
            raise with_problems(None, problems, value)
        return spec

    def _duplicate_names(self) -> Iterator[str]:
        for kind, features in (("fields", self.fields), ("dense", self.dense), ("crosses", self.crosses)):
            counts = Counter(feature.name.casefold() for feature in features)  # Spark ignores case
            yield from (f"{kind}: the name {name!r} is used {n} times" for name, n in counts.items() if n > 1)
        counts = Counter(name for name in self.dense_names())
        yield from (f"two dense features are both called {name!r}" for name, n in counts.items() if n > 1)

    def _forbidden_sources(self) -> Iterator[str]:
        forbidden = {column: role for role in ("truth", "weight") if (column := getattr(self, role))}
        forbidden |= dict.fromkeys(self._outcome_columns, "label")
        for kind, features in (("fields", self.fields), ("dense", self.dense)):
            for feature in features:
                for column in log_columns(self.derive, feature.source):
                    if column in forbidden:
                        yield (
                            f"{kind}.{feature.name} reads the column {column!r}, which is the "
                            f"{forbidden[column]}; no feature may read it"
                        )

    def _roles(self) -> dict[str, str]:
        """Columns of the log that the spec itself names, with what for."""
        roles = ("timestamp", "group", "weight", "truth", "request")
        named = {column: role for role in roles if (column := getattr(self, role))}
        return named | dict.fromkeys(self.label_columns, "label")

    def _unserved(self) -> Iterator[str]:
        if all(feature.serve_as is not None for feature in self.reading()):
            yield "every field and dense feature has serve_as, so that a request brings nothing to score"

    @property
    def label_columns(self) -> tuple[str, ...]:
        """The log columns that the label is made of."""
        rule = self.label
        share_of = (rule.share_of,) if isinstance(rule, LabelRule) and rule.share_of else ()
        return (*self._outcome_columns, *share_of)

    @property
    def _outcome_columns(self) -> tuple[str, ...]:
        """Those that are only known afterwards."""
        rule = self.label
        if isinstance(rule, str):
            return (rule,)
        return (rule.column,) if rule.column else rule.columns

    @property
    def request(self) -> str | None:
        """The column that names a row's request, if sampling asks for it."""
        return self.sampling.request if self.sampling else None

    @property
    def is_weighted(self) -> bool:
        """True if rows have weights: their own, or those of sampling."""
        return bool(self.weight or self.sampling)

    def reading(self) -> tuple[CategoricalField | DenseFeature, ...]:
        """What reads a log column each: the fields and the dense features."""
        return (*self.fields, *self.dense)

    def field(self, name: str) -> CategoricalField:
        """The field called `name`."""
        return next(field for field in self.fields if field.name == name)

    def cross(self, name: str) -> Cross:
        """The cross called `name`."""
        return next(cross for cross in self.crosses if cross.name == name)

    def is_multi_valued(self, cross: Cross) -> bool:
        """True if a side of `cross` is multi-valued, so that a row has a list of conjunctions."""
        return any(self.field(name).multi_valued for name in cross.fields)

    def has_key_lists(self, frequency: Frequency) -> bool:
        """True if a key field of `frequency` is multi-valued, so that a row has a list of keys."""
        return any(self.field(name).multi_valued for name in frequency.keys)

    def dense_names(self) -> list[str]:
        """Names of the dense columns of an encoded row, in their order: dense features, indicators, frequencies."""
        names: list[str] = []
        for feature in self.dense:
            names.append(feature.name)
            if feature.missing_indicator:
                names.append(f"{feature.name}_missing")
        for frequency in self.frequencies:
            names.extend(name for name, _, _ in frequency.columns())
        return names

    def source_columns(self) -> list[str]:
        """The log columns that the spec reads, without repeats, in order of first use."""
        columns = [*self.label_columns, self.timestamp, self.group, self.weight, self.truth, self.request]
        return list(dict.fromkeys(column for column in (*columns, *self.request_columns()) if column))

    def request_columns(self, *, as_logged: bool = True) -> list[str]:
        """The log columns that features read or derived columns are made of, without repeats.

        as_logged: False leaves out those of features with `serve_as`.
        """
        read = [feature for feature in self.reading() if as_logged or feature.serve_as is None]
        return list(dict.fromkeys(column for one in read for column in log_columns(self.derive, one.source)))

    def derived_sources(self) -> list[str]:
        """The derived columns that features read, without repeats."""
        names = {one.name for one in self.derive}
        return list(dict.fromkeys(feature.source for feature in self.reading() if feature.source in names))

    def meaning_of(self, feature: CategoricalField | DenseFeature) -> str:
        """What the feature's column holds: its name in the log, or how it is computed."""
        return meaning(self.derive, feature.source)

    @property
    def counters_fingerprint(self) -> str:
        """Sixteen hexadecimal digits that change when the counters of the frequencies mean something else.

        Specs that agree in it can be served with the same counters. The prior and the strength of a frequency are not
        in it, nor are vocabularies: what is counted is hashes of values.
        """
        keys = {name for frequency in self.frequencies for name in frequency.keys}
        counted = [[f.name, f.keys, sorted(f.windows), f.delay_days, f.is_ranked, f.is_dated] for f in self.frequencies]
        hashed = [
            [f.name, self.meaning_of(f), f.multi_valued, f.boundaries, *([f.split] if f.split else [])]
            for f in self.fields
            if f.name in keys
        ]
        label = self.label if isinstance(self.label, str) else self.label.model_dump(mode="json")
        return digest([label, self.timestamp, sorted(counted), sorted(hashed)])[:16]

    @property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that change when anything in the spec changes.

        A setting at its default is left out, so that a release that adds one leaves every fingerprint, and with it the
        history, as it was.
        """
        return digest(self.model_dump(mode="json", exclude_defaults=True))[:16]
