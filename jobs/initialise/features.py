"""Fields and dense features: one or both for each column, by its kind, its distinct values and its distribution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nightjar.jobs.initialise.additive import auc_alone, by_value
from nightjar.jobs.initialise.columns import LoggedColumn, percent
from nightjar.jobs.initialise.entries import Entry, FieldEntry, named, power_of_two
from nightjar.jobs.initialise.look import Look
from nightjar.jobs.initialise.roles import is_id
from nightjar.jobs.initialise.screen import is_free_text, is_known_after_ranking

# An integer with so few values is a field and no number; up to the second, with enough rows a value, it is both.
_FEW, _SEVERAL = 12, 256
_ROWS_A_VALUE = 20
# Values of an integer are names, not amounts, where they tell so much more (AUC) than the ranges that they lie in.
# Where most of the newest rows hold new ones, they are amounts even so.
_NAMES_TELL, _NAMES_RETURN = 0.03, 0.5
# A field with so many new values is only counted: a weight is learned of what comes again.
_NEW_VALUES = 0.2
_MANY_VALUES = 100_000
_OPEN_ENDED = 0.5
_SMALL_FIELD = 64


@dataclass(frozen=True)
class Features:
    """Fields and dense features, in the order of the log's columns. left_out: columns that say what another does."""

    fields: list[FieldEntry]
    dense: list[Entry]
    left_out: dict[str, str]


def propose_features(look: Look) -> Features:
    """What each usable column becomes; one field at least."""
    fields: list[FieldEntry] = []
    dense: list[Entry] = []
    left_out: dict[str, str] = {}
    for column in look.usable:
        twin = _twin(column, fields)
        if _is_field(column, look) and not twin:
            fields.append(_field(column, look, [field.name for field in fields]))
        if _is_dense(column, look):
            dense.append(_dense(column, look, [entry.name for entry in dense], twin))
            if column.kind == "number" and column.distinct <= _FEW:
                fields.append(_intervals(column, [field.name for field in fields]))
        elif twin:
            left_out[column.name] = f"one to one with the field {twin}"
    if not fields:
        best = max(look.usable, key=lambda column: look.screening.auc[column.name])
        fields.append(_intervals(best, []))
    return Features(fields, dense, left_out)


def _is_field(column: LoggedColumn, look: Look) -> bool:
    if column.kind != "integer":
        return column.is_categorical
    return _names_something(column, look) or _is_both(column) or column.distinct <= _FEW


def _is_dense(column: LoggedColumn, look: Look) -> bool:
    if column.kind != "integer":
        return column.kind == "number"
    return column.distinct > _FEW and not _names_something(column, look)


def _is_both(column: LoggedColumn) -> bool:
    return _FEW < column.distinct <= _SEVERAL and column.present >= _ROWS_A_VALUE * column.distinct


def _names_something(column: LoggedColumn, look: Look) -> bool:
    """True of integers that are names: by the column's name, or since their values tell more than their size."""
    if is_id(column) or column.name == look.roles.group:
        return True
    if column.distinct <= _SEVERAL or column.number_R is None:
        return False
    tells = auc_alone(look.rows, by_value(column)) - look.screening.auc[column.name]
    return tells > _NAMES_TELL and look.unknown(column) < _NAMES_RETURN


def _twin(column: LoggedColumn, fields: Sequence[FieldEntry]) -> str | None:
    """The field whose values go one to one with the column's, such as a name and its number."""
    for field in fields:
        other = field.column
        if other.kind != "list" and column.kind != "list" and other.distinct == column.distinct > 2:
            joint = np.unique(other.code_V * column.codes + column.code_V)
            if len(joint) == column.distinct + bool(column.missing) and other.missing == column.missing:
                return field.name
    return None


def _field(column: LoggedColumn, look: Look, taken: Sequence[str]) -> FieldEntry:
    settings = named(column.name, taken)
    comment = f"{column.figures}{_alone(column, look)}"
    if column.kind == "list":
        settings["multi_valued"] = True
    if is_free_text(column) or _is_open_ended(column):
        settings |= {"kind": "hashed", "buckets": power_of_two(_expected(column, look), 2**10, 2**20)}
        comment = f"{'free text' if is_free_text(column) else 'open-ended'}: {comment}"
        return FieldEntry(Entry(settings, comment), column)
    settings |= _vocabulary(column)
    new = look.unknown(column) if column.kind != "list" and column.distinct > _SMALL_FIELD else 0.0
    if new > _NEW_VALUES:
        settings |= {"embedding": 0, "wide": False}
        comment += f"; {percent(new)} of the newest rows hold new ones: a key of counts only"
        return FieldEntry(Entry(settings, comment), column, counts_only=True)
    if column.distinct <= _SMALL_FIELD:
        settings["embedding"] = 8
    if is_known_after_ranking(column):
        comment += "; known only after ranking: a request has none"
    return FieldEntry(Entry(settings, comment), column)


def _vocabulary(column: LoggedColumn) -> dict[str, Any]:
    least = 1 if column.distinct <= 100 else 2 if column.distinct <= 1000 else 5
    settings: dict[str, Any] = {"min_count": least} if least > 1 else {}
    if column.distinct > _MANY_VALUES:
        settings |= {"max_size": 10 * _MANY_VALUES, "oov_buckets": 16, "retire_after_days": 90}
    return settings


def _is_open_ended(column: LoggedColumn) -> bool:
    """True of strings of which most rows hold another, and that name no one: queries, titles."""
    return column.kind == "string" and not is_id(column) and column.distinct > _OPEN_ENDED * column.present > 500


def _expected(column: LoggedColumn, look: Look) -> float:
    """Distinct values of the sampled days, if new ones go on to come as in the sample."""
    return column.distinct / look.sample.share


def _intervals(column: LoggedColumn, taken: Sequence[str]) -> FieldEntry:
    assert column.number_R is not None, "a number has numbers"
    values = np.unique(column.number_R[~np.isnan(column.number_R)])
    said = f"{column.figures}: each an interval of its own"
    if len(values) > _FEW:
        values, said = (
            np.unique(np.nanquantile(column.number_R, np.linspace(0, 1, 11)[:-1])),
            "ten ranges: there is no other field",
        )
    settings = {**named(column.name, taken, "_band"), "column": column.name, "boundaries": values[1:].tolist()}
    return FieldEntry(Entry({**settings, "embedding": 8}, said), column)


def _dense(column: LoggedColumn, look: Look, taken: Sequence[str], twin: str | None) -> Entry:
    assert column.number_R is not None, "a dense feature's column has numbers"
    known = column.number_R[~np.isnan(column.number_R)]
    low, middle, high = (float(x) for x in np.quantile(known, [0.0, 0.5, 0.995], method="lower"))
    settings = named(column.name, taken)
    usual = float((known == middle).mean())
    comment = f"{low:.4g} to {float(known.max()):.4g}, median {middle:.4g}, {column.figures}{_alone(column, look)}"
    if low >= 0 and (usual > 0.5 or 0 < 50 * middle < high):
        settings["transform"] = "log"
        reason = f"{percent(usual)} of them {middle:.4g}" if usual > 0.5 else f"99.5 % below {high:.4g}"
        comment += f"; heavy tail, {reason}"
    elif column.distinct < 100:
        settings["quantiles"] = max(column.distinct, 2)
    if twin:
        comment += f"; one to one with the field {twin}"
    return Entry(settings, comment)


def _alone(column: LoggedColumn, look: Look) -> str:
    return f", AUC alone {look.screening.auc[column.name]:.3f}"
