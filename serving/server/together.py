"""Small requests scored together, each to the bit as if it had come alone.

What costs a small request its time is calls into Arrow and NumPy a column, whatever the number of rows is. Rows of
several requests share them where no type of a column changes by it; the head is run for each request apart, since its
matrix products may round one row otherwise than many.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nightjar.features.contract.errors import DataError
from nightjar.serving.model import ServingModel

Row = dict[str, Any]
Kinds = dict[str, str]

# More of them share little by being encoded with others; 64 requests of so many are fewer than a model takes at once.
_SMALL_ROWS = 64
_INTEGERS = range(-(2**63), 2**63)
_MISSING, _LIST = "", "list "
_NAMES = {str: "string", bool: "boolean", int: "integer", float: "number"}


def score_together(
    model: ServingModel, columns: Sequence[str], requests: Sequence[list[Row]]
) -> list[np.ndarray | DataError]:
    """`model.score` of each request, or why it is refused.

    Args:
        model: that scores.
        columns: the names of its inputs.
        requests: rows of scalars and of lists of scalars.
    """
    answers: list[np.ndarray | DataError | None] = [None] * len(requests)
    for group in _groups(columns, requests):
        if len(group) == 1:
            continue
        try:
            scored = model.score_apart([requests[place] for place in group])
        except DataError:  # of one of them: each finds out for itself
            continue
        for place, scores in zip(group, scored, strict=True):
            answers[place] = scores
    return [_alone(model, rows) if found is None else found for rows, found in zip(requests, answers, strict=True)]


def _alone(model: ServingModel, rows: list[Row]) -> np.ndarray | DataError:
    try:
        return model.score(rows)
    except DataError as error:
        return error


def _groups(columns: Sequence[str], requests: Sequence[list[Row]]) -> list[list[int]]:
    """Places of requests whose columns are of the same kinds, in the order in which they came."""
    if len(requests) == 1:
        return [[0]]
    groups: list[tuple[Kinds, list[int]]] = []
    for place, rows in enumerate(requests):
        kinds = kinds_of(rows, columns)
        for of_group, places in groups:
            if kinds is not None and (both := _joined(of_group, kinds)) is not None:
                of_group.update(both)
                places.append(place)
                break
        else:
            groups.append((kinds or {}, [place]) if kinds is not None else ({"": "alone"}, [place]))
    return [places for _, places in groups]


def kinds_of(rows: Sequence[Row], names: Sequence[str]) -> Kinds | None:
    """What each column holds; None of no row or of many, or if one mixes kinds, of which Arrow has to make one type."""
    if not 0 < len(rows) <= _SMALL_ROWS:
        return None
    found = {}
    for name in names:
        kind = _kind([row.get(name) for row in rows])
        if kind is None:
            return None
        found[name] = kind
    return found


def _kind(values: Sequence[Any]) -> str | None:
    types = {type(value) for value in values} - {type(None)}
    if not types:
        return _MISSING
    if types == {list}:
        inner = _kind([item for value in values if value is not None for item in value])
        return None if inner is None else _LIST + inner
    if len(types) > 1 or list in types:
        return None
    if types == {int} and not all(value is None or value in _INTEGERS for value in values):
        return None
    return _NAMES[types.pop()]


def _joined(one: Kinds, other: Kinds) -> Kinds | None:
    """The kinds of both together; None if a column would be of two. What is missing takes the other's kind."""
    if one.keys() != other.keys():
        return None
    both = {}
    for name, kind in one.items():
        longer, shorter = (kind, other[name]) if len(kind) >= len(other[name]) else (other[name], kind)
        if longer != shorter and shorter not in (_MISSING, _LIST if longer.startswith(_LIST) else _MISSING):
            return None
        both[name] = longer
    return both
