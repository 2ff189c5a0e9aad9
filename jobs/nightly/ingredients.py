"""What a night is made from, by name, as its record has it: logs by day, and settings by section."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nightjar.features.contract.strict import digest

# The sections that names begin with.
LOGS = "log of "
FEATURES, NIGHTLY, START, TRAINING, GATE = "features.", "nightly.", "start.", "training.", "gate."
_LONGEST = 40


def named(section: str, values: Mapping[str, Any]) -> dict[str, str]:
    """JSON values by name, each as text, or as its digest where that is long."""
    return {f"{section}{name}": _brief(value) for name, value in values.items()}


def _brief(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= _LONGEST else digest(value)[:12]
