"""What old nights leave behind is removed: models by number, data sets by number of nights.

Never the champion nor the one before it, nor anything of the night at hand. Logs of runs, decisions, daily counts and
the records of nights stay: they are small, and they say what happened. A kill anywhere is made good by the next call.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import date

from pydantic import Field

from nightjar.features.contract import storage
from nightjar.features.contract.outputs import (
    BASELINES,
    CANDIDATES,
    DATASETS,
    EVALUATIONS,
    MODELS,
    NIGHTS,
    ROLLUPS,
    STATES,
    night_of,
    night_that_needs,
)
from nightjar.features.contract.publishing import unpublish
from nightjar.features.contract.strict import Strict
from nightjar.serving import registry

OF_MODELS = (CANDIDATES, BASELINES, EVALUATIONS)
OF_DATA = (DATASETS, STATES, ROLLUPS)

log = logging.getLogger(__name__)


class KeepConfig(Strict):
    """How much stays after a night. Never removed: the champion, the one before it, and what the night at hand made."""

    models: int | None = Field(default=None, ge=1)
    """The latest versions, with the candidates, baselines and evaluations of their dates. Empty: all."""
    datasets: int | None = Field(default=None, ge=1)
    """The latest nights whose encoded rows, encoder states and roll-ups stay. Empty: all."""


def prune(keep: KeepConfig, output: str, night: date) -> list[str]:
    """Remove what is not to be kept; what was removed, relative to `output`.

    Args:
        keep: how much stays.
        output: folder that nights are published in.
        night: date of the night that has just been judged; nothing of it is removed.
    """
    doomed = [*_models(keep.models, output, night), *_datasets(keep.datasets, output, night)]
    for directory in doomed:
        unpublish(storage.join(output, directory))
        log.info("removed %s", directory)
    return doomed


def _models(keep: int | None, output: str, night: date) -> Iterator[str]:
    if keep is None:
        return
    models = storage.join(output, MODELS)
    removed = registry.prune(models, keep)
    log.info("removed %d versions: %s", len(removed), removed)
    kept = {night.isoformat(), *filter(None, map(night_of, registry.versions(models)))}
    for kind in OF_MODELS:
        for name in storage.list_folders(storage.join(output, kind)):
            if (of := night_of(name)) and of not in kept:
                yield f"{kind}/{name}"


def _datasets(keep: int | None, output: str, night: date) -> Iterator[str]:
    if keep is None:
        return
    records = storage.list_folders(storage.join(output, NIGHTS))
    nights = sorted({date.fromisoformat(of) for name in records if (of := night_of(name))} | {night})
    oldest = nights[-keep:][0]
    for kind in OF_DATA:
        for name in storage.list_folders(storage.join(output, kind)):
            needed_by = night_that_needs(name)
            if needed_by and needed_by < oldest and needed_by != night:
                yield f"{kind}/{name}"
