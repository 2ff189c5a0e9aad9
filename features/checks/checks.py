"""The checks of a day's log against the days before it, from figures alone: no Spark.

Every figure is held against the same figure of the reference days and must lie within their range, widened by the
config's margins, and by four standard errors where it is a share. So a quantity that changes every day, such as the
weekday, is let be, and one that never did is not.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from pydantic import Field, model_validator

from nightjar.features.contract.manifests import AggregateManifest, ProfileManifest, ValidationCheck
from nightjar.features.contract.spec import CategoricalField, DenseFeature, FeatureSpec, Strict

if TYPE_CHECKING:  # the two import PySpark, and a config file is read without it
    from nightjar.features.checks.drift import Drift
    from nightjar.features.input.folders import LogPartition

CheckName = Literal["schema", "rows", "label_rate", "missing", "unseen", "constant", "drift", "repeated"]
CHECKS: tuple[str, ...] = get_args(CheckName)
FeatureDrifts: TypeAlias = "tuple[CategoricalField | DenseFeature, Mapping[str, Drift]]"
"""A feature and its drift by date."""
_STANDARD_ERRORS = 4.0
_NOTHING: Mapping[str, Mapping[str, float]] = {}


class LogValidationConfig(Strict):
    """The `validation` section of a config file: how far a day's log may differ from the days before it."""

    reference_days: int = Field(7, ge=1, le=366)
    """Days before the validated one that it is held against."""
    rows: float = Field(3.0, ge=1.0, allow_inf_nan=False)
    """Factor by which the number of rows may be below the least and above the largest of the reference days."""
    label_rate: float = Field(1.5, ge=1.0, allow_inf_nan=False)
    """The same factor for the label rate."""
    label_rate_between: tuple[float, float] = (0.0, 1.0)
    """What the label rate must lie within on any day."""
    missing: float = Field(0.05, ge=0.0, le=1.0)
    """How much larger a feature's share of rows without a value may be than the largest of the reference days."""
    unseen: float = Field(0.1, ge=0.0, le=1.0)
    """How much larger the share of unseen values may be: those that the reference days hold less often than the field's
    min_count. A hashed field knows all values."""
    drift: float = Field(0.1, ge=0.0, le=1.0)
    """Divergence that is always let be, in bits. Judged from two reference days on."""
    drift_factor: float = Field(2.0, ge=1.0, allow_inf_nan=False)
    """And so many times the largest divergence that a reference day has from the others."""

    @model_validator(mode="after")
    def _check(self) -> LogValidationConfig:
        low, high = self.label_rate_between
        if not 0.0 <= low < high <= 1.0:
            raise ValueError(f"label_rate_between must be two shares in ascending order; got {[low, high]}")
        return self


@dataclass(frozen=True)
class Day:
    """A day's log and what was counted of it."""

    log: LogPartition
    aggregate: AggregateManifest
    profile: ProfileManifest

    @property
    def label_rate(self) -> float:
        """Positives / rows."""
        return self.aggregate.positives / self.aggregate.rows


def simple_checks(
    config: LogValidationConfig,
    spec: FeatureSpec,
    newest: Day,
    reference: Sequence[Day],
    others: Mapping[str, Mapping[str, float]] = _NOTHING,
) -> Iterator[ValidationCheck]:
    """Everything but drift: schema, rows, labels, a repeated day, and each feature's constancy and missing values.

    Args:
        config: the limits.
        spec: of the features.
        newest: the day that is judged.
        reference: the days before it that it is held against.
        others: of columns that are constant now, the share of rows that held another value, by date.
    """
    yield from _schema_checks(spec, newest, reference)
    rows = [day.log.rows for day in reference]
    yield _within("rows", None, newest.log.rows, min(rows) / config.rows, max(rows) * config.rows)
    yield _label_rate(config, newest, reference)
    yield _repeated(spec, newest, reference)
    for feature in features_of(spec):
        yield _constant(feature, newest, reference, others.get(feature.source, {}))
        shares = [_missing(feature, day) for day in reference]
        value = _missing(feature, newest)
        high = min(1.0, max(shares) + config.missing + _noise(max(shares), newest.log.rows))
        yield _within("missing", feature.name, value, None, high)


def features_of(spec: FeatureSpec) -> tuple[CategoricalField | DenseFeature, ...]:
    """Everything that reads a column of its own: fields, then dense features."""
    return (*spec.fields, *spec.dense)


def _schema_checks(spec: FeatureSpec, newest: Day, reference: Sequence[Day]) -> Iterator[ValidationCheck]:
    for n, column in enumerate(spec.source_columns()):
        before, now = reference[-1].log.types[n], newest.log.types[n]
        reason = f"the type is {now}" + ("." if now == before else f"; on {reference[-1].log.date} it was {before}.")
        yield ValidationCheck(check="schema", feature=column, value=now, passed=now == before, reason=reason)


def _label_rate(config: LogValidationConfig, newest: Day, reference: Sequence[Day]) -> ValidationCheck:
    rates = [day.label_rate for day in reference]
    margins = [_noise(rate, newest.log.rows) for rate in (min(rates), max(rates))]
    low, high = config.label_rate_between
    return _within(
        "label_rate",
        None,
        newest.label_rate,
        max(low, min(rates) / config.label_rate - margins[0]),
        min(high, max(rates) * config.label_rate + margins[1]),
    )


def _repeated(spec: FeatureSpec, newest: Day, reference: Sequence[Day]) -> ValidationCheck:
    """A copy of an earlier day under a new date: every column that varies within the day holds the very same values.

    Neither the timestamp is looked at nor what is derived, maybe of it, and a weekday does not vary.
    """
    columns = {name: newest.profile.columns[name] for name in spec.source_columns() if name != spec.timestamp}
    content = {name: column.content for name, column in columns.items() if not column.constant}
    same = [
        day.log.date
        for day in reference
        if day.log.rows == newest.log.rows
        and content
        and all(day.profile.columns[name].content == value for name, value in content.items())
    ]
    reason = f"the values are those of {same[0]}, only the dates differ." if same else "no earlier day holds the same."
    value = same[0] if same else "no"
    return ValidationCheck(check="repeated", value=value, passed=not same, reason=reason)


def _constant(
    feature: CategoricalField | DenseFeature, newest: Day, reference: Sequence[Day], by_day: Mapping[str, float]
) -> ValidationCheck:
    """One value in every row, where other values were so frequent before that not to meet any is no chance."""
    now = newest.profile.columns[feature.source].constant
    varied = [day for day in reference if not day.profile.columns[feature.source].constant]
    is_missing = not newest.profile.columns[feature.source].values
    shares = [1.0 - _missing(feature, day) if is_missing else by_day.get(day.log.date) for day in varied]
    # A day whose log is gone tells nothing; without any that does, it varied.
    others = min((share for share in shares if share is not None), default=1.0 if varied else 0.0)
    passed = not now or others <= _noise(others, newest.log.rows)
    reason = "it holds the same value in every row" if now else "it varies"
    if now and varied:
        reason += f", which it did on no day before: at least {figure(others)} of the rows held another."
        if passed:
            reason = f"{reason[:-1]}, and so few may be none."
    else:
        reason += "."
    return ValidationCheck(check="constant", feature=feature.name, value=float(now), passed=passed, reason=reason)


def _missing(feature: CategoricalField | DenseFeature, day: Day) -> float:
    return day.profile.columns[feature.source].missing / day.log.rows


def drift_checks(
    config: LogValidationConfig,
    drifts: Sequence[FeatureDrifts],
    newest: Day,
    reference: Sequence[Day],
) -> Iterator[ValidationCheck]:
    """Divergence of every feature, and how much of a field's values the reference days do not hold.

    Args:
        config: the limits.
        drifts: of every feature, by date.
        newest: the day that is checked.
        reference: the days that it is held against, oldest first.
    """
    for feature, by_day in drifts:
        found = by_day[newest.log.date]
        before = [by_day[day.log.date] for day in reference]
        usual = max((one.divergence for one in before if one.divergence is not None), default=None)
        if found.divergence is not None:
            high = None if usual is None else min(1.0, max(config.drift, usual * config.drift_factor))
            yield _within("drift", feature.name, found.divergence, None, high)
        if found.unseen is not None and isinstance(feature, CategoricalField) and feature.kind == "vocabulary":
            share = max((one.unseen for one in before if one.unseen is not None), default=None)
            high = None if share is None else min(1.0, share + config.unseen + _noise(share, newest.log.rows))
            yield _within("unseen", feature.name, found.unseen, None, high)


def _noise(share: float, rows: int) -> float:
    """Four standard errors of a share of so many rows."""
    return _STANDARD_ERRORS * math.sqrt(max(share * (1.0 - share), 1.0 / rows) / rows)


def _within(
    check: CheckName, feature: str | None, value: float, low: float | None, high: float | None
) -> ValidationCheck:
    below, above = low is not None and value < low, high is not None and value > high
    bounds = f"[{figure(low)}, {figure(high)}]" if low is not None else f"at most {figure(high)}"
    reason = f"{figure(value)}: not judged, too few days before." if high is None else f"{figure(value)}, {bounds}."
    return ValidationCheck(
        check=check, feature=feature, value=value, low=low, high=high, passed=not (below or above), reason=reason
    )


def figure(value: float | None) -> str:
    """A number for people."""
    return "any" if value is None else f"{value:.4g}" if value < 1e4 else f"{value:,.0f}"
