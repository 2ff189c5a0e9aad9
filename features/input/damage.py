"""Spark's errors about the input, told to people."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import unquote

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException

from nightjar.features.contract.errors import DataError

_UNREADABLE = re.compile(r"\[FAILED_READ_FILE\S*\] [^\n]*? file ([^\n]+?)\.\s+SQLSTATE")
_MALFORMED = re.compile(r"Malformed records are detected in record parsing: ([^\n]{1,200})")
_NO_STORAGE = re.compile(r"^\w*Error: (\[Errno \d+\] [^\n]{1,300})", re.MULTILINE)
_CONDITION = re.compile(r"\[[A-Z][A-Z0-9_.]+\] [^\n]+?(?=\.? SQLSTATE|\n|$)")


@contextmanager
def damage_reported() -> Iterator[None]:
    """Turn Spark's error about a file that it cannot read, or a task's about storage, into a DataError that says so."""
    try:
        yield
    except (PySparkException, Py4JError) as error:
        unreadable, no_storage = _UNREADABLE.search(str(error)), _NO_STORAGE.search(str(error))
        if unreadable is None and no_storage is None:
            raise
        if unreadable is None:
            assert no_storage
            raise DataError(
                f"a task of Spark's failed: {no_storage[1]}. Is there room, and may Spark's workers read and write "
                f"there?"
            ) from error
        url, malformed = unquote(unreadable[1]), _MALFORMED.search(str(error))
        raise DataError(
            f"{url} holds a row that is not as its columns say: {malformed[1]}\nCorrect it, or input.columns."
            if malformed
            else f"{url} is damaged: Spark cannot read its rows. Restore it."
        ) from error


@contextmanager
def opening(location: str, form: str) -> Iterator[None]:
    """Turn Spark's error about a table or a format that it does not know into a DataError."""
    try:
        yield
    except (PySparkException, Py4JError) as error:
        condition = _CONDITION.search(str(error))
        reason = condition[0] if condition else " ".join(str(error).split("\n")[:2])
        raise DataError(
            f"Spark cannot open {location!r} as {form}: {reason}. Correct input.format, input.options, and --logs or "
            f"input.location; a format of another project needs its package (spark-submit --packages)."
        ) from error
