"""Frequencies and crosses: what keys' histories and conjunctions add to all features together, measured one by one.

Frequencies of single keys come first, then crosses, each the best that is left by what was taken before, then
frequencies of the user with what an item is: the history of a taste.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from nightjar.jobs.initialise.additive import AdditiveModel, Coded, Gain, binned, by_value, coded, model_of, pair
from nightjar.jobs.initialise.columns import LoggedColumn
from nightjar.jobs.initialise.entries import Entry, FieldEntry, power_of_two
from nightjar.jobs.initialise.history import history_of
from nightjar.jobs.initialise.look import Look
from nightjar.jobs.initialise.roles import is_id
from nightjar.jobs.initialise.screen import is_known_after_ranking

_MOST_CROSSES, _MOST_PAIRED = 6, 3
# Of so many fields all pairs are tried; of more, those of the fields that tell most alone.
_CROSSED_FIELDS = 16
# Nats a row: less is not worth a cross.
_WORTH = 3e-4
# The pairs that were best at first: only these are measured again once another was taken.
_SHORT_LIST = 12
# A string with so many values is a key, whatever it is called; what describes an item has fewer.
_KEY_VALUES = 200
# A key with so many rows a day has short windows; one with fewer than the second in all, a weaker prior.
_ROWS_A_DAY, _FEW_ROWS = 50, 20


class Interactions:
    """Measures what to propose, against the features that were proposed so far. Same look, same proposal."""

    def __init__(self, look: Look, fields: Sequence[FieldEntry]) -> None:
        self._look, self._fields = look, fields
        self._codes = {field.name: coded(field.column) for field in fields}
        alone = [coded(look.columns[name]) for name in look.screening.auc if not self._is_counts_only(name)]
        self._model: AdditiveModel = model_of(look.rows, alone)

    def single_key_frequencies(self) -> list[Entry]:
        """A frequency for each field that names users, items or the like."""
        entries = []
        for field in self._fields:
            if self._is_key(field):
                entry, history = self._frequency(f"{field.name}_rate", [field])
                entries.append(entry)
                self._model.add(history)
        return entries

    def crosses(self) -> list[Entry]:
        """The pairs of fields that add most, the best first."""
        measured = sorted((-self._gain(names, self._pair(names)).mean, names) for names in self._pairs())
        candidates = [(names, self._pair(names)) for _, names in measured[:_SHORT_LIST]]
        entries: list[Entry] = []
        while candidates and len(entries) < _MOST_CROSSES:
            gains = [self._gain(names, codes) for names, codes in candidates]
            best = max(range(len(gains)), key=lambda i: gains[i].mean)
            if gains[best].mean < _WORTH or not gains[best].is_certain:
                break
            names, codes = candidates.pop(best)
            entries.append(self._cross(names, codes, gains[best]))
            self._model.add(codes)
        return entries

    def paired_frequencies(self) -> list[Entry]:
        """Frequencies of the user with an attribute of the item, such as a genre; none without a user."""
        users = [field for field in self._fields if field.column.name == self._look.roles.group]
        items = [field for field in self._fields if self._is_key(field) and field not in users]
        if not users or not items:
            return []
        found = []
        for field in self._fields:
            if self._is_attribute(field, users[0], items):
                name = f"{users[0].name}_x_{field.name}_rate"
                entry, history = self._frequency(name, [users[0], field])
                gain = self._model.gain(history)
                if gain.is_certain and gain.mean >= _WORTH:
                    found.append((gain.mean, Entry(entry.settings, f"{entry.comment}; {_gained(gain)}")))
        return [entry for _, entry in sorted(found, key=lambda one: -one[0])[:_MOST_PAIRED]]

    def _pair(self, names: tuple[str, str]) -> Coded:
        return pair(self._codes[names[0]], self._codes[names[1]])

    def _gain(self, names: tuple[str, str], codes: Coded) -> Gain:
        return self._model.gain(codes, beyond=[self._codes[name] for name in names])

    def _is_counts_only(self, column: str) -> bool:
        return any(field.counts_only and field.column.name == column for field in self._fields)

    def _is_key(self, field: FieldEntry) -> bool:
        column = field.column
        if column.kind == "list" or field.entry.settings.get("kind") == "hashed":
            return False
        is_named = is_id(column) or column.name == self._look.roles.group
        return field.counts_only or is_named or (column.kind == "string" and column.distinct >= _KEY_VALUES)

    def _is_attribute(self, field: FieldEntry, user: FieldEntry, items: Sequence[FieldEntry]) -> bool:
        """True of a single value that some item settles and the user does not."""
        column = field.column
        if field in items or field is user or column.kind == "list" or column.distinct > _KEY_VALUES:
            return False
        return any(_settles(item.column, column) for item in items) and not _settles(user.column, column)

    def _frequency(self, name: str, keys: Sequence[FieldEntry]) -> tuple[Entry, Coded]:
        """The entry, and what the model is given of it."""
        look, rate = self._look, self._look.rows.base_rate
        code_R = keys[0].column.code_V
        if len(keys) > 1:
            code_R = pair(by_value(keys[0].column), by_value(keys[1].column)).code_V
        distinct = len(np.unique(code_R))
        past = history_of(code_R, look.rows, look.times)
        of_key = len(look.times.day_R) / look.sample.share / distinct
        settings: dict[str, Any] = {"name": name, "keys": [key.name for key in keys]}
        settings["windows"] = self._windows(look.usual_day / distinct)
        settings["statistics"] = ["log_odds", "log_count"]
        settings["prior"] = prior_of(rate)
        comment = f"{of_key:,.1f} rows a key"
        if of_key < _FEW_ROWS:
            settings["strength"] = 5
        prior, strength = settings["prior"], settings.get("strength", 20)
        by_day, by_moment = (binned(past.log_odds(prior, strength, as_of)) for as_of in ("day", "impression"))
        today = self._model.gain(by_moment, beyond=[by_day])
        if look.is_telling and today.is_certain and today.mean >= _WORTH:
            settings["as_of"] = "impression"
            comment += f"; the day's own counts before the row: {_gained(today)}"
            return Entry(settings, comment), by_moment
        return Entry(settings, comment), by_day

    def _windows(self, a_day: float) -> list[str]:
        """Short windows for keys that have enough rows in them, all days for the others."""
        if a_day < _ROWS_A_DAY or self._look.days < 2:
            return ["all"]
        return ["1d", "7d"] if self._look.days <= 14 else ["1d", "7d", "all"]

    def _pairs(self) -> Iterator[tuple[str, str]]:
        auc: Mapping[str, float] = self._look.screening.auc
        fields = [field for field in self._fields if not field.counts_only and not is_known_after_ranking(field.column)]
        chosen = sorted(fields, key=lambda field: -auc[field.column.name])[:_CROSSED_FIELDS]
        for a, b in combinations([field for field in fields if field in chosen], 2):
            both_lists = a.column.kind == b.column.kind == "list"
            if both_lists or a.column is b.column or _settles(a.column, b.column) or _settles(b.column, a.column):
                continue
            yield a.name, b.name

    def _cross(self, names: tuple[str, str], codes: Coded, gain: Gain) -> Entry:
        most = math.prod(self._codes[name].codes for name in names)
        expected = min(most, codes.codes / self._look.sample.share)
        settings: dict[str, Any] = {"name": "_x_".join(names), "fields": list(names)}
        settings["buckets"] = power_of_two(4 * expected, 2**10, 2**22)
        return Entry(settings, f"{codes.codes:,} pairs; {_gained(gain)}")


def prior_of(rate: float) -> float:
    """The base rate, to two digits."""
    return float(f"{min(max(rate, 1e-6), 1 - 1e-6):.2g}")


def _gained(gain: Gain) -> str:
    return f"takes {gain.mean:.4f} off the log loss of the newest rows"


def _settles(a: LoggedColumn, b: LoggedColumn) -> bool:
    """True if a value of `a` has one value of `b`, nearly always; never of lists."""
    if a.kind == "list" or b.kind == "list" or a.distinct < b.distinct:
        return False
    joint, counts = np.unique(a.code_V * b.codes + b.code_V, return_counts=True)
    a_of_joint = joint // b.codes
    most = np.zeros(a.codes, dtype=np.int64)
    np.maximum.at(most, a_of_joint, counts)
    return bool(most.sum() >= 0.98 * a.rows and len(joint) < 0.5 * a.rows)
