"""What a night is made from, by name, as its record has it: logs by day, and settings by section."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nightjar.features.contract.strict import digest, named_in

# The sections that names begin with.
LOGS = "log of "
FEATURES, NIGHTLY, START, TRAINING, GATE = "features.", "nightly.", "start.", "training.", "gate."
ARTIFACT = "artifact."
_LONGEST = 40
# So many days are told one by one, the last ones, so that a record does not grow with the history.
DAYS_BY_NAME = 32


def named_logs(fingerprints: Mapping[str, str]) -> dict[str, str]:
    """What the logs of days are known by, in order: each of the last ones, and all those before as one."""
    days = sorted(fingerprints)
    early, late = days[:-DAYS_BY_NAME], days[-DAYS_BY_NAME:]
    found = {f"days through {early[-1]}": digest([fingerprints[day] for day in early])} if early else {}
    return named(LOGS, found | {day: fingerprints[day] for day in late})


def named(section: str, values: Mapping[str, Any]) -> dict[str, str]:
    """JSON values by name, each as text, or as its digest where that is long.

    Of a list of things with names, such as features, the names come first and then what each of them has, so that what
    changed can be told.
    """
    found: dict[str, str] = {}
    for name, value in values.items():
        things = named_in(value)
        if isinstance(value, list) and value and len(things) == len(value):
            found[f"{section}{name}"] = _brief(", ".join(things))
            for thing, settings in things.items():
                found |= named(f"{section}{name}.{thing}.", {key: v for key, v in settings.items() if key != "name"})
        else:
            found[f"{section}{name}"] = _brief(value)
    return found


def _brief(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= _LONGEST else digest(value)[:12]
