"""What old nights leave behind is removed: models by number, data sets by number of nights.

Never the champion nor the one before it, nor anything of the night at hand. Logs of runs, decisions, daily counts and
the records of nights stay: they are small, and they say what happened. A kill anywhere is made good by the next call.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from datetime import date, timedelta

from pydantic import Field

from nightjar.features.contract import storage
from nightjar.features.contract.manifest import unpublish
from nightjar.features.contract.spec import Strict
from nightjar.serving import registry

OF_MODELS = ("candidates", "baselines", "evaluations")
_DATE = r"\d{4}-\d{2}-\d{2}"
_NIGHT = re.compile(rf"({_DATE})-")
_HOLDOUT = re.compile(rf"(?:holdout-|scored-{_DATE}\.\.)({_DATE})-")
_BEFORE_NIGHT = re.compile(rf"(?:train-{_DATE}\.\.|through=)({_DATE})-")

log = logging.getLogger(__name__)


class KeepConfig(Strict):
    """How much stays after a night. Never removed: the champion, the one before it, and what the night at hand made."""

    models: int | None = Field(default=None, ge=1)
    """The latest versions, with the candidates, baselines and evaluations of their dates. Empty: all."""
    datasets: int | None = Field(default=None, ge=1)
    """The latest nights whose encoded rows, encoder states and roll-ups stay. Empty: all."""


def prune(keep: KeepConfig, output: str, night: date) -> list[str]:
    """Remove what `keep` does not keep, after the night of a date; what was removed, relative to `output`."""
    doomed = [*_models(keep.models, output, night), *_datasets(keep.datasets, output, night)]
    for directory in doomed:
        unpublish(storage.join(output, directory))
        log.info("removed %s", directory)
    return doomed


def _models(keep: int | None, output: str, night: date) -> Iterator[str]:
    if keep is None:
        return
    models = storage.join(output, "models")
    removed = registry.prune(models, keep)
    log.info("removed %d versions: %s", len(removed), removed)
    kept = {night.isoformat(), *(found[1] for v in registry.versions(models) if (found := _NIGHT.match(v)))}
    for kind in OF_MODELS:
        for name in storage.list_folders(storage.join(output, kind)):
            if (found := _NIGHT.match(name)) and found[1] not in kept:
                yield f"{kind}/{name}"


def _datasets(keep: int | None, output: str, night: date) -> Iterator[str]:
    if keep is None:
        return
    records = storage.list_folders(storage.join(output, "nights"))
    nights = sorted({date.fromisoformat(found[1]) for name in records if (found := _NIGHT.match(name))} | {night})
    oldest = nights[-keep:][0]
    for kind in ("datasets", "states", "rollups"):
        for name in storage.list_folders(storage.join(output, kind)):
            needed_by = _night_of(name)
            if needed_by and needed_by < oldest and needed_by != night:
                yield f"{kind}/{name}"


def _night_of(name: str) -> date | None:
    """The night that a data set or a state was made for."""
    if found := _HOLDOUT.match(name):
        return date.fromisoformat(found[1])
    if found := _BEFORE_NIGHT.match(name):
        return date.fromisoformat(found[1]) + timedelta(1)
    return None
