"""What is published of a day's features for people to look at: figures of a fixed size, whatever the log's.

Days are the reference days of the validation, oldest first, and then the summarised day itself. A list of impressions
`by day` has one figure for each of them; positives are of the summarised day.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from nightjar.features.contract.manifests import CrossFigures, FieldFigures, Manifest
from nightjar.features.contract.spec import FeatureSpec
from nightjar.features.contract.strict import Date, Strict


class Bucket(Strict):
    """Rows that share a value or a range of values. impressions: by day."""

    impressions: tuple[int, ...]
    positives: int


class Value(Bucket):
    """A value of a field. known: it has an id in the encoder's state."""

    value: str
    known: bool


class Range(Bucket):
    """A range of a number. low, high: what lies in it, either end included up to rounding."""

    low: float
    high: float


class FieldSummary(Strict):
    """A categorical field.

    values: that the rows hold, missing: rows without one, distinct: different values, each by day. ids: values with
    one of their own, None if every value has one by its hash; known: values with an id among those of the summarised
    day. top: the values with the largest shares of the summarised and the reference days; rest: all others together.
    """

    values: tuple[int, ...]
    missing: tuple[int, ...]
    distinct: tuple[int, ...]
    ids: int | None
    known: int
    top: tuple[Value, ...]
    rest: Bucket


class DenseSummary(Strict):
    """A dense feature: rows with and without a number by day, and ranges of about as many rows of all days each."""

    values: tuple[int, ...]
    missing: tuple[int, ...]
    ranges: tuple[Range, ...]


class RateRange(Strict):
    """Rows whose key had a smoothed rate within a range. expected: the sum of these rates, over the rows."""

    impressions: int
    positives: int
    expected: float


class SeenRange(Strict):
    """Rows whose key had been shown at least `least` and less than twice as often; never, if that is 0."""

    least: int
    impressions: int
    positives: int


class FrequencySummary(Strict):
    """A frequency feature in one window, as of the start of the summarised day. keys: different ones on that day."""

    frequency: str
    window: str
    keys: int
    rates: tuple[RateRange, ...]
    seen: tuple[SeenRange, ...]


class SummaryManifest(Manifest):
    """A day's features at a glance. rows, positives: by day; state: digest of the state whose ids they are, and whose
    figures of fields and crosses.
    """

    kind: Literal["summary"] = "summary"
    date: Date
    days: tuple[Date, ...]
    rows: tuple[int, ...]
    positives: tuple[int, ...]
    state: str
    spec: FeatureSpec
    fields: Mapping[str, FieldSummary]
    dense: Mapping[str, DenseSummary]
    frequencies: tuple[FrequencySummary, ...]
    field_figures: Mapping[str, FieldFigures]
    cross_figures: Mapping[str, CrossFigures]
