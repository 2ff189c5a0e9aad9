"""Bodies of requests, read strictly: what could be read in two ways is refused.

JSON in UTF-8 without a byte order mark; no key twice in an object, no NaN or Infinity, no number beyond a double's
range. Rows are objects whose values are strings, numbers, booleans, null, or lists of those.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from nightjar.features.contract.errors import did_you_mean
from nightjar.features.encoder.requests import InContext, Rows
from nightjar.serving.server.settings import Refused

Row = dict[str, Any]
_SCALARS = {str, int, float, bool, type(None)}
_KINDS = {dict: "an object", list: "a list", str: "a string", int: "a number", float: "a number", bool: "a boolean"}


@dataclass(frozen=True)
class Columns:
    """Of the model's inputs: those that a request must bring, and all."""

    required: frozenset[str]
    known: frozenset[str]


@dataclass(frozen=True)
class Body:
    """A request. context: what all rows have in common; None without. k: how many of the best are asked for, None for
    all.
    """

    rows: list[Row]
    context: Row | None = None
    k: int | None = None

    @property
    def to_score(self) -> Rows:
        """As a model takes it."""
        return self.rows if self.context is None else InContext(self.context, self.rows)


def read_rank(body: bytes, columns: Columns, most: int) -> Body:
    """`{"context": {…}, "candidates": [{…}, …], "k": 10}`; context and k may be left out.

    Args:
        body: of the request.
        columns: the model's.
        most: how many rows are allowed.

    Raises Refused with 400 for what is not JSON, 413 for too many rows, 422 for all else.
    """
    found = _envelope(body, "candidates", ("context", "candidates", "k"))
    k = found.get("k")
    if k is not None and (type(k) is not int or k < 1):
        raise Refused(422, f"k is {_short(k)}; it must be an integer of 1 or more, or be left out for all.")
    return _checked(found, "candidates", columns, most, k)


def read_score(body: bytes, columns: Columns, most: int) -> Body:
    """`{"rows": [{…}, …]}`, with a `context` if wanted; see read_rank."""
    return _checked(_envelope(body, "rows", ("context", "rows")), "rows", columns, most, None)


def read_explain(body: bytes, columns: Columns, most: int) -> Body:
    """`{"row": {…}}`; see read_rank."""
    found = _envelope(body, "row", ("row",))
    return _checked({"rows": [found["row"]]}, "rows", columns, most, None, one="row")


def _envelope(body: bytes, needed: str, known: Sequence[str]) -> Row:
    found = parse(body)
    if type(found) is not dict:
        raise Refused(422, f'the body is {_kind(found)}. Send an object: {{"{needed}": …}}.')
    unknown = [name for name in found if name not in known]
    if unknown:
        raise Refused(
            422,
            f"the body has the keys {_names(unknown)}; it may have {list(known)}{did_you_mean(unknown, known) or '.'}",
        )
    if needed not in found:
        raise Refused(422, f'the body has no "{needed}". Send an object: {{"{needed}": …}}.')
    return found


def parse(body: bytes) -> Any:
    """A JSON text. Raises Refused with 400, and why, for anything else."""
    if not body.strip():
        raise Refused(400, "the body is empty. Send a JSON object.")
    try:
        return _DECODER.decode(body.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise Refused(400, f"the body is not UTF-8: {error.reason} at byte {error.start}.") from error
    except RecursionError as error:
        raise Refused(
            400, "the body is nested too deeply. A row is an object of values and lists of values."
        ) from error
    except ValueError as error:
        raise Refused(400, f"the body is not JSON: {error}.") from error


def _checked(found: Row, name: str, columns: Columns, most: int, k: int | None, one: str | None = None) -> Body:
    context, rows = found.get("context"), found[name]
    if context is not None and type(context) is not dict:
        raise Refused(422, f"context is {_kind(context)}; it must be an object of columns.")
    if type(rows) is not list:
        raise Refused(422, f"{name} is {_kind(rows)}; it must be a list of objects.")
    if len(rows) > most:
        raise Refused(413, f"the request has {len(rows)} {name}; at most {most} are allowed. Send it in parts.")
    for place, row in enumerate(rows):
        if type(row) is not dict:
            raise Refused(422, f"{one or f'{name}[{place}]'} is {_kind(row)}; it must be an object of columns.")
    if odd := next(_odd_values([*rows, context] if context else rows), None):
        raise Refused(422, odd)
    _require(columns, rows, context or {})
    return Body(rows, context, k)


def _odd_values(rows: Sequence[Row]) -> Iterator[str]:
    """What is no value of a column."""
    kinds = {type(value) for row in rows for value in row.values()}
    if kinds <= _SCALARS:
        return
    for row in rows:
        for name, value in row.items():
            inner = {type(item) for item in value} - _SCALARS if type(value) is list else {type(value)} - _SCALARS
            if inner:
                where = "holds a list with" if type(value) is list else "holds"
                what = _KINDS[next(iter(inner))]
                yield (
                    f"column {_short(name)} {where} {what}; a value is a string, a number, a boolean, null, or a list "
                    f"of those."
                )


def _require(columns: Columns, rows: Sequence[Row], context: Mapping[str, Any]) -> None:
    """Raises Refused if a column that the model reads is in no row: it may be misspelt."""
    lacking = columns.required - context.keys()
    for row in rows:
        if not lacking:
            return
        lacking = lacking - row.keys()
    if rows and lacking:
        brought: Collection[str] = {*context, *rows[0]} - columns.known
        raise Refused(
            422,
            f"no row brings the columns {sorted(lacking)}, which the model reads. Bring them, null where a value is "
            f"missing{did_you_mean(sorted(brought), sorted(lacking)) or '.'}",
        )


def _unique(pairs: list[tuple[str, Any]]) -> Row:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise Refused(400, f"the body has the key {_short(twice)} twice in one object. Keep one of them.")
    return found


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise Refused(400, f"the body holds the number {text[:40]}, which is beyond a double's range.")
    return number


def _no_constant(name: str) -> NoReturn:
    raise Refused(400, f"the body holds {name}, which is not JSON. Send null where a value is missing.")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_float=_finite, parse_constant=_no_constant)


def _kind(value: Any) -> str:
    return "null" if value is None else _KINDS[type(value)]


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _names(names: Sequence[str]) -> str:
    return f"[{', '.join(map(_short, names[:5]))}{', ...' if len(names) > 5 else ''}]"
