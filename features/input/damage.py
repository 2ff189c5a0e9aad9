"""Spark's errors about the input, told to people."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import unquote

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException

from nightjar.features.contract import storage
from nightjar.features.contract.errors import DataError
from nightjar.features.input.config import InputConfig
from nightjar.features.input.malformed import first_malformed
from nightjar.features.input.source_config import SourceConfig

_UNREADABLE = re.compile(r"\[FAILED_READ_FILE\S*\] [^\n]*? file ([^\n]+?)\.\s+SQLSTATE")
_MALFORMED = re.compile(r"Malformed records are detected in record parsing: ([^\n]{1,200})")
_NO_STORAGE = re.compile(r"^\w*Error: (\[Errno \d+\] [^\n]{1,300})", re.MULTILINE)
_VALUE = re.compile(r"\[[A-Z][A-Z0-9_.]+\] [^\n]+?(?=\.? SQLSTATE: 22)")
_CONDITION = re.compile(r"\[[A-Z][A-Z0-9_.]+\] [^\n]+?(?=\.? SQLSTATE|\n|$)")


@contextmanager
def damage_reported(config: InputConfig | None = None) -> Iterator[None]:
    """Turn Spark's error about a file that it cannot read, or a task's about storage, into a DataError that says so.

    config: of the log, to look for the row that is not as its columns say.
    """
    try:
        yield
    except (PySparkException, Py4JError) as error:
        unreadable, no_storage = _UNREADABLE.search(str(error)), _NO_STORAGE.search(str(error))
        if unreadable is None and (value := _VALUE.search(str(error))):
            raise DataError(
                f"a value of the log cannot be computed: {value[0]}. Correct it, or features.label and input."
            ) from error
        if unreadable is None and no_storage is None:
            raise
        if unreadable is None:
            assert no_storage
            raise DataError(
                f"a task of Spark's failed: {no_storage[1]}. Is there room, and may Spark's workers read and write "
                f"there?"
            ) from error
        url, malformed = unquote(unreadable[1]), _MALFORMED.search(str(error))
        read_by, remedy = _reading_of(url, config)
        raise DataError(
            f"{url} holds a row that is not as its columns say: "
            f"{(read_by and first_malformed(url, read_by)) or malformed[1]}\n{remedy}"
            if malformed
            else f"{url} is damaged: Spark cannot read its rows. Restore it."
        ) from error


def _reading_of(url: str, config: InputConfig | None) -> tuple[SourceConfig | None, str]:
    """What says how a file is read, and what to do about a row of it."""
    for side in config.side_tables if config else ():
        if storage.absolute(side.location) in url:
            return side, f"Correct it, or the columns of the side table {side.name!r}."
    return config, "Correct it, or input.columns; or leave such rows out (input.bad_rows: drop)."


@contextmanager
def opening(location: str, form: str) -> Iterator[None]:
    """Turn Spark's error about a table or a format that it does not know into a DataError."""
    try:
        yield
    except (PySparkException, Py4JError) as error:
        raise DataError(
            f"Spark cannot open {location!r} as {form}: {condition_of(error)}. Correct input.format, input.options, "
            f"and --logs or input.location; a format of another project needs its package (spark-submit --packages)."
        ) from error


def condition_of(error: Exception) -> str:
    """What Spark calls the error, in one line."""
    condition = _CONDITION.search(str(error))
    return condition[0] if condition else " ".join(str(error).split("\n")[:2])
