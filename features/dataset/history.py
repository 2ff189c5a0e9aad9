"""What an output has counted before: its history, which outlives the logs and the daily counts it was made from."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from nightjar.features.contract import storage
from nightjar.features.contract.errors import DataError
from nightjar.features.contract.manifests import RollupManifest
from nightjar.features.contract.outputs import ROLLUPS, ThroughName, day_of_input
from nightjar.features.contract.publishing import is_published, read_manifest
from nightjar.features.contract.spec import FeatureSpec

log = logging.getLogger(__name__)

# Roll-ups that are looked at: more than one, since builds by hand may stand among those of the nights.
_LATEST = 16


@dataclass(frozen=True)
class KnownHistory:
    """The days that an output has counted under a spec. logs: what the log of each was known by, by date."""

    first_date: str
    logs: Mapping[str, str]


def known_history(output: str, spec: FeatureSpec) -> KnownHistory | None:
    """From the latest roll-ups; None if there is none of this spec.

    A damaged one behind another of the spec is a warning: the later one has its days. Raises DataError for one that is
    damaged and before which there is none: nobody knows whose it is.
    """
    folder = storage.join(output, ROLLUPS)
    names = sorted(filter(None, map(ThroughName.parse, storage.list_folders(folder))), key=_place, reverse=True)
    latest: list[RollupManifest] = []
    for directory in (storage.join(folder, str(name)) for name in names):
        if len(latest) == _LATEST:
            break
        if not is_published(directory):
            continue
        try:
            manifest = read_manifest(directory, RollupManifest)
        except DataError as error:
            if not latest:
                raise
            _tell(str(error))
            continue
        if manifest.spec_fingerprint == spec.fingerprint:
            latest.append(manifest)
    if not latest:
        return None
    logs = {day_of_input(name): known for manifest in reversed(latest) for name, known in manifest.inputs.items()}
    return KnownHistory(min(manifest.first_date for manifest in latest), logs)


@cache
def _tell(damage: str) -> None:
    """Once: a run asks for the history of every plan that it makes."""
    log.warning("a roll-up is left out, since a later one has its days: %s", damage)


def _place(name: ThroughName) -> tuple[str, str]:
    return name.through, name.key
