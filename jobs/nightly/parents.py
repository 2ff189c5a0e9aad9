"""What a night's model begins with: the newest champion that has not seen the night's new days, or nothing.

The champion pointer's history is walked back through `previous`, as rollbacks would go, to the first model whose days
end before the night's last training day. Neither the night's own promotion nor a later one changes what is found, so
that a night that is run again has the same parent.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Literal

from pydantic import Field

from nightjar.features.contract import storage
from nightjar.features.contract.artifact_files import ENCODER
from nightjar.features.contract.errors import DataError, NightjarError
from nightjar.features.contract.manifests import ArtifactManifest
from nightjar.features.contract.outputs import BASELINES, CANDIDATES, MODELS, VersionName, night_of
from nightjar.features.contract.publishing import is_published, manifest_digest, read_manifest
from nightjar.features.contract.strict import Strict
from nightjar.jobs.nightly.chain import records
from nightjar.serving import registry
from nightjar.training.warm_start import WarmStart

BESIDE, REASON = "beside", "start.reason"

log = logging.getLogger(__name__)


class WarmStartConfig(Strict):
    """How a night begins.

    days: train on the days that the parent has not seen (at most train_days), or on the whole window again. cold_every:
    every so many days, by the calendar, begin with nothing and train on the window; 0 is never. decay: of the parent's
    sums of squared gradients (training.warm_start). if_unusable: what to do when the parent is missing or damaged.
    """

    enabled: bool = True
    days: Literal["new", "window"] = "new"
    cold_every: int = Field(default=0, ge=0)
    decay: float = Field(default=1.0, gt=0.0, le=1.0)
    if_unusable: Literal["fail", "cold"] = "fail"

    def cold_reason(self, night: date) -> str | None:
        """Why the night of a date has no parent, whatever there is; None if it may have one."""
        if not self.enabled:
            return "cold: the warm start is off"
        if self.cold_every and night.toordinal() % self.cold_every == 0:
            return f"cold: every {self.cold_every} days"
        return None


@dataclass(frozen=True)
class ParentVersion:
    """A version that was champion, and the last day that it has learned from."""

    version: str
    through: date


@dataclass(frozen=True)
class Start:
    """What a night begins with, and why, for its records."""

    parent: ParentVersion | None
    reason: str


def choose_start(config: WarmStartConfig, output: str, night: date) -> Start:
    """The start of the night of a date. Raises DataError if the pointer's history is damaged."""
    reason = config.cold_reason(night)
    if reason:
        return Start(None, reason)
    parent = parent_of(storage.join(output, MODELS), night)
    if parent is None:
        return Start(None, "cold: there is no earlier champion")
    warm = Start(parent, f"warm: {parent.version}")
    if config.if_unusable == "cold" and not _is_over(output, night, warm):
        try:
            warm_start(output, MODELS, parent.version, state="", decay=config.decay).verify()
        except NightjarError as error:
            log.warning("a cold start, since the parent %s cannot be used: %s", parent.version, error)
            return Start(None, f"cold: the parent {parent.version} cannot be used")
    return warm


def parent_of(models: str, night: date) -> ParentVersion | None:
    """The newest in the champion's line that has learned from days before the night's last training day only."""
    for pointer in registry.line(models):
        through = _learned_through(models, pointer.version)
        if through < night - timedelta(1):
            return ParentVersion(pointer.version, through)
    return None


def warm_start(output: str, kind: str, version: str, *, state: str, decay: float) -> WarmStart:
    """From a model of an earlier night. kind: MODELS or BASELINES; state: of the new night.

    Raises DataError if the version or its candidate is gone, or if they do not belong together.
    """
    artifact, candidate = storage.join(output, kind, version), storage.join(output, CANDIDATES, version)
    for directory in (artifact, candidate):
        if not is_published(directory):
            raise DataError(
                f"{directory}, which the warm start needs, is not there any more. Restore it, start with --cold, or "
                f"set nightly.warm_start.if_unusable to cold."
            )
    if manifest_digest(candidate) != read_manifest(artifact, ArtifactManifest).inputs.get("candidate"):
        raise DataError(f"{candidate} is not what {artifact} was packed from. Restore it, or start with --cold.")
    return WarmStart(candidate, storage.join(artifact, ENCODER), state, decay)


def sibling(output: str, model: str, parent: ParentVersion) -> str | None:
    """The baseline of this architecture that was trained beside the parent; None if there is none."""
    folder, night = storage.join(output, BASELINES), night_of(parent.version)
    for name in storage.list_folders(folder):
        parts = VersionName.parse(name)
        if parts and (parts.night, parts.model) == (night, model) and is_published(storage.join(folder, name)):
            manifest = read_manifest(storage.join(folder, name), ArtifactManifest)
            if manifest.lineage.get(BESIDE) == parent.version:
                return name
    return None


def _is_over(output: str, night: date, start: Start) -> bool:
    """True if it is on record that the night began so; its parent may be pruned since."""
    made = [record.ingredients.get(REASON) for record in records(output) if record.date == night.isoformat()]
    return start.reason in made


def _learned_through(models: str, version: str) -> date:
    """From its manifest; where retention has removed that, from its name: a night's model has learned until the day
    before.
    """
    directory = storage.join(models, version)
    if is_published(directory):
        return date.fromisoformat(str(read_manifest(directory, ArtifactManifest).lineage["state_through_date"]))
    night = night_of(version)
    if night is None:
        raise DataError(f"{directory}, which was champion, is not there any more. Restore it, or start with --cold.")
    return date.fromisoformat(night) - timedelta(1)
