"""Errors meant for people: what is wrong, the values, what to do. Jobs turn them into one line and an exit status."""

import logging
import re
from typing import ClassVar

# What stands before the host of a URL, up to the last @: a password may hold one, an AWS secret a slash.
_USER_AND_PASSWORD = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*://)[^\s'\"<>]*:[^\s'\"<>]*@")
# Azure's URLs have a container there, which is none of a person's secrets.
_USER = re.compile(r"(?<![A-Za-z])((?!abfss?:|wasbs?:)[A-Za-z][A-Za-z0-9+.\-]*://)[^\s'\"<>/@]+@")
_SECRET = (
    r"passw(?:or)?d|passphrase|secret|token|(?:access|api|account|private)[_-]?key(?:[_-]?id)?|credentials?"
    r"|signature|authorization"
)
_NAMED = re.compile(
    rf"(?i)((?<![A-Za-z])[\w.\-]*(?:{_SECRET})['\"]?\s*(?:=|:(?=\s*['\"]|\s+(?:Bearer|Basic)\s))\s*)"
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


class LockedError(NightjarError):
    """Another run is at work where this one would write."""

    exit_status = 5


def masked(text: str) -> str:
    """A text for a log without what only its owner may know: users and passwords in URLs, and values called so."""
    text = _USER.sub(r"\1***@", _USER_AND_PASSWORD.sub(r"\1***@", text))
    return _NAMED.sub(r"\1***", text)


def is_secret(key: str) -> bool:
    """True if a setting called so may hold a secret, so that its value is not to be shown."""
    return bool(_KEY_OF_SECRET.search(key))


class MaskingFormatter(logging.Formatter):
    """Lines of a log, `masked`."""

    def format(self, record: logging.LogRecord) -> str:
        """See logging.Formatter."""
        return masked(super().format(record))
