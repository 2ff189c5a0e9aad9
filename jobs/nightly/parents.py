"""What a night's model begins with: the newest champion that has not seen the night's new days, or nothing.

The champion pointer's history is walked back through `previous`, as rollbacks would go, to the first model whose days
end before the night's last training day. A champion that has learned the day by which it was judged stands for the
model that was judged: that day is a training day of the next night. Neither the night's own promotion nor a later one
changes what is found, so that a night that is run again has the same parent.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from nightjar.features.contract import storage
from nightjar.features.contract.artifact_files import ENCODER
from nightjar.features.contract.errors import DataError, NightjarError
from nightjar.features.contract.manifests import ArtifactManifest
from nightjar.features.contract.outputs import BASELINES, CANDIDATES, MODELS, VersionName, night_of
from nightjar.features.contract.publishing import is_published, manifest_digest, read_manifest
from nightjar.features.contract.records import NightStart
from nightjar.features.contract.strict import Strict
from nightjar.jobs.nightly.chain import records
from nightjar.serving import registry
from nightjar.serving.pointer import is_whole

if TYPE_CHECKING:
    from nightjar.training.warm_start import WarmStart

log = logging.getLogger(__name__)


class WarmStartConfig(Strict):
    """How a night begins."""

    enabled: bool = True
    """False: every night begins with nothing."""
    days: Literal["new", "window"] = "new"
    """`new`: train on the days that the parent has not seen, at most train_days. `window`: on all of train_days again.
    """
    cold_every: int = Field(default=0, ge=0)
    """Every so many days, by the calendar, begin with nothing and train on the whole window. 0: never."""
    decay: float = Field(default=1.0, gt=0.0, le=1.0)
    """What the parent's sums of squared gradients are multiplied by."""
    if_unusable: Literal["fail", "cold"] = "fail"
    """What to do when the parent is missing, damaged, or forgotten by retention."""

    def cold_reason(self, night: date) -> str | None:
        """Why the night of a date has no parent, whatever there is; None if it may have one."""
        if not self.enabled:
            return "the warm start is off"
        if self.cold_every and night.toordinal() % self.cold_every == 0:
            return f"every {self.cold_every} days"
        return None


@dataclass(frozen=True)
class ParentVersion:
    """A version that was champion, and the last day that it has learned from."""

    version: str
    through: date


@dataclass(frozen=True)
class Start:
    """What a night begins with: with a parent, or with nothing because of `cold_reason`."""

    parent: ParentVersion | None = None
    cold_reason: str = ""

    @property
    def record(self) -> NightStart:
        """The same for the night's record."""
        return NightStart(parent=self.parent.version if self.parent else None, reason=self.cold_reason)


def choose_start(config: WarmStartConfig, output: str, night: date) -> Start:
    """What the night of a date begins with.

    Args:
        config: whether and how nights begin with a parent.
        output: folder that nights are published in.
        night: the date.

    Raises DataError if the pointer's history is damaged, or the parent of a night that is not over, or if retention has
    removed what was champion then.
    """
    reason = config.cold_reason(night)
    if reason:
        return Start(cold_reason=reason)
    parent = parent_of(storage.join(output, MODELS), night)
    if parent is None:
        return Start(cold_reason=_no_parent(config, storage.join(output, MODELS), night))
    warm = Start(parent)
    if config.if_unusable == "cold" and not _is_over(output, night, warm):
        try:
            warm_start(output, MODELS, parent.version, state="", decay=config.decay).verify()
        except NightjarError as error:
            log.warning("a cold start, since the parent %s cannot be used: %s", parent.version, error)
            return Start(cold_reason=f"the parent {parent.version} cannot be used")
    artifact = storage.join(output, MODELS, parent.version)
    try:
        if is_published(artifact):
            read_manifest(artifact, ArtifactManifest)
    except DataError:
        if not _is_over(output, night, warm):
            raise
    return warm


def _no_parent(config: WarmStartConfig, models: str, night: date) -> str:
    """Why there is none."""
    if is_whole(models):
        return "there is no earlier champion"
    if config.if_unusable == "cold":
        return f"retention has removed what was champion before {night}"
    raise DataError(
        f"retention has removed what was champion before {night}, which the warm start needs. Start with --cold, or "
        f"set nightly.warm_start.if_unusable to cold."
    )


def parent_of(models: str, night: date) -> ParentVersion | None:
    """The newest in the champion's line that has learned from days before the night's last training day only."""
    for pointer in registry.line(models):
        version = pointer.judged or pointer.version
        through = _learned_through(models, version)
        if through < night - timedelta(1):
            return ParentVersion(version, through)
    return None


def warm_start(output: str, kind: str, version: str, *, state: str, decay: float) -> WarmStart:
    """A warm start from a model of an earlier night.

    Args:
        output: folder that nights are published in.
        kind: MODELS or BASELINES.
        version: name of the model's directory.
        state: directory of the new night's encoder state.
        decay: of the model's sums of squared gradients, in (0, 1].

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
    from nightjar.training.warm_start import WarmStart  # torch; a config file is read without it

    return WarmStart(candidate, storage.join(artifact, ENCODER), state, decay)


def sibling(output: str, model: str, parent: ParentVersion) -> str | None:
    """The version of the baseline that was trained beside a parent; None if there is none.

    Args:
        output: folder that nights are published in.
        model: the baseline's architecture.
        parent: a version that was champion.
    """
    folder, night = storage.join(output, BASELINES), night_of(parent.version)
    for name in storage.list_folders(folder):
        parts = VersionName.parse(name)
        if parts and (parts.night, parts.model) == (night, model) and is_published(storage.join(folder, name)):
            manifest = read_manifest(storage.join(folder, name), ArtifactManifest)
            if manifest.lineage.beside == parent.version:
                return name
    return None


def _is_over(output: str, night: date, start: Start) -> bool:
    """True if it is on record that the night began so; its parent may be pruned since."""
    return start.record in [record.start for record in records(output, night.isoformat())]


def _learned_through(models: str, version: str) -> date:
    """From its manifest; where retention has removed that, or where it is damaged, from its name: a night's model has
    learned until the day before. Whoever begins with a damaged one is told so then.
    """
    directory, night = storage.join(models, version), night_of(version)
    if is_published(directory):
        try:
            return date.fromisoformat(str(read_manifest(directory, ArtifactManifest).lineage.state_through_date))
        except DataError as error:
            if night is None:
                raise
            log.warning("what %s has learned is told by its name alone: %s", version, error)
    if night is None:
        raise DataError(f"{directory}, which was champion, is not there any more. Restore it, or start with --cold.")
    return date.fromisoformat(night) - timedelta(1)
