"""Which columns no feature may read: what is no input, what names a row or a request, what is known only afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from nightjar.jobs.initialise.additive import LabelledRows, auc_alone, coded
from nightjar.jobs.initialise.columns import LoggedColumn, percent
from nightjar.jobs.initialise.history import share_unknown
from nightjar.jobs.initialise.roles import Roles, is_id

# What a sample must hold of its days' rows for "never seen before" to be about the log and not about the sample.
TELLING_SHARE = 0.2
_UNIQUE = 0.98
_NEVER_AGAIN = 0.95
_LEAKING_AUC = 0.97
_MANY_ROWS = 10_000
_TEXT_WORDS = 3.0
_REQUEST_WORDS = frozenset(["request", "query", "search", "session", "auction", "pageview", "page"])
_TRUTH_WORDS = frozenset(("true", "truth"))
_RANKING_WORDS = frozenset(["position", "pos", "rank", "slot"])


@dataclass(frozen=True)
class Screening:
    """left_out: the reason by column. auc: of each other column alone. truth, request: columns of these roles."""

    left_out: Mapping[str, str]
    auc: Mapping[str, float]
    truth: str | None
    request: str | None


def screen(columns: Mapping[str, LoggedColumn], roles: Roles, rows: LabelledRows, sampled: float) -> Screening:
    """Look for columns that must be left out. sampled: the part of its days' rows that the sample holds."""
    left_out: dict[str, str] = {}
    alone: dict[str, float] = {}
    truth = request = None
    for name, column in columns.items():
        if name in (roles.label, roles.timestamp):
            continue
        reason = _no_input(column) or _names_rows(column, rows, sampled)
        if reason and is_id(column) and set(column.words) & _REQUEST_WORDS and column.distinct < column.present:
            request = request or name
        if reason is None:
            alone[name] = auc_alone(rows, coded(column))
            if _is_probability(column, rows, alone[name]):
                is_truth = truth is None and bool(set(column.words) & _TRUTH_WORDS)
                truth = name if is_truth else truth
                reason = (
                    f"the label's probability (calibrated, AUC {alone[name]:.3f}): "
                    f"{'it gives the floor, and no feature may read it' if is_truth else 'a score of another model'}"
                )
            else:
                reason = _tells_the_label(column, rows, alone[name])
        if reason:
            left_out[name] = reason
            alone.pop(name, None)
    return Screening(left_out, alone, truth, request)


def is_free_text(column: LoggedColumn) -> bool:
    """True of strings of several words that seldom repeat."""
    return column.kind == "string" and column.mean_words >= _TEXT_WORDS and column.distinct > 0.05 * column.present


def is_known_after_ranking(column: LoggedColumn) -> bool:
    """True if the name says that the ranking itself decides the value: position, rank, slot."""
    return bool(column.words) and column.words[-1] in _RANKING_WORDS


def _no_input(column: LoggedColumn) -> str | None:
    if column.kind == "other":
        return f"its type, {column.type}, is none that a feature can read"
    if column.kind == "timestamp":
        return "a timestamp other than the row's own; for an age or a delay, write a number into the log"
    if not column.present or not column.distinct:
        return "no row has a value"
    return "the same value in every row" if column.is_constant else None


def _names_rows(column: LoggedColumn, rows: LabelledRows, sampled: float) -> str | None:
    if column.kind not in ("string", "integer") or is_free_text(column):
        return None
    named = column.kind == "string" or is_id(column)
    if column.distinct >= _UNIQUE * column.present and (named or column.present >= _MANY_ROWS):
        return f"an identifier of the row: {column.figures} in {column.rows:,} rows"
    if not named or column.distinct < 100 or sampled < TELLING_SHARE or column.mean_words > 1.5:
        return None
    unknown = share_unknown(column.code_V, rows, sampled)
    if unknown < _NEVER_AGAIN:
        return None
    return f"names a request or a session: {percent(unknown)} of the newest rows hold values that older rows do not"


def _is_probability(column: LoggedColumn, rows: LabelledRows, alone: float) -> bool:
    """True of numbers in [0, 1] that tell of the label and are its rate, in every twentieth of the rows."""
    number = column.number_R
    if column.kind != "number" or number is None or column.missing or column.distinct < 50 or alone < 0.55:
        return False
    if number.min() < 0 or number.max() > 1:
        return False
    for part in np.array_split(np.argsort(number, kind="stable"), 20):
        expected, found = float(number[part].mean()), float(rows.label_R[part].mean())
        noise = np.sqrt(max(expected * (1 - expected), 1e-6) / len(part))
        if abs(found - expected) > 4 * noise + 0.1 * expected:
            return False
    return True


def _tells_the_label(column: LoggedColumn, rows: LabelledRows, alone: float) -> str | None:
    """A value that nearly always comes with one label is known only after it: a dwell time, a price that was paid."""
    if alone >= _LEAKING_AUC:
        return f"tells the label by itself (AUC {alone:.3f}): it must be known only afterwards"
    if column.kind == "list":
        return None
    usual = np.bincount(column.code_V).argmax()
    rest = column.code_V != usual
    rate = float(rows.label_R[rest].mean())
    covered = float(rows.label_R[rest].sum() / max(rows.label_R.sum(), 1))
    if rate >= 0.995 and covered >= 0.2 and rows.base_rate <= 0.5:
        return f"known only afterwards: {percent(rate)} of the rows with an unusual value are positive"
    return None
