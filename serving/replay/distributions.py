"""Requests beside the log of their day where no key joins them: columns whose values are distributed otherwise.

Candidates that were ranked are not those that were shown, so that distributions differ a little anyway. Only what has a
name is told: a change of the log's values that leads to those that were served.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from nightjar.serving.raw_values import Row, kind_of
from nightjar.serving.replay.differences import Difference, Kind
from nightjar.serving.replay.hypotheses import CYCLES, TEXT_CHANGES, is_number, text_of
from nightjar.serving.replay.skew import known

MANY = 0.05
"""The part of a column's rows that has to differ."""
_MOST, _NEARLY_ALL = 0.8, 0.95
_QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)
Found = Iterator[tuple[Kind, float, str]]
"""Kind, the part of the rows that have it, and what is said."""


def find_shifts(served: Sequence[Row], logged: Sequence[Row], columns: Sequence[str]) -> list[Difference]:
    """Differences of the columns that features read. served, logged: some hundred rows of each at least."""
    found = []
    extra = sorted({name for row in served for name in row} - set(columns))
    for column in columns:
        theirs = [known(row.get(column)) for row in logged]
        if any(column in row for row in served):
            shifts = _shifts([known(row.get(column)) for row in served], theirs)
        else:
            shifts = _absent(extra, served, theirs)
        for kind, share, said in shifts:
            rows = round(share * len(served))
            found.append(Difference(kind=kind, column=column, rows=rows, of=len(served), said=said))
    return found


def _absent(extra: Sequence[str], served: Sequence[Row], logged: Sequence[Any]) -> Found:
    values = {repr(value) for value in logged}
    for name in extra:
        brought = [repr(known(row.get(name))) for row in served]
        if len(set(brought)) > 1 and np.mean([value in values for value in brought]) >= _NEARLY_ALL:
            yield "renamed column", 1.0, f"it may come as {name!r}, which no feature reads"
            return
    yield "missing column", 1.0, "no request brings it; the log has values"


def _shifts(served: Sequence[Any], logged: Sequence[Any]) -> Found:
    ours, theirs = [v for v in served if v is not None], [v for v in logged if v is not None]
    if not theirs:
        return
    if _is_constant(ours) and len(ours) == len(served) and not _is_constant(theirs):
        yield "constant", 1.0, f"every row has {ours[0]!r}"
        return
    missing = list(_missing(served, logged, ours, theirs))
    yield from missing
    if not ours or any(kind == "default instead of missing" for kind, *_ in missing):
        return
    kinds = [Counter(kind_of(v) for v in of if v != []).most_common(1) for of in (ours, theirs)]
    (one, _), (other, _) = (of[0] if of else ("", 0) for of in kinds)
    if one and other and one != other and {one, other} != {"integer", "number"}:
        yield "other type", 1.0, f"{one}, where the log has {other}"
    if isinstance(ours[0], list) and isinstance(theirs[0], list):
        yield from _of_lists(ours, theirs)
        yield from _of_texts([text_of(v) for of in ours for v in of], [text_of(v) for of in theirs for v in of])
    elif all(map(is_number, ours)) and all(map(is_number, theirs)):
        yield from _of_numbers(np.array(ours, np.float64), np.array(theirs, np.float64))
    elif not isinstance(ours[0], list) and not isinstance(theirs[0], list):
        yield from _of_texts([text_of(v) for v in ours], [text_of(v) for v in theirs])


def _is_constant(values: Sequence[Any]) -> bool:
    return bool(values) and Counter(map(repr, values)).most_common(1)[0][1] >= _NEARLY_ALL * len(values)


def _missing(served: Sequence[Any], logged: Sequence[Any], ours: Sequence[Any], theirs: Sequence[Any]) -> Found:
    here, there = 1 - len(ours) / len(served), 1 - len(theirs) / len(logged)
    beyond = MANY + 4 * math.sqrt(0.25 / len(served) + 0.25 / len(logged)) * max(here, there)
    if here > there + beyond:
        yield "missing instead of a value", here - there, f"{here:.1%} are null, where the log has {there:.1%}"
    elif there > MANY and here == 0:
        (value, count), *_ = Counter(map(repr, ours)).most_common(1)
        more = count / len(served) - sum(repr(v) == value for v in theirs) / len(logged)
        if more > _MOST * there:
            yield "default instead of missing", more, f"{value}, where {there:.1%} of the log are null"


def _of_texts(served: Sequence[str], logged: Sequence[str]) -> Found:
    """Values that the log does not have, and how they would come of its own."""
    values = set(logged)
    outside = Counter(value for value in served if value not in values)
    total, share = sum(outside.values()), sum(outside.values()) / max(len(served), 1)
    if share <= MANY:
        yield from _inverted(served, logged)
        return

    def explained(change: Callable[[str], bool]) -> float:
        return sum(count for value, count in outside.items() if change(value)) / total

    options: list[tuple[float, Kind, str]] = []
    for kind, forth, back, change in TEXT_CHANGES:
        changed = {change(value) for value in values}
        options.append((explained(changed.__contains__), kind, forth))
        options.append((explained(lambda value, f=change: f(value) in values), kind, back))  # type: ignore[misc]
        options.append((explained(lambda v, f=change, c=changed: f(v) in c), kind, "otherwise than in the log"))  # type: ignore[misc]
    before = Counter(v[:k] for v in outside for k in range(1, len(v)) if v[k:] in values)
    after = Counter(v[-k:] for v in outside for k in range(1, len(v)) if v[:-k] in values)
    for kind, affixes, start in (("prefix", before, True), ("suffix", after, False)):
        if affixes:
            affix = affixes.most_common(1)[0][0]
            fits = explained(lambda value, a=affix, s=start: _without(value, a, s) in values | {""})  # type: ignore[misc]
            options.append((fits, kind, f"{affix!r} is added"))
    longest = max(map(len, outside))
    cut = {value[:longest] for value in values if len(value) > longest}
    options.append((explained(cut.__contains__), "cut short", f"to {longest} characters"))
    fits, kind, said = max(options, key=lambda option: option[0])
    if fits >= _MOST:
        examples = ", ".join(repr(value) for value, _ in outside.most_common(3))
        yield kind, share, f"{said}; the log does not have {examples}"


def _without(value: str, affix: str, start: bool) -> str | None:
    """The value without its beginning or its end; None if that is another."""
    if start:
        return value.removeprefix(affix) if value.startswith(affix) else None
    return value.removesuffix(affix) if value.endswith(affix) else None


def _inverted(served: Sequence[str], logged: Sequence[str]) -> Found:
    if not set(served) | set(logged) <= {"true", "false"}:
        return
    ours, theirs = (np.mean([v == "true" for v in of]) for of in (served, logged))
    noise = 4 * math.sqrt(0.25 / len(served) + 0.25 / len(logged))
    if abs(ours - (1 - theirs)) < noise and abs(ours - theirs) > 2 * noise:
        yield "inverted", 1.0, f"{ours:.1%} are true, where the log has {theirs:.1%}"


def _of_lists(served: Sequence[list[Any]], logged: Sequence[list[Any]]) -> Found:
    def share(of: Sequence[list[Any]], holds: Callable[[list[Any]], bool]) -> float:
        return float(np.mean([holds([text_of(v) for v in values]) for values in of]))

    def repeats(values: list[Any]) -> bool:
        return len(set(values)) < len(values)

    longest = max(map(len, served))
    longer = share(logged, lambda values: len(values) > longest)
    if longer > MANY:
        yield "list cut short", longer, f"to {longest} values"
        return
    ours, theirs = share(served, repeats), share(logged, repeats)
    if abs(ours - theirs) > MANY and min(ours, theirs) == 0:
        said = f"{ours:.1%} of the lists repeat a value, where the log has {theirs:.1%}; no score sees it"
        yield "list duplicates", abs(ours - theirs), said


def _of_numbers(served: np.ndarray, logged: np.ndarray) -> Found:
    for cycle in CYCLES:
        if all(np.all((x >= 0) & (x < cycle) & (x == np.floor(x))) for x in (served, logged)):
            ours, theirs = (np.bincount(x.astype(int), minlength=cycle) / len(x) for x in (served, logged))
            apart = [np.abs(ours - np.roll(theirs, k)).sum() / 2 for k in range(cycle)]
            best = int(np.argmin(apart))
            if best and apart[best] < apart[0] / 2 and apart[0] > 2 * MANY:
                shift = best - cycle if best > cycle / 2 else best
                yield "time zone", 1.0, f"the log's values {shift:+d}, modulo {cycle}"
            return
    digits = next((d for d in range(7) if np.mean(np.round(served, d) == served) >= _NEARLY_ALL), None)
    if digits is not None and np.mean(np.round(logged, digits) == logged) < 0.5:
        yield "rounded", 1.0, f"to {digits} digits"
        return
    for bound, word, beyond in (
        (served.max(), "above", logged > served.max()),
        (served.min(), "below", logged < served.min()),
    ):
        if np.mean(served == bound) > MANY and np.mean(beyond) > MANY:
            yield "clipped", float(np.mean(beyond)), f"{word} {bound:.12g}"
            return
    ours, theirs = (np.quantile(x, _QUANTILES) for x in (served, logged))
    spread = theirs[-1] - theirs[0]
    with np.errstate(all="ignore"):
        ratios = ours / theirs
    ratio = float(np.median(ratios))
    if np.all(np.isfinite(ratios)) and np.all(np.abs(ratios / ratio - 1) < 0.3) and not 0.4 < ratio < 2.5:
        yield "other unit", 1.0, f"about the log's values times {ratio:.4g}"
    elif np.all(np.abs(ours - theirs - np.median(ours - theirs)) < 0.2 * spread) and (
        abs(np.median(ours - theirs)) > 0.4 * spread
    ):
        yield "shifted", 1.0, f"about the log's values {np.median(ours - theirs):+.4g}"
