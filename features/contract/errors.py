"""Errors meant for people: what is wrong, the values, what to do. Jobs turn them into one line and an exit status."""

import logging
import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import ClassVar

# A URL; what stands before its host, up to the last @, may hold an @ as a password, or a slash as an AWS secret.
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]{0,30}://)([^\s'\"<>]+)")
# Theirs is a container, which is nobody's secret.
_AZURE = ("abfs://", "abfss://", "wasb://", "wasbs://")
_SECRET = (
    r"passw(?:or)?d|passphrase|secret|token|(?:access|api|account|private)[_-]?key(?:[_-]?id)?|credentials?"
    r"|signature|authorization"
)
_NAMED = re.compile(
    rf"(?i)((?:{_SECRET})['\"]?\s{{0,3}}(?:=|:(?=\s{{0,3}}['\"]|\s{{1,3}}(?:Bearer|Basic)\s))\s{{0,3}})"
    r"(?:(?:Bearer|Basic)\s+)?(?:\"[^\"\n]*\"|'[^'\n]*'|[^\s&;,'\"<>)}\]]+)"
)
_KEY_OF_SECRET = re.compile(rf"(?i){_SECRET}|^command$|_uri$")


class NightjarError(Exception):
    """Base of every error that Nightjar raises on purpose; its message is complete without a traceback."""

    exit_status: ClassVar[int] = 2


class SpecError(NightjarError):
    """A feature spec or a config file that cannot be used."""


class DataError(NightjarError):
    """Input data or a published directory that is missing, malformed or damaged."""


class UsageError(NightjarError):
    """A command line or a combination of settings that cannot be carried out."""


class ValidationFailed(NightjarError):
    """A day's logs that differ from the days before by more than the config allows; the message is the table."""


class OutOfMemoryError(NightjarError):
    """A process that needed more memory than it was given."""


class LockedError(NightjarError):
    """Another run is at work where this one would write."""

    exit_status = 5


def did_you_mean(unknown: Iterable[str], known: Iterable[str]) -> str:
    """What to add to a message about names that nobody knows: those that are spelt like them; empty if none is."""
    names = {name.casefold(): name for name in known}
    close = {name: get_close_matches(name.casefold(), names, n=1) for name in unknown}
    found = [f"{names[like[0]]!r} for {name!r}" for name, like in close.items() if like]
    return f". Did you mean {', '.join(found)}?" if found else ""


def masked(text: str) -> str:
    """A text for a log without what only its owner may know: users and passwords in URLs, and values called so."""
    return _NAMED.sub(r"\1***", _URL.sub(_without_user, text))


def _without_user(url: re.Match[str]) -> str:
    scheme, rest = url.groups()
    user, at, place = rest.rpartition("@")
    secret = ":" in user or ("/" not in user and scheme.lower() not in _AZURE)
    return f"{scheme}***@{place}" if at and secret else scheme + rest


def is_secret(key: str) -> bool:
    """True if a setting called so may hold a secret, so that its value is not to be shown."""
    return bool(_KEY_OF_SECRET.search(key))


class MaskingFormatter(logging.Formatter):
    """Lines of a log, `masked`."""

    def format(self, record: logging.LogRecord) -> str:
        """See logging.Formatter."""
        return masked(super().format(record))
