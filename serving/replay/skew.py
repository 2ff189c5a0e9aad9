"""Requests beside the log of their day, row by row: which columns differ, and what has become of their values."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nightjar.serving.raw_values import Row, kind_of
from nightjar.serving.replay.differences import Difference
from nightjar.serving.replay.hypotheses import Pair, hypotheses, same

FEW = 3
"""Fewer rows than this are not given a name; they are `other values`."""
_SHARE = 0.3
_NEARLY_ALL = 0.95
_SHOWN = 3


@dataclass(frozen=True)
class Joined:
    """The same impressions twice. logged, served: of each row what the log has and what the request brought."""

    logged: Sequence[Row]
    served: Sequence[Row]

    def pairs(self, column: str) -> list[Pair]:
        """Of each row the log's value and the served one, None where it is missing."""
        return [(known(a.get(column)), known(b.get(column))) for a, b in zip(self.logged, self.served, strict=True)]


def known(value: Any) -> Any:
    """A value with None for NaN."""
    return None if isinstance(value, float) and math.isnan(value) else value


def find_skew(joined: Joined, columns: Sequence[str]) -> list[Difference]:
    """Differences of the columns that features read, each with the name of what explains it.

    A column's rows that differ are given to the hypothesis that explains most of them, those that are left to the next
    one, and so on; what none explains is `other values`.
    """
    pairs = {column: joined.pairs(column) for column in columns}
    found: list[Difference] = []
    extra = sorted({name for row in joined.served for name in row} - set(columns))
    for column in columns:
        if any(column in row for row in joined.served) or all(logged is None for logged, _ in pairs[column]):
            found += _types(column, pairs[column])
            found += _explained(column, pairs, joined)
        else:
            found += _absent(column, extra, pairs[column], joined)
    return _with_swaps(found, pairs)


def _absent(column: str, extra: Sequence[str], pairs: Sequence[Pair], joined: Joined) -> Iterator[Difference]:
    """A column that no row brings: under another name, or not at all."""
    for name in extra:
        brought = [known(row.get(name)) for row in joined.served]
        equal = sum(same(logged, served) for (logged, _), served in zip(pairs, brought, strict=True))
        if equal >= _NEARLY_ALL * len(pairs):
            said = f"it comes as {name!r}, which no feature reads"
            yield Difference(kind="renamed column", column=column, rows=equal, of=len(pairs), said=said)
            return
    lost = sum(logged is not None for logged, _ in pairs)
    yield Difference(
        kind="missing column", column=column, rows=lost, of=len(pairs), said="no request brings it; the log has values"
    )


def _types(column: str, pairs: Sequence[Pair]) -> Iterator[Difference]:
    kinds = Counter((kind_of(logged), kind_of(served)) for logged, served in pairs if None not in (logged, served))
    for (logged, served), count in kinds.most_common():
        if logged != served and {logged, served} != {"integer", "number"} and "list of nothing" not in (logged, served):
            said = f"{served}, where the log has {logged}"
            yield Difference(kind="other type", column=column, rows=count, of=len(pairs), said=said)


def _explained(column: str, pairs: Mapping[str, Sequence[Pair]], joined: Joined) -> Iterator[Difference]:
    own = pairs[column]
    left = [n for n, pair in enumerate(own) if not same(*pair) and not _of_other_shape(*pair)]
    constant = _constant(column, own, left)
    if constant:
        yield constant
        return
    while len(left) >= FEW:
        options = [
            (hypothesis.kind, hypothesis.said, [n for n in left if hypothesis.holds(*own[n])])
            for hypothesis in hypotheses([own[n] for n in left])
        ]
        options += _elsewhere(column, pairs, left)
        kind, said, rows = max(options, key=lambda option: len(option[2]))
        if len(rows) < max(FEW, _SHARE * len(left)):
            break
        yield Difference(kind=kind, column=column, rows=len(rows), of=len(own), said=f"{said}; {_examples(own, rows)}")
        left = sorted(set(left) - set(rows))
    if left:
        yield Difference(kind="other values", column=column, rows=len(left), of=len(own), said=_examples(own, left))


def _of_other_shape(logged: Any, served: Any) -> bool:
    """A list where the other is none: that is told as a type, and its values are not compared."""
    return None not in (logged, served) and isinstance(logged, list) != isinstance(served, list)


def _constant(column: str, own: Sequence[Pair], left: Sequence[int]) -> Difference | None:
    """One value in every row, where the log has several."""
    served = {repr(value) for _, value in own}
    logged = {repr(value) for value, _ in own if value is not None}
    if len(served) > 1 or len(logged) < 2 or None in (value for _, value in own) or len(left) < FEW:
        return None
    said = f"every row has {served.pop()}, where the log has {len(logged)} values"
    return Difference(kind="constant", column=column, rows=len(left), of=len(own), said=said)


def _elsewhere(column: str, pairs: Mapping[str, Sequence[Pair]], left: Sequence[int]) -> Iterator[Any]:
    """Values that belong to another column or to the row beside."""
    own = pairs[column]
    for other, theirs in pairs.items():
        if other != column:
            rows = _mostly_known(own, [n for n in left if same(theirs[n][0], own[n][1])])
            yield "values of another column", f"the log's {other!r}", rows
    for step, which in ((-1, "before"), (1, "after")):
        rows = [n for n in left if 0 <= n + step < len(own) and same(own[n + step][0], own[n][1])]
        yield "values of another row", f"the log's value of the row {which}", _mostly_known(own, rows)


def _mostly_known(own: Sequence[Pair], rows: list[int]) -> list[int]:
    """The rows, if most of them have a value: that two are missing says little."""
    known_ = [n for n in rows if own[n][1] is not None]
    return rows if 2 * len(known_) >= len(rows) else known_


def _with_swaps(found: list[Difference], pairs: Mapping[str, Sequence[Pair]]) -> list[Difference]:
    """Two columns that have each other's values are one difference."""
    taken = {one.column: one for one in found if one.kind == "values of another column"}
    result: list[Difference] = []
    for one in found:
        other = next((name for name in pairs if one.said.startswith(f"the log's {name!r};")), None)
        back = taken.get(other) if one.kind == "values of another column" else None
        if back is None or not back.said.startswith(f"the log's {one.column!r};"):
            result.append(one)
        elif str(one.column) < str(other):
            result.append(one.model_copy(update={"kind": "swapped columns", "said": f"with {other!r}"}))
    return result


def _examples(own: Sequence[Pair], rows: Sequence[int]) -> str:
    shown = dict.fromkeys(f"{own[n][0]!r} was served as {own[n][1]!r}" for n in rows[:100])
    return "; ".join(list(shown)[:_SHOWN])
