"""Errors meant for people: what is wrong, the values, what to do. Jobs turn them into one line and an exit status."""

from typing import ClassVar


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
