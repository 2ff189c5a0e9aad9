"""What an output has counted before: its history, which outlives the logs and the daily counts it was made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice

from nightjar.features.contract import storage
from nightjar.features.contract.manifests import RollupManifest
from nightjar.features.contract.outputs import ROLLUPS, ThroughName, day_of_input
from nightjar.features.contract.publishing import is_published, read_manifest
from nightjar.features.contract.spec import FeatureSpec

# Roll-ups that are looked at: more than one, since builds by hand may stand among those of the nights.
_LATEST = 16


@dataclass(frozen=True)
class KnownHistory:
    """The days that an output has counted under a spec. logs: what the log of each was known by, by date."""

    first_date: str
    logs: Mapping[str, str]


def known_history(output: str, spec: FeatureSpec) -> KnownHistory | None:
    """From the latest roll-ups; None if there is none of this spec."""
    folder = storage.join(output, ROLLUPS)
    names = sorted(filter(None, map(ThroughName.parse, storage.list_folders(folder))), key=_place, reverse=True)
    published = (directory for name in names if is_published(directory := storage.join(folder, str(name))))
    manifests = (read_manifest(directory, RollupManifest) for directory in published)
    ours = (m for m in manifests if m.spec_fingerprint == spec.fingerprint)
    latest = list(islice(ours, _LATEST))
    if not latest:
        return None
    logs = {day_of_input(name): log for manifest in reversed(latest) for name, log in manifest.inputs.items()}
    return KnownHistory(min(manifest.first_date for manifest in latest), logs)


def _place(name: ThroughName) -> tuple[str, str]:
    return name.through, name.key
