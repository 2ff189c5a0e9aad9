"""A day's features on one page: coverage, cardinality, drift, top values and label rates, from published directories.

The page itself draws the numbers, as bars beside them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from nightjar.features.contract import storage
from nightjar.features.contract.manifests import (
    CrossFigures,
    DatasetManifest,
    FieldFigures,
    ValidationCheck,
    ValidationManifest,
)
from nightjar.features.contract.outputs import features_page
from nightjar.features.contract.publishing import is_published, read_manifest
from nightjar.features.contract.spec import CategoricalField, Cross, DenseFeature, FeatureSpec, Frequency
from nightjar.features.contract.summary import (
    Bucket,
    DenseSummary,
    FieldSummary,
    FrequencySummary,
    SummaryManifest,
)
from nightjar.serving.reports.evaluation_report import environment

_Z = 1.959964  # 95 % of a normal distribution lie within so many standard deviations
_SUPPORT = 0.01


@dataclass(frozen=True)
class Row:
    """A bar and a label rate of a card.

    shares: of the day's rows, by day, the summarised day's last; expected: what the label rate should be, if anything
    says so; note: beside the name; others: the row stands for many values, and its bar may be longer than the axis.
    """

    name: str
    impressions: int
    shares: tuple[float, ...]
    positives: int | None
    expected: float | None = None
    note: str = ""
    others: bool = False

    @property
    def share(self) -> float:
        """Of the summarised day's rows."""
        return self.shares[-1]

    @property
    def rate(self) -> float | None:
        """Positives / impressions."""
        return self.positives / self.impressions if self.impressions and self.positives is not None else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Of the label rate, at 95 %."""
        return wilson(self.positives, self.impressions) if self.impressions and self.positives is not None else None


@dataclass(frozen=True)
class Chart:
    """Rows that share their axes. caption: what the rows are; most: share and rate at the end of the axes."""

    caption: str
    rows: tuple[Row, ...]
    most: tuple[float, float]

    @classmethod
    def of(cls, caption: str, rows: Sequence[Row], base_rate: float) -> Chart:
        """Axes as long as the rows need, but for all others together and for label rates of few impressions."""
        share = max((max(row.shares) for row in rows if not row.others), default=0.0)
        rates = [row.interval[1] for row in rows if row.interval and row.share >= _SUPPORT]
        return cls(caption, tuple(rows), (share or 1.0, min(1.0, max([2 * base_rate, *rates])) or 1.0))


@dataclass(frozen=True)
class Card:
    """A feature. known, unknown, missing: shares that add up to 1; facts: name and value; checks: of the validation."""

    kind: str
    name: str
    about: str
    facts: tuple[tuple[str, str], ...]
    charts: tuple[Chart, ...]
    checks: tuple[ValidationCheck, ...] = ()
    shares: tuple[float, float, float] | None = None
    distinct: int | None = None
    ids: int | None = None

    @property
    def anchor(self) -> str:
        """The card's id on the page."""
        return f"{self.kind}-{self.name}"

    @property
    def drift(self) -> ValidationCheck | None:
        """The check of its divergence, if there was one."""
        return next((check for check in self.checks if check.check == "drift"), None)

    @property
    def failed(self) -> tuple[ValidationCheck, ...]:
        """Checks that did not pass, allowed or not."""
        return tuple(check for check in self.checks if not check.passed)

    @property
    def urgency(self) -> tuple[bool, float]:
        """What needs looking at comes first: failed checks, then drift over its limit."""
        drift = self.drift
        return not self.failed, -float(drift.value) / (drift.high or 1.0) if drift else 0.0


def wilson(positives: int, impressions: int) -> tuple[float, float]:
    """The interval of a rate at 95 % (Wilson 1927): right for few impressions and for rates near 0, too."""
    rate, z2 = positives / impressions, _Z * _Z / impressions
    center = (rate + z2 / 2) / (1 + z2)
    half = math.sqrt(z2 * (rate * (1 - rate) + z2 / 4)) / (1 + z2)
    return max(center - half, 0.0), min(center + half, 1.0)


def page_of(folder: str, date: str) -> str:
    """Where the page of a day is in a folder of reports."""
    return storage.join(folder, features_page(date))


def draw(summary: str, validation: ValidationManifest | None, holdout: str | None, night: str | None = None) -> str:
    """The page of a day's published directories.

    Args:
        summary: directory of the day's summary.
        validation: of the day's log, if it was validated.
        holdout: directory of the day's data set, if it may be published.
        night: the page of the day's night, relative to this one.
    """
    encoded = read_manifest(holdout, DatasetManifest) if holdout and is_published(holdout) else None
    return render(read_manifest(summary, SummaryManifest), validation, encoded.coverage if encoded else {}, night)


def render(
    summary: SummaryManifest,
    validation: ValidationManifest | None = None,
    coverage: Mapping[str, float] | None = None,
    night: str | None = None,
) -> str:
    """The page, a pure function of what it is given.

    Args:
        summary: of the day.
        validation: of the day's log.
        coverage: share of the day's rows with an admitted conjunction, by column of the data set.
        night: the page of the day's night, relative to this one.
    """
    checks = validation.checks if validation else ()
    cards = _Cards(summary, checks)
    return (
        environment()
        .get_template("features.html")
        .render(
            summary=summary,
            night=night,
            base_rate=cards.base_rate,
            failed=[check for check in checks if not check.passed],
            anchors={card.name: card.anchor for card in (*cards.dense(), *cards.fields())},
            fields=sorted(cards.fields(), key=lambda card: card.urgency),
            dense=sorted(cards.dense(), key=lambda card: card.urgency),
            crosses=list(cards.crosses()),
            coverage=coverage or {},
            furthest=_furthest,
            highest=max(n / rows for n, rows in zip(summary.positives, summary.rows, strict=True)) or 1.0,
            frequencies=list(cards.frequencies()),
        )
    )


@dataclass(frozen=True)
class _Cards:
    summary: SummaryManifest
    checks: Sequence[ValidationCheck]

    @property
    def base_rate(self) -> float:
        """Of the labels of the summarised day."""
        return self.summary.positives[-1] / self.summary.rows[-1]

    def fields(self) -> Iterator[Card]:
        spec = self.summary.spec
        for field in spec.fields:
            found = self.summary.fields[field.name]
            rows, values = self.summary.rows[-1], found.values[-1]
            covered = 1.0 - found.missing[-1] / rows
            known = covered * (found.known / values) if values else 0.0  # never above covered, by rounding either
            yield Card(
                "field",
                field.name,
                _about_field(spec, field),
                tuple(_field_facts(found, self.summary.field_figures.get(field.name))),
                (self._chart("Most frequent values", list(self._values(field, found))),),
                tuple(check for check in self.checks if check.feature == field.name),
                (known, covered - known, 1.0 - covered),
                found.distinct[-1],
                found.ids,
            )

    def dense(self) -> Iterator[Card]:
        for feature in self.summary.spec.dense:
            found = self.summary.dense[feature.name]
            missing = found.missing[-1] / self.summary.rows[-1]
            yield Card(
                "dense",
                feature.name,
                _about_dense(self.summary.spec, feature),
                (("Missing by day", _by_day(found.missing, self.summary.rows)),) if any(found.missing) else (),
                (self._chart("Ranges of about equal weight over all days", list(self._ranges(found))),),
                tuple(check for check in self.checks if check.feature == feature.name),
                (1.0 - missing, 0.0, missing),
            )

    def crosses(self) -> Iterator[tuple[Cross, CrossFigures | None]]:
        """Every cross with its figures over the whole history, where the state has them."""
        for cross in self.summary.spec.crosses:
            yield cross, self.summary.cross_figures.get(cross.name)

    def frequencies(self) -> Iterator[Card]:
        spec = {frequency.name: frequency for frequency in self.summary.spec.frequencies}
        for found in self.summary.frequencies:
            total = max(sum(seen.impressions for seen in found.seen), 1)
            unseen = sum(seen.impressions for seen in found.seen if not seen.least) / total
            expected = sum(rate.expected for rate in found.rates) / total
            yield Card(
                "frequency",
                f"{found.frequency}_{found.window}",
                _about_frequency(spec[found.frequency], found),
                (
                    ("Mean rate before", _percent(expected)),
                    ("Label rate", _percent(sum(rate.positives for rate in found.rates) / total)),
                ),
                (
                    self._chart("Rate of the key when the day began", list(_rates(found, total))),
                    self._chart("Impressions of the key before the day", list(_seen(found, total))),
                ),
                shares=(1.0 - unseen, 0.0, unseen),
                distinct=found.keys,
            )

    def _chart(self, caption: str, rows: Sequence[Row]) -> Chart:
        return Chart.of(caption, rows, self.base_rate)

    def _values(self, field: CategoricalField, found: FieldSummary) -> Iterator[Row]:
        for value in found.top:
            note = "" if value.known else "no id"
            yield self._row(_printable(value.value), value, note)
        others = found.distinct[-1] - sum(bool(value.impressions[-1]) for value in found.top)
        if others > 0 and not field.multi_valued:
            yield self._row(f"{others:,} others", found.rest, others=True)
        yield from self._missing(found, None if field.multi_valued else [*found.top, found.rest])

    def _ranges(self, found: DenseSummary) -> Iterator[Row]:
        for one in found.ranges:
            low, high = _number(one.low), _number(one.high)
            yield self._row(low if low == high else f"{low} to {high}", one)
        yield from self._missing(found, found.ranges)

    def _missing(self, found: FieldSummary | DenseSummary, others: Sequence[Bucket] | None) -> Iterator[Row]:
        """others: what all other rows are in, each in one; None if a row may be in several."""
        if any(found.missing):
            positives = 0 if others is None else self.summary.positives[-1] - sum(one.positives for one in others)
            row = self._row("missing", Bucket(impressions=found.missing, positives=positives))
            yield replace(row, positives=None) if others is None else row

    def _row(self, name: str, bucket: Bucket, note: str = "", *, others: bool = False) -> Row:
        shares = (n / rows for n, rows in zip(bucket.impressions, self.summary.rows, strict=True))
        return Row(name, bucket.impressions[-1], tuple(shares), bucket.positives, note=note, others=others)


def _furthest(cards: Sequence[Card]) -> float:
    """How far an axis has to reach for every divergence and its limit."""
    drifts = [card.drift for card in cards if card.drift]
    return max((max(float(drift.value), drift.high or 0.0) for drift in drifts), default=0.0) or 1.0


def _rates(found: FrequencySummary, total: int) -> Iterator[Row]:
    for one in found.rates:
        mean = one.expected / one.impressions
        yield Row(_percent(mean), one.impressions, (one.impressions / total,), one.positives, expected=mean)


def _seen(found: FrequencySummary, total: int) -> Iterator[Row]:
    for one in found.seen:
        last = 2 * one.least - 1
        name = "never seen" if not one.least else f"{one.least:,}" + (f" to {last:,}" if last > one.least else "")
        yield Row(name, one.impressions, (one.impressions / total,), one.positives)


def _about_field(spec: FeatureSpec, field: CategoricalField) -> str:
    several = ", several in a row" if field.multi_valued else ""
    if field.kind == "hashed":
        return f"column {spec.meaning_of(field)}{several}; one of {field.buckets:,} ids by hash"
    impressions = f"impression{'s' * (field.min_count > 1)}"
    return f"column {spec.meaning_of(field)}{several}; an id from {field.min_count} {impressions} on"


def _about_dense(spec: FeatureSpec, feature: DenseFeature) -> str:
    return f"column {spec.meaning_of(feature)}; {feature.transform}"


def _about_frequency(frequency: Frequency, found: FrequencySummary) -> str:
    days = "all days" if found.window == "all" else found.window
    today = "; the day's own impressions before a row are not in it" if frequency.as_of == "impression" else ""
    return (
        f"by {' and '.join(frequency.keys)}, {days}; smoothed to {frequency.prior:g} by {frequency.strength:g}{today}"
    )


def _field_facts(found: FieldSummary, figures: FieldFigures | None) -> Iterator[tuple[str, str]]:
    yield "Different values by day", ", ".join(f"{n:,}" for n in found.distinct)
    if figures and figures.retired:
        yield "Retired ids", f"{figures.retired:,}"


def _by_day(counts: Sequence[int], rows: Sequence[int]) -> str:
    return ", ".join(_percent(n / of) for n, of in zip(counts, rows, strict=True))


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _number(x: float) -> str:
    """Four digits have no separator: many are years."""
    if abs(x) < 1e-6:
        return "0"
    return f"{x:.4g}" if abs(x) < 9999.5 else f"{x:,.0f}" if abs(x) < 1e9 else f"{x:.3g}"


def _printable(value: str) -> str:
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in value) or "(empty)"
