"""Dates of days: counted, listed, and as the number of days since 1970-01-01."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta

from nightjar.features.contract.errors import UsageError


def dates_between(first: str, last: str) -> list[str]:
    """Every date from `first` through `last`, as YYYY-MM-DD. Raises UsageError on a malformed range."""
    try:
        start, end = date.fromisoformat(first), date.fromisoformat(last)
    except ValueError as error:
        raise UsageError(
            f"{first!r} to {last!r} is not a range of dates: {error}. Write dates as YYYY-MM-DD."
        ) from error
    if end < start:
        raise UsageError(f"the range of dates {first} to {last} is empty: it ends before it starts.")
    return [(start + timedelta(days=n)).isoformat() for n in range((end - start).days + 1)]


def is_date(text: str) -> bool:
    """Whether it is a day that there is, as YYYY-MM-DD."""
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def day_after(day: str) -> str:
    """The next date."""
    return (date.fromisoformat(day) + timedelta(days=1)).isoformat()


def day_number(day: str) -> int:
    """Days since 1970-01-01."""
    return (date.fromisoformat(day) - date(1970, 1, 1)).days


def date_of(number: int) -> str:
    """The inverse of `day_number`."""
    return (date(1970, 1, 1) + timedelta(number)).isoformat()


def listed(days: Sequence[str], more: str = "more") -> str:
    """The first dates, and how many more there are, for people. more: what these are called."""
    shown = ", ".join(days[:3])
    return shown if len(days) <= 3 else f"{shown} and {len(days) - 3} {more}"
