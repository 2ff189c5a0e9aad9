"""The sections beside the features: training, nightly, gate; and the sampling of negatives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nightjar.jobs.initialise.columns import percent
from nightjar.jobs.initialise.entries import Entry, FieldEntry, power_of_two
from nightjar.jobs.initialise.look import Look

# Rows that a window of days should hold, as far as the log goes back.
_ENOUGH_ROWS = 1_000_000
_RARE = 0.02
_KEPT_NEGATIVES = 20.0
_MANY_ROWS = 5_000_000
# What the gate asks for by default: rows, positives and as many negatives, users.
_SUPPORT = {"rows": 1000, "positives": 50, "groups": 30}
_SLICES, _SLICE_VALUES = 2, 20

Commented = tuple[dict[str, Any], str]
"""Settings that go on a line of their own, with why."""


def train_days(look: Look) -> int:
    """Days that hold a million rows, but at least a week and at most those that there are, or a year."""
    wanted = -(-_ENOUGH_ROWS // look.usual_day)
    return max(7, min(wanted, look.days - 1, 365))


def training_rows(look: Look) -> int:
    """Rows of the first night: of the days that there are."""
    return look.usual_day * max(1, min(train_days(look), look.days - 1))


def training_section(look: Look) -> list[Commented]:
    """The section `training`, by the rows of the first night."""
    rows = training_rows(look)
    batch = power_of_two(rows / 1000, 256, 4096)
    layers, size = ([64, 32], "small") if rows < 200_000 else ([256, 128, 64], "medium")
    if rows > 20_000_000:
        layers, size = [400, 400, 400], "large"
    epochs = 8 if rows < 50_000 else 3 if rows < 200_000 else 2 if rows < 2_000_000 else 1
    about = f"{rows:,} rows in the first night"
    section: list[Commented] = [
        ({"model": "wide_deep"}, ""),
        ({"epochs": epochs}, about),
        ({"batch_size": batch}, f"{rows // batch:,} steps an epoch"),
    ]
    if batch >= 2048:
        section.append(({"batch_ramp": {"batch_size": 512, "rows": 32768}}, "large first rounds of FTRL overshoot"))
    section += [
        ({"seed": 17}, ""),
        ({"workers": 1}, ""),
        ({"wide": {"alpha": 0.05, "beta": 1.0, "lambda1": 1.0}}, ""),
        ({"embeddings": {"learning_rate": 0.05, "initial_accumulator": 1.0e-4, "init_scale": 0.1}}, ""),
        ({"deep": {"layers": layers, "learning_rate": 0.02, "initial_accumulator": 1.0e-3}}, f"a {size} log"),
    ]
    return section


def sampling(look: Look) -> Entry | None:
    """Negatives are left out where positives are rare and rows are many."""
    rate = look.rows.base_rate
    if rate >= _RARE or training_rows(look) < _MANY_ROWS:
        return None
    settings: dict[str, Any] = {"negatives": float(f"{_KEPT_NEGATIVES * rate / (1 - rate):.1g}")}
    if look.screening.request:
        settings["request"] = look.screening.request
    return Entry(settings, f"{percent(rate)} positives: about {_KEPT_NEGATIVES:.0f} negatives stay for each")


def nightly_section(look: Look) -> list[Commented]:
    """The section `nightly`, by the days of the log."""
    about = f"{look.days:,} days so far, about {look.usual_day:,} rows a day"
    return [({"train_days": train_days(look)}, about), ({"baselines": ["lr", "deep"]}, "")]


def gate_section(look: Look, fields: Sequence[FieldEntry]) -> list[Commented]:
    """The section `gate`: support that half of a usual day has, and slices. Empty if the defaults are right."""
    rate = look.rows.base_rate
    share = {"rows": 1.0, "positives": min(rate, 1 - rate), "groups": _groups_a_day(look) / look.usual_day}
    overall = {}
    for name, default in _SUPPORT.items():
        held = look.usual_day * share[name]
        if (name != "groups" or look.roles.group) and held < 2 * default:
            overall[name] = max(_rounded(held / 2), 2)
    section: list[Commented] = []
    if overall:
        section.append(({"overall": overall}, f"a day has about {look.usual_day:,} rows, {percent(rate)} positive"))
    if slices := _slices(look, fields):
        section.append(({"slices": slices}, "fields of few values"))
    return section


def _rounded(number: float) -> int:
    return int(float(f"{number:.1g}"))


def _groups_a_day(look: Look) -> float:
    """Users of a usual day: those of the sample's median day, which thinning makes fewer."""
    if look.roles.group is None:
        return 0.0
    code_R = look.columns[look.roles.group].code_V
    days = np.unique(look.times.day_R)
    return float(np.median([len(np.unique(code_R[look.times.day_R == day])) for day in days]))


def _slices(look: Look, fields: Sequence[FieldEntry]) -> list[str]:
    """Single-valued fields of few values that each have rows enough, those that most rows have first."""
    fitting = [
        field
        for field in fields
        if field.column.kind in ("string", "boolean")
        and 2 <= field.column.distinct <= _SLICE_VALUES
        and field.entry.settings.get("kind") != "hashed"
        and not field.counts_only
        and look.usual_day >= field.column.distinct * _SUPPORT["rows"]
    ]
    return [field.name for field in sorted(fitting, key=lambda field: field.column.distinct)[:_SLICES]]
