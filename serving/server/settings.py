"""What bounds a server, and what a refused request is told."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from nightjar.features.contract.errors import NightjarError, UsageError


class Refused(NightjarError):
    """A request that is not answered with scores. status: of HTTP; again: after how many seconds it may be repeated."""

    def __init__(self, status: int, message: str, again: int | None = None) -> None:
        super().__init__(message)
        self.status, self.again = status, again


@dataclass(frozen=True)
class Settings:
    """Bounds of a server.

    body_bytes, rows: of one request. requests: that are read, wait or are scored at once; explanations: likewise, of
    those. seconds: from a request's first byte to its answer. workers: threads that score; threads: of one call's
    dense layers. every_seconds: between two looks at the pointer. counters_days: how old counters may be, None without
    a limit. examples: whether the page and the OpenAPI document show golden rows, which are rows of the log.
    """

    body_bytes: int = 2**20
    rows: int = 2000
    requests: int = 256
    explanations: int = 8
    seconds: float = 2.0
    workers: int = 1
    threads: int = 1
    every_seconds: float = 5.0
    counters_days: int | None = None
    examples: bool = True

    def __post_init__(self) -> None:
        """Raises UsageError for a bound that lets nothing through."""
        bounds = {name: value for name, value in asdict(self).items() if name not in ("counters_days", "examples")}
        wrong = {name: value for name, value in bounds.items() if not value > 0}
        if wrong:
            raise UsageError(f"the bounds of a server must be above 0; got {wrong}.")
