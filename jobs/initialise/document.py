"""The config as text: YAML, an item a line, with the figure that led to it as a comment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml

from nightjar.jobs.initialise.columns import percent
from nightjar.jobs.initialise.entries import Entry
from nightjar.jobs.initialise.features import propose_features
from nightjar.jobs.initialise.interactions import Interactions
from nightjar.jobs.initialise.look import Look
from nightjar.jobs.initialise.settings import Commented, gate_section, nightly_section, sampling, training_section

_WIDTH = 120
_NO_LIMIT = 1 << 30


def write_document(look: Look, name: str) -> str:
    """The whole config. name: of the feature spec. The same look gives the same text."""
    features = propose_features(look)
    interactions = Interactions(look, features.fields)
    single = interactions.single_key_frequencies()
    crosses = interactions.crosses()
    lines = [*_head(look)]
    if section := look.sample.input_section(_columns_read(look)):
        columns = section.pop("columns", {})
        lines += ["", "input:", *_settings([({key: value}, "") for key, value in section.items()])]
        if columns:
            lines += ["  columns:", *(f"    {_flow(column)}: {kind}" for column, kind in columns.items())]
    lines += ["", "features:", *_settings(_roles(look, name))]
    listed = {
        "fields": [field.entry for field in features.fields],
        "dense": features.dense,
        "crosses": crosses,
        "frequencies": single + interactions.paired_frequencies(),
    }
    for kind, entries in listed.items():
        if entries:
            lines += [f"  {kind}:", *_items(entries)]
    if entry := sampling(look):
        lines += _settings([({"sampling": entry.settings}, entry.comment)])
    lines += _left_out({**look.screening.left_out, **features.left_out}, look.screening.truth)
    sections = {
        "training": training_section(look),
        "nightly": nightly_section(look),
        "gate": gate_section(look, features.fields),
    }
    for section_name, settings in sections.items():
        if settings:
            lines += ["", f"{section_name}:", *_settings(settings)]
    return "\n".join(lines) + "\n"


def _head(look: Look) -> Iterable[str]:
    sample, rate = look.sample, look.rows.base_rate
    yield f"# Written by nightjar init from {len(sample.table):,} of {sample.total:,} rows."
    yield f"# {look.days:,} days, the newest {look.newest}; {look.usual_day:,} rows a day; {percent(rate)} positive."
    yield "# AUC alone, log loss: of the newest quarter of these rows, by what the older ones tell."


def _roles(look: Look, name: str) -> Iterable[Commented]:
    yield {"name": name}, ""
    yield {"label": look.roles.label}, f"{percent(look.rows.base_rate)} positive"
    yield {"timestamp": look.roles.timestamp}, ""
    if look.roles.group:
        yield {"group": look.roles.group}, f"{look.columns[look.roles.group].figures}; for GAUC and the bootstrap"
    if look.screening.truth:
        yield {"truth": look.screening.truth}, look.screening.left_out[look.screening.truth]


def _columns_read(look: Look) -> set[str]:
    roles = {look.roles.label, look.roles.timestamp, look.roles.group, look.screening.truth, look.screening.request}
    return {name for name in (*roles, *look.screening.auc) if name}


def _left_out(reasons: Mapping[str, str], truth: str | None) -> Iterable[str]:
    left_out = {name: why for name, why in reasons.items() if name != truth}
    if left_out:
        yield "  # Left out:"
        yield from (_one_line(f"  #   {name}: {why}.") for name, why in left_out.items())


def _items(entries: Sequence[Entry]) -> Iterable[str]:
    for entry in entries:
        yield from _line("    ", f"- {_flow(entry.settings)}", entry.comment)


def _settings(settings: Iterable[Commented]) -> Iterable[str]:
    for setting, comment in settings:
        [(key, value)] = setting.items()
        yield from _line("  ", f"{_flow(key)}: {_flow(value)}", comment)


def _line(indent: str, text: str, comment: str) -> Iterable[str]:
    """The comment behind the text, or above it where it is too long."""
    comment = _one_line(comment)
    whole = f"{indent}{text}  # {comment}" if comment else f"{indent}{text}"
    if comment and len(whole) > _WIDTH:
        yield f"{indent}# {comment}"
        yield f"{indent}{text}"
    else:
        yield whole


def _one_line(text: str) -> str:
    """On one line, whatever a column's name holds."""
    return " ".join(text.splitlines())


def _flow(value: Any) -> str:
    """One line of YAML, such as {name: user, min_count: 5}."""
    text = yaml.safe_dump(
        dict(value) if isinstance(value, Mapping) else value,
        default_flow_style=True,
        sort_keys=False,
        width=_NO_LIMIT,
        allow_unicode=True,
    )
    return text.removesuffix("\n").removesuffix("\n...").strip()
