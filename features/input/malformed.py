"""Where in a text file Spark has found a row that is not as its columns say: the line, the column and the value.

Spark tells the file, and the row with the value already lost. It is looked for in the file as Spark would read it; what
only Spark can tell, such as a timestamp in a format of its own, is not found.
"""

from __future__ import annotations

import csv
import json
import logging
import re
import zlib
from collections.abc import Callable, Iterator
from typing import Any

from nightjar.features.input.source_config import SourceConfig
from nightjar.features.input.text import csv_rows, lines_of

log = logging.getLogger(__name__)

_INTEGERS = {"tinyint": 8, "smallint": 16, "int": 32, "bigint": 64}
_NUMBERS = ("NaN", "Inf", "-Inf", "+Inf", "Infinity", "-Infinity", "+Infinity")
_SHOWN = 300


def first_malformed(url: str, config: SourceConfig) -> str:
    """The first such row, for people; empty if none is found.

    Args:
        url: of the file.
        config: says how it is read.
    """
    if not config.is_text:
        return ""
    try:
        return next(_in_csv(url, config) if config.format == "csv" else _in_json(url, config), "")
    except (OSError, ValueError, csv.Error, zlib.error) as error:
        log.debug("%s cannot be read without Spark: %s", url, error)
        return ""


def _in_csv(url: str, config: SourceConfig) -> Iterator[str]:
    names = list(config.columns)
    rows = csv_rows(url, config)
    if config.is_on("header"):
        names = next(rows, (0, names))[1]
    for number, row in rows:
        shown = config.option("sep").join(row)[:_SHOWN]
        if len(row) != len(names):
            yield f"line {number} has {len(row)} values, not {len(names)}: {shown}"
            continue
        for name, text in zip(names, row, strict=True):
            if text not in ("", config.option("nullValue")) and not _is(
                config.columns.get(name, "string"), text.strip()
            ):
                yield f"line {number}, column {name!r}: {text!r} is no {config.columns[name]}: {shown}"


def _in_json(url: str, config: SourceConfig) -> Iterator[str]:
    for number, line in enumerate(lines_of(url, config), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            yield f"line {number} is no JSON ({error}): {line.strip()[:_SHOWN]}"
            continue
        for name, kind in config.columns.items():
            value = row.get(name) if isinstance(row, dict) else None
            if value is not None and not _KINDS.get(kind, _anything)(value):
                yield f"line {number}, key {name!r}: {json.dumps(value)[:_SHOWN]} is no {kind}: {line.strip()[:_SHOWN]}"


def _is(kind: str, text: str) -> bool:
    if kind in _INTEGERS:
        bits = _INTEGERS[kind] - 1
        return bool(re.fullmatch(r"[+-]?[0-9]+", text)) and -(2**bits) <= int(text) < 2**bits
    if kind in ("float", "double"):
        return text in _NUMBERS or bool(re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?[dDfF]?", text))
    return kind != "boolean" or text.lower() in ("true", "false")


def _anything(value: Any) -> bool:
    return True


_KINDS: dict[str, Callable[[Any], bool]] = {
    **{kind: lambda value: isinstance(value, int) and not isinstance(value, bool) for kind in _INTEGERS},
    "double": lambda value: isinstance(value, int | float | str) and (not isinstance(value, str) or value in _NUMBERS),
    "float": lambda value: isinstance(value, int | float | str) and (not isinstance(value, str) or value in _NUMBERS),
    "boolean": lambda value: isinstance(value, bool),
}
