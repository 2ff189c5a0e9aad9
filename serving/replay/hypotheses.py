"""What may have become of a value between the log and a request: each hypothesis by its name.

A hypothesis turns the log's value into the one that was served, or back; which of them holds for a column is for
serving.replay.skew to find. Values are raw: None, booleans, integers, floating-point numbers, text and lists.
"""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from nightjar.serving.replay.differences import Kind

Pair = tuple[Any, Any]
"""The log's value and the served one."""

CYCLES = (24, 7)
_ENOUGH = 0.3


@dataclass(frozen=True)
class Hypothesis:
    """holds: whether it explains a pair whose values differ. said: in words."""

    kind: Kind
    said: str
    holds: Callable[[Any, Any], bool]


def text_of(value: Any) -> str:
    """A categorical value as the encoder reads it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def is_number(value: Any) -> bool:
    """True for integers and floating-point numbers, not for booleans."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def same(logged: Any, served: Any) -> bool:
    """True if the encoder makes the same of both; lists count as the same only with all their values in order."""
    if logged is None or served is None:
        return logged is None and served is None
    if isinstance(logged, list) or isinstance(served, list):
        return (
            isinstance(logged, list)
            and isinstance(served, list)
            and len(logged) == len(served)
            and all(map(same, logged, served))
        )
    if is_number(logged) and is_number(served):
        return bool(logged == served)
    return text_of(logged) == text_of(served)


def hypotheses(pairs: Sequence[Pair]) -> Iterator[Hypothesis]:
    """Those that are worth a try on pairs that differ; parameters are fitted to them."""
    missing = [served for logged, served in pairs if logged is None]
    if missing:
        yield _default(missing)
    yield Hypothesis("missing instead of a value", "null, where the log has a value", lambda _, served: served is None)
    numbers = [(a, b) for a, b in pairs if is_number(a) and is_number(b)]
    if numbers:
        yield from _of_numbers(numbers)
    yield from _of_texts([(text_of(a), text_of(b)) for a, b in pairs if _is_text(a) and _is_text(b)])
    yield from _of_lists()


def _is_text(value: Any) -> bool:
    return value is not None and not isinstance(value, list)


def _default(served: Sequence[Any]) -> Hypothesis:
    (text, _), *_ = Counter(map(repr, served)).most_common(1)
    said = f"{text}, where the log has null"
    return Hypothesis(
        "default instead of missing",
        said,
        lambda logged, value: logged is None and value is not None and repr(value) == text,
    )


def _of_numbers(pairs: Sequence[Pair]) -> Iterator[Hypothesis]:
    logged, served = (np.array(side, dtype=np.float64) for side in zip(*pairs, strict=True))
    yield from _cyclic(logged, served)
    with np.errstate(all="ignore"):
        shift, ratio = _common(np.round(served - logged, 9)), _common(np.round(served / logged, 9))
    if shift:
        said = f"the log's value {shift:+.12g}"
        yield Hypothesis("shifted", said, _numeric(lambda a: a + shift))
    if ratio and not math.isclose(ratio, 1.0, rel_tol=1e-6):
        yield Hypothesis("other unit", f"the log's value times {ratio:.12g}", _numeric(lambda a: a * ratio))
    for digits in range(7):
        yield Hypothesis("rounded", f"to {digits} digits", _either(lambda a, d=digits: round(a, d)))  # type: ignore[misc]
    yield Hypothesis("rounded", "to whole numbers, downwards", _either(lambda a: float(math.floor(a)), exact=True))
    yield Hypothesis("rounded", "to single precision", _either(lambda a: float(np.float32(a)), exact=True))
    for bound, word, beyond in ((served.max(), "above", np.greater), (served.min(), "below", np.less)):
        if np.mean(served == bound) > _ENOUGH and len(set(logged)) > 1:
            yield Hypothesis(
                "clipped",
                f"{word} {bound:.12g}",
                lambda a, b, bound=bound, beyond=beyond: (  # type: ignore[misc]
                    is_number(a) and is_number(b) and b == bound and bool(beyond(a, bound))
                ),
            )


def _cyclic(logged: np.ndarray, served: np.ndarray) -> Iterator[Hypothesis]:
    """Hours of a day, days of a week: a shift that comes round."""
    for cycle in CYCLES:
        values = np.concatenate([logged, served])
        if not np.all((values >= 0) & (values < cycle) & (values == np.floor(values))):
            continue
        shift = _common((served - logged) % cycle)
        wraps = shift is not None and len(np.unique(served - logged)) > 1
        if shift and wraps:
            shown = shift - cycle if shift > cycle / 2 else shift
            yield Hypothesis(
                "time zone",
                f"the log's value {shown:+g}, modulo {cycle}",
                _numeric(lambda a, k=shift, m=cycle: (a + k) % m),  # type: ignore[misc]
            )


def _common(values: np.ndarray) -> float | None:
    """The most frequent finite value, if it is frequent."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return None
    found, counts = np.unique(finite, return_counts=True)
    return float(found[counts.argmax()]) if counts.max() > _ENOUGH * len(finite) else None


def _numeric(change: Callable[[Any], Any]) -> Callable[[Any, Any], bool]:
    def holds(logged: Any, served: Any) -> bool:
        return (
            is_number(logged) and is_number(served) and math.isclose(change(logged), served, rel_tol=1e-9, abs_tol=1e-9)
        )

    return holds


def _either(change: Callable[[Any], Any], *, exact: bool = False) -> Callable[[Any, Any], bool]:
    """The served value is the changed one, or the log's is."""

    def equal(a: Any, b: Any) -> bool:
        return bool(a == b) if exact else math.isclose(a, b, rel_tol=1e-12, abs_tol=1e-12)

    def holds(logged: Any, served: Any) -> bool:
        if not (is_number(logged) and is_number(served)):
            return False
        if not (math.isfinite(logged) and math.isfinite(served) and max(abs(logged), abs(served)) < 3e38):
            return False
        return equal(change(logged), served) or equal(change(served), logged)

    return holds


def _normal(form: Literal["NFC", "NFD", "NFKC"]) -> Callable[[str], str]:
    return lambda text: unicodedata.normalize(form, text)


def _whole(text: str) -> str:
    head, _, decimals = text.partition(".")
    return head if head.lstrip("-").isdigit() and not decimals.strip("0") else text


def _latin(text: str) -> str:
    return text.encode("utf-8", "replace").decode("latin-1")


# Kind; what is said if the log's text so changed was served; what, if the served text so changed is the log's.
TEXT_CHANGES: tuple[tuple[Kind, str, str, Callable[[str], str]], ...] = (
    ("white space", "trimmed", "with white space that the log has not", str.strip),
    ("letter case", "in lower case", "with capitals that the log has not", str.lower),
    ("letter case", "in upper case", "with small letters that the log has not", str.upper),
    ("leading zeros", "lost", "added", lambda text: text.lstrip("0") or "0"),
    ("number format", "without decimals", "with decimals, such as 3.0 for 3", _whole),
    ("number format", "1 and 0 for booleans", "booleans for 1 and 0", lambda t: {"true": "1", "false": "0"}.get(t, t)),
    ("Unicode form", "composed (NFC)", "not composed (NFC), as in the log", _normal("NFC")),
    ("Unicode form", "taken apart (NFD)", "not taken apart (NFD), as in the log", _normal("NFD")),
    ("Unicode form", "plain (NFKC)", "not plain (NFKC), as in the log", _normal("NFKC")),
    ("text encoding", "UTF-8 read as Latin-1", "correct, where the log has UTF-8 read as Latin-1", _latin),
)


def _of_texts(pairs: Sequence[tuple[str, str]]) -> Iterator[Hypothesis]:
    for kind, forth, back, change in TEXT_CHANGES:
        yield Hypothesis(kind, forth, _textual(lambda a, b, f=change: f(a) == b))  # type: ignore[misc]
        yield Hypothesis(kind, back, _textual(lambda a, b, f=change: f(b) == a))  # type: ignore[misc]
        yield Hypothesis(kind, "otherwise than in the log", _textual(lambda a, b, f=change: f(a) == f(b)))  # type: ignore[misc]
    if not pairs:
        return
    longest = max(len(b) for _, b in pairs)
    yield Hypothesis(
        "cut short", f"to {longest} characters", _textual(lambda a, b: len(b) == longest < len(a) and a.startswith(b))
    )
    yield from _affixes(pairs)
    swapped = {"true": "false", "false": "true", "1": "0", "0": "1"}
    yield Hypothesis("inverted", "true for false, false for true", _textual(lambda a, b: swapped.get(a) == b))


def _affixes(pairs: Sequence[tuple[str, str]]) -> Iterator[Hypothesis]:
    """Something before or after every value, in the request or in the log."""
    for one, other, what in ((0, 1, "{!r} is added"), (1, 0, "{!r} is lost")):
        both = [(pair[one], pair[other]) for pair in pairs]
        before = Counter(b.removesuffix(a) for a, b in both if a and b != a and b.endswith(a))
        after = Counter(b.removeprefix(a) for a, b in both if a and b != a and b.startswith(a))
        for affix, _ in before.most_common(1):
            yield Hypothesis(
                "prefix",
                what.format(affix),
                _textual(lambda a, b, x=affix, turned=one: (a, b)[1 - turned] == x + (a, b)[turned]),  # type: ignore[misc]
            )
        for affix, _ in after.most_common(1):
            yield Hypothesis(
                "suffix",
                what.format(affix),
                _textual(lambda a, b, x=affix, turned=one: (a, b)[1 - turned] == (a, b)[turned] + x),  # type: ignore[misc]
            )


def _textual(holds: Callable[[str, str], bool]) -> Callable[[Any, Any], bool]:
    """Of values, and of lists value by value."""

    def of_values(logged: Any, served: Any) -> bool:
        if isinstance(logged, list) and isinstance(served, list):
            return len(logged) == len(served) and all(
                same(a, b) or (_is_text(a) and _is_text(b) and holds(text_of(a), text_of(b)))
                for a, b in zip(logged, served, strict=True)
            )
        return _is_text(logged) and _is_text(served) and holds(text_of(logged), text_of(served))

    return of_values


def _of_lists() -> Iterator[Hypothesis]:
    def lists(holds: Callable[[list[str], list[str]], bool]) -> Callable[[Any, Any], bool]:
        return lambda a, b: (
            isinstance(a, list) and isinstance(b, list) and holds([text_of(v) for v in a], [text_of(v) for v in b])
        )

    yield Hypothesis(
        "list order",
        "the log's values in another order; no score sees it",
        lists(lambda a, b: sorted(a) == sorted(b)),
    )
    yield Hypothesis("list duplicates", "values once or again; no score sees it", lists(lambda a, b: set(a) == set(b)))
    yield Hypothesis(
        "list cut short", "the first of the log's values", lists(lambda a, b: len(b) < len(a) and a[: len(b)] == b)
    )
