"""A page for every night and one over all of them, drawn from what is published: <output>/reports/.

<date>.html: what ran, data checks, learning curves, metrics, slices, warm start, decision; <date>-features.html: the
day's features; <date>-card.md: the card of the night's model; index.html: trends. Drawing them again from the same
directories gives the same pages. A night whose directories were pruned keeps its old page. What is damaged, or cannot
be drawn, is told on the pages.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from markupsafe import Markup

from nightjar.features.contract import storage
from nightjar.features.contract.manifests import ValidationCheck
from nightjar.features.contract.metrics.registry import AUC, CALIBRATION, HELD_OUT, LOG_LOSS, METRICS, REGRET, Metric
from nightjar.features.contract.outputs import INDEX, REPORTS, card_file, night_page
from nightjar.serving.gate.decision import Decision
from nightjar.serving.reports import feature_report, model_card, trends
from nightjar.serving.reports.evaluation_report import SideBySide, environment
from nightjar.serving.reports.nights import Damage, NightFindings, gather

Drawn = TypeVar("Drawn")

INDEX_METRICS = (LOG_LOSS, REGRET, AUC, CALIBRATION)


@dataclass(frozen=True)
class Pages:
    """What was drawn. urls: of the nights' pages, the index last; problems: what could not be read or drawn."""

    urls: tuple[str, ...]
    problems: tuple[str, ...]


def write(output: str, only: Collection[str] | None = None) -> list[str]:
    """`draw`; where the pages are."""
    return list(draw(output, only).urls)


def draw(output: str, only: Collection[str] | None = None) -> Pages:
    """Write the page of every night, or of the dates `only` and the nights beside them, and the index.

    The index is written first: a night that has its page is in the index. It is written again if a page could not be
    drawn, which it tells. Raises OSError if nothing can be written there.
    """
    gathered = gather(output)
    nights, damage = gathered.nights, Damage(list(gathered.unreadable))
    index = storage.join(output, REPORTS, INDEX)
    _put(index, render_index(nights, gathered.unreadable))
    written = []
    for before, night, after in zip([None, *nights], nights, [*nights[1:], None], strict=False):
        damage.found.extend(f"night {night.date}: {problem}" for problem in night.unreadable)
        if night.summary and (only is None or night.date in only):
            with damage.noted(f"night {night.date}: the page of its features"):
                page = feature_report.draw(night.summary, night.validation, night.holdout, night_page(night.date))
                _put(features_of(output, night.date), page)
        if only is None or night.date in only:
            with damage.noted(f"night {night.date}: the card of its model"):
                card = model_card.draw(output, night)
                if card is not None:
                    _put(card_of(output, night.date), card)
        url = page_of(output, night.date)
        complete = night.evaluation is not None or night.record is None
        # A neighbour's page links to the night's.
        wanted = only is None or any(near.date in only for near in (before, night, after) if near)
        if wanted and (complete or not storage.exists(url)):
            with damage.noted(f"night {night.date}: its page"):
                has_card = storage.exists(card_of(output, night.date))
                _put(url, render_night(night, before, after, judged=night.judged(nights), has_card=has_card))
                written.append(url)
    if damage.found != list(gathered.unreadable):
        _put(index, render_index(nights, damage.found))
    return Pages((*written, index), tuple(damage.found))


def _put(url: str, page: str) -> None:
    storage.write_bytes(url, page.encode(errors="replace"))


def page_of(output: str, date: str) -> str:
    """Where the page of a night is."""
    return storage.join(output, REPORTS, night_page(date))


def features_of(output: str, date: str) -> str:
    """Where the page of a night's features is."""
    return feature_report.page_of(storage.join(output, REPORTS), date)


def card_of(output: str, date: str) -> str:
    """Where the card of a night's model is."""
    return storage.join(output, REPORTS, card_file(date))


def render_night(
    night: NightFindings,
    before: NightFindings | None = None,
    after: NightFindings | None = None,
    *,
    judged: NightFindings | None = None,
    has_card: bool = False,
) -> str:
    """One night's page; what of it cannot be drawn is told there.

    Args:
        night: what there is of it.
        before: the night that it links back to.
        after: the night that it links on to.
        judged: the night that judged the champion which served on the day.
        has_card: whether there is a card of its model to link to.
    """
    checks = night.validation.checks if night.validation else ()
    drifts = [check for check in checks if check.check == "drift"]
    compared, damage = night.compared, Damage(list(night.unreadable))

    def drawn(what: str, wanted: object, picture: Callable[[], Drawn]) -> Drawn | None:
        with damage.noted(what):
            return picture() if wanted else None
        return None

    parts = {
        "drift": drawn("the drawing of the drift", drifts, lambda: trends.drift(drifts)),
        "curves": drawn("the drawing of the learning curves", night.curves, lambda: trends.curves(night.curves)),
        "slices": drawn("the drawing of the slices", night.decision, lambda: _slices(night.decision)),
        "comparison": drawn("the comparison", compared, lambda: compared and SideBySide.of(compared)),
    }
    return (
        environment()
        .get_template("night.html")
        .render(
            night=night,
            before=before,
            after=after,
            card=card_file(night.date) if has_card else None,
            failed=[check for check in checks if not check.passed],
            tallies=_tallies(checks),
            metrics=METRICS,
            held_out=HELD_OUT,
            judged=judged,
            served=list(_served(night, judged)),
            problems=damage.found,
            **parts,
        )
    )


def _served(night: NightFindings, judged: NightFindings | None) -> Iterator[tuple[Metric, float | None, float | None]]:
    """A metric of the champion where it was judged, and where it served afterwards."""
    if judged and night.against:
        for metric in (*HELD_OUT, REGRET):
            yield metric, judged.metric(metric.name), getattr(night.against.metrics, metric.name)


def render_index(nights: Sequence[NightFindings], problems: Sequence[str] = ()) -> str:
    """The page over all nights. problems: what could not be read or drawn."""
    damage = Damage(list(problems))
    drawn = []
    for name, label, meaning, value in _trends():
        with damage.noted(f"the drawing of {label}"):
            if any(value(night) is not None for night in nights):
                drawn.append((trends.trend(name, label, nights, value), f"{label}: {meaning}."))
    page = environment().get_template("index.html")
    return page.render(nights=list(reversed(nights)), trends=drawn, metrics=INDEX_METRICS, problems=damage.found)


def _trends() -> Iterator[tuple[str, str, str, Callable[[NightFindings], float | None]]]:
    """Name, label, meaning and value by night of all that the index draws."""
    for metric in INDEX_METRICS:
        meaning = f"{metric.meaning}; of the night's model on the night's own day"
        yield metric.name, metric.label, meaning, partial(NightFindings.metric, name=metric.name)
    meaning = (
        "that what serves has lost against the reference, in nats of log loss summed over the nights; 0 is no slide"
    )
    yield "accumulated", "Accumulated loss", meaning, lambda night: night.accumulated
    yield "rows", "Impressions", "of the night's day", lambda night: night.rows
    yield "seconds", "Seconds", "that the night's steps took", lambda night: sum(night.seconds.values()) or None


def _tallies(checks: Sequence[ValidationCheck]) -> dict[str, tuple[int, int]]:
    """How many checks of each kind there were, and how many passed."""
    of_kind: dict[str, list[bool]] = {}
    for check in checks:
        of_kind.setdefault(check.check, []).append(check.passed)
    return {kind: (len(passed), sum(passed)) for kind, passed in of_kind.items()}


def _slices(decision: Decision | None) -> Markup | None:
    if decision is None or not any(one.interval for part in decision.parts for one in part.figures):
        return None
    return trends.slices(decision.parts)
