"""Lines of text files and rows of csv files, read without Spark as Spark reads them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

from nightjar.features.contract import storage
from nightjar.features.input.source_config import SourceConfig

# What a separator of several characters, which the csv module has none of, is for it.
_ONE = "\x1f"


def lines_of(url: str, config: SourceConfig) -> Iterator[str]:
    """Lines of a file, unpacked as its name says."""
    encoding = config.option("encoding").lower()
    with storage.open_unpacked(url) as stream:
        yield from io.TextIOWrapper(stream, "utf-8-sig" if encoding == "utf-8" else encoding, newline=None)


def csv_rows(url: str, config: SourceConfig) -> Iterator[tuple[int, list[str]]]:
    """The number of a row's last line, from 1, and its values. The header is a row, a blank line is none."""
    separator, quote, comment = (config.option(name) for name in ("sep", "quote", "comment"))
    escape = config.option("escape") or "\\"
    one = separator if len(separator) == 1 else _ONE
    lines = (
        "\n" if comment and line.startswith(comment) else line.replace(separator, one) for line in lines_of(url, config)
    )
    if quote:
        rows = csv.reader(lines, delimiter=one, quotechar=quote, escapechar=None if escape == quote else escape)
    else:
        rows = csv.reader(lines, delimiter=one, quoting=csv.QUOTE_NONE)
    for row in rows:
        if any(value.strip() for value in row) or len(row) > 1:
            yield rows.line_num, [value.replace(one, separator) for value in row]
