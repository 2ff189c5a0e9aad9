"""What old nights leave behind is removed, each kind by a number of its own.

Never what may still be needed: the champion and the one before it, with their nights and the counters they are served
with; anything of the night at hand; the history under any feature spec, which is the newest roll-up of each; and the
daily counts and roll-ups from which the next night's counts are made. A kill anywhere is made good by the next call.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache

from pydantic import Field, model_validator

from nightjar.features.contract import storage
from nightjar.features.contract.artifact_files import ENCODER
from nightjar.features.contract.errors import DataError
from nightjar.features.contract.manifests import CountersManifest, RollupManifest, StateManifest
from nightjar.features.contract.outputs import (
    AGGREGATES,
    BASELINES,
    CANDIDATES,
    COUNTERS,
    DATASETS,
    DECISIONS,
    EVALUATIONS,
    FINISHES,
    HISTORY,
    METRICS,
    MODELS,
    NIGHTS,
    PROFILES,
    REPORTS,
    ROLLUPS,
    RUNS,
    STATES,
    SUMMARIES,
    VALIDATIONS,
    ThroughName,
    day_of,
    day_of_run,
    night_of,
    night_of_figures,
    night_that_needs,
)
from nightjar.features.contract.publishing import is_published, read_manifest, unpublish
from nightjar.features.contract.spec import FeatureSpec
from nightjar.features.contract.strict import Strict
from nightjar.serving import registry
from nightjar.serving.pointer import outlived, require_lease

OF_MODELS = (CANDIDATES, BASELINES, EVALUATIONS)
OF_DATA = (DATASETS, STATES, ROLLUPS)
OF_DAYS = (AGGREGATES, PROFILES, VALIDATIONS, SUMMARIES)
OF_NIGHTS = (DECISIONS, FINISHES, NIGHTS)
# Files, with what tells the night or the day of each.
FILES_OF_NIGHTS = ((REPORTS, night_of_figures), (METRICS, night_of_figures), (RUNS, day_of_run), (CANDIDATES, night_of))

# Which number bounds a folder of an output.
KEYS = {
    **dict.fromkeys((f"{MODELS}/*", *OF_MODELS), "models"),
    **dict.fromkeys(OF_DATA, "datasets"),
    **dict.fromkeys(OF_DAYS, "days"),
    f"{MODELS}/{COUNTERS}": "counters",
    **dict.fromkeys((*OF_NIGHTS, REPORTS, METRICS, RUNS, f"{MODELS}/{HISTORY}"), "nights"),
}

_GetRollups = Callable[[], Mapping[str, Sequence[ThroughName]]]

log = logging.getLogger(__name__)


class KeepConfig(Strict):
    """How much stays after a night. Never removed: the champion, the one before it, what the night at hand made, and
    what the next night needs.
    """

    models: int | None = Field(default=None, ge=1)
    """The latest versions, with the candidates, baselines and evaluations of their dates. Empty: all."""
    datasets: int | None = Field(default=None, ge=1)
    """The latest nights whose encoded rows, encoder states and roll-ups stay; the newest roll-up of every feature spec
    stays in any case. Empty: all."""
    days: int | None = Field(default=None, ge=1)
    """The latest days whose daily counts, profiles, validations and summaries stay; those that windows and training
    days reach back to stay in any case. Empty: all."""
    counters: int | None = Field(default=None, ge=1)
    """The latest counters of the frequencies of every published version. Empty: all."""
    nights: int | None = Field(default=None, ge=1)
    """The latest nights whose records, decisions, pages, figures and logs stay; those since the champion before this
    one stay in any case. So do, where `models` is set, too, the pointer's moves to versions that are published, and to
    those of nights after the oldest of these. At least `datasets`. Empty: all."""

    @model_validator(mode="after")
    def _records_outlive_rows(self) -> KeepConfig:
        if self.nights and self.datasets and self.nights < self.datasets:
            raise ValueError(f"nights must be at least datasets, {self.datasets}; got {self.nights}")
        return self


@dataclass(frozen=True)
class Past:
    """What the nights to come read of days before theirs. spec: their features; since: the first day that they may
    train on or hold their own day against.
    """

    spec: FeatureSpec
    since: date


def prune(keep: KeepConfig, output: str, night: date, past: Past, token: int | None = None) -> list[str]:
    """Remove what is not to be kept; what was removed, versions of models left out, relative to `output`.

    Args:
        keep: how much stays.
        output: folder that nights are published in.
        night: date of the night that has just been judged; nothing of it is removed.
        past: what later nights need.
        token: number of the lease that is held, if any; it is looked at before anything is removed.

    Raises LockedError if another run has taken the lease over.
    """
    models = storage.join(output, MODELS)
    if keep.models is not None:
        with _left_to_the_next_night():
            removed = registry.prune(models, keep.models, token)
            log.info("removed %d versions: %s", len(removed), removed)
    doomed = superfluous(keep, output, night, past)
    for path in doomed:
        require_lease(models, token)
        unpublish(storage.join(output, path))
        log.info("removed %s", path)
    return doomed


def superfluous(keep: KeepConfig, output: str, night: date, past: Past) -> list[str]:
    """What `prune` would remove, versions of models included. What cannot be told for damage is a warning."""
    models = storage.join(output, MODELS)
    gone: list[str] = []
    with _left_to_the_next_night():
        gone += registry.superfluous(models, keep.models) if keep.models is not None else []
    versions = [version for version in registry.versions(models) if version not in gone]
    doomed = [f"{MODELS}/{version}" for version in gone]
    rollups = cache(lambda: _rollups(output))
    for found in (
        _models(keep.models, output, night, versions),
        _datasets(keep.datasets, output, night, past, rollups),
        _days(keep.days, output, night, past, rollups),
        _counters(keep.counters, output, night, versions),
        _nights(keep.nights, output, night),
        _moves(keep, output, night, versions),
    ):
        with _left_to_the_next_night():
            doomed += found
    return doomed


@contextmanager
def _left_to_the_next_night() -> Iterator[None]:
    """What cannot be told for damage is a warning, and nothing goes."""
    try:
        yield
    except DataError as error:
        log.warning("retention is left to the next night: %s", error)


def _models(keep: int | None, output: str, night: date, versions: Sequence[str]) -> Iterator[str]:
    if keep is None:
        return
    kept = {night.isoformat(), *filter(None, map(night_of, versions))}
    for kind in OF_MODELS:
        for name in storage.list_folders(storage.join(output, kind)):
            if (of := night_of(name)) and of not in kept:
                yield f"{kind}/{name}"


def _datasets(keep: int | None, output: str, night: date, past: Past, rollups: _GetRollups) -> Iterator[str]:
    if keep is None:
        return
    oldest = _oldest(keep, output, night)
    needed = {name for found in rollups().values() for name in _needed(found, past.since)}
    for kind in OF_DATA:
        for name in storage.list_folders(storage.join(output, kind)):
            needed_by = night_that_needs(name)
            if needed_by and needed_by < oldest and needed_by != night and (kind != ROLLUPS or name not in needed):
                yield f"{kind}/{name}"


def _days(keep: int | None, output: str, night: date, past: Past, rollups: _GetRollups) -> Iterator[str]:
    if keep is None:
        return
    oldest = min(night - timedelta(keep - 1), _counted_from(output, past, rollups())).isoformat()
    for kind in OF_DAYS:
        for name in storage.list_folders(storage.join(output, kind)):
            if (day := day_of(name)) and day < oldest:
                yield f"{kind}/{name}"


def _counters(keep: int | None, output: str, night: date, versions: Sequence[str]) -> Iterator[str]:
    """Of every set of frequencies also those of the night itself, which are of the day before, and those after."""
    if keep is None:
        return
    models, folder = storage.join(output, MODELS), storage.join(output, MODELS, COUNTERS)
    pointer = registry.champion(models)
    used = {_spec(models, version).counters_fingerprint for version in versions}
    found: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for name in storage.list_folders(folder):
        if is_published(directory := storage.join(folder, name)):
            manifest = read_manifest(directory, CountersManifest)
            found[manifest.fingerprint].append((manifest.through_date, name))
    for fingerprint, counters in found.items():
        counters.sort()
        of_the_night = max((one for one in counters if one[0] < night.isoformat()), default=counters[0])
        kept = {*counters[-keep:], *(one for one in counters if one >= of_the_night)} if fingerprint in used else set()
        for one in counters:
            if one not in kept and not (pointer and pointer.counters == one[1]):
                yield f"{MODELS}/{COUNTERS}/{one[1]}"


def _nights(keep: int | None, output: str, night: date) -> Iterator[str]:
    """Directories and files."""
    if keep is None:
        return
    oldest = _first_on_record(keep, output, night)
    for kind in OF_NIGHTS:
        for name in storage.list_folders(storage.join(output, kind)):
            if (of := night_of(name)) and of < oldest:
                yield f"{kind}/{name}"
    for kind, day in FILES_OF_NIGHTS:
        for name in storage.list_files(storage.join(output, kind)):
            if "/" not in name and (of := day(name)) and of < oldest:
                yield f"{kind}/{name}"


def _moves(keep: KeepConfig, output: str, night: date, versions: Sequence[str]) -> Iterator[str]:
    """Entries of the pointer's history: a night that may be run again must know what was champion before and since."""
    if keep.models is None or keep.nights is None:
        return
    nights = map(night_of, versions)
    since = min([_first_on_record(keep.nights, output, night), *filter(None, nights)])
    for name in outlived(storage.join(output, MODELS), versions, since):
        yield f"{MODELS}/{HISTORY}/{name}"


def _first_on_record(keep: int, output: str, night: date) -> str:
    """The first night whose record stays."""
    champions = [night_of(pointer.version) for pointer in registry.champions(storage.join(output, MODELS))]
    return min(filter(None, [*champions, _oldest(keep, output, night).isoformat(), night.isoformat()]))


def _oldest(keep: int, output: str, night: date) -> date:
    """The first of the last so many nights on record, the one at hand included."""
    records = storage.list_folders(storage.join(output, NIGHTS))
    return sorted({date.fromisoformat(of) for name in records if (of := night_of(name))} | {night})[-keep:][0]


def _spec(models: str, version: str) -> FeatureSpec:
    return read_manifest(storage.join(models, version, ENCODER), StateManifest).spec


def _rollups(output: str) -> dict[str, list[ThroughName]]:
    """The roll-ups of every feature spec, by its fingerprint, the newest last."""
    folder = storage.join(output, ROLLUPS)
    found: dict[str, list[ThroughName]] = defaultdict(list)
    for name in sorted(filter(None, map(ThroughName.parse, storage.list_folders(folder))), key=str):
        if is_published(directory := storage.join(folder, str(name))):
            found[read_manifest(directory, RollupManifest).spec_fingerprint].append(name)
    return found


def _needed(rollups: Sequence[ThroughName], since: date) -> set[str]:
    """Of one spec: the newest, where alone the days are known whose logs are gone, and the newest before `since`, from
    which the counts of the next nights' rows are made.
    """
    before = [name.through for name in rollups if name.through < since.isoformat()]
    throughs = {rollups[-1].through, *before[-1:]}
    return {str(name) for name in rollups if name.through in throughs}


def _counted_from(output: str, past: Past, rollups: Mapping[str, Sequence[ThroughName]]) -> date:
    """The first day whose own counts may be read by a later night, under its spec or under a champion's."""
    from nightjar.features.counts.point_in_time import reach  # PySpark, which a config is read without

    models = storage.join(output, MODELS)
    first = past.since
    for spec in (past.spec, *(_spec(models, pointer.version) for pointer in registry.champions(models))):
        is_trained_on = spec.fingerprint == past.spec.fingerprint
        throughs = [name.through for name in rollups.get(spec.fingerprint, [])]
        usable = [through for through in throughs if not is_trained_on or through < past.since.isoformat()]
        if not usable:
            return date.min
        back = max((lag for frequency in spec.frequencies for lag in reach(frequency)), default=0)
        first = min(first, date.fromisoformat(usable[-1]) + timedelta(2 - back))
    return first
