"""The steps of a night, carried out in order; and why each would run, from what earlier nights left on record."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nightjar.features.contract import storage
from nightjar.features.contract.errors import DataError, UsageError
from nightjar.features.contract.manifests import NightManifest
from nightjar.features.contract.outputs import NIGHTS, night_of
from nightjar.features.contract.publishing import is_published, read_manifest
from nightjar.jobs.nightly.ingredients import LOGS
from nightjar.jobs.nightly.telemetry import JobRun

if TYPE_CHECKING:  # PySpark; a config file is read without it
    from nightjar.features.input.timestamped import GetSpark

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Step:
    """A link of the chain. directories: what it publishes; none: it looks at something, every time.

    needs: what must be published before it. made_from: prefixes of the night's ingredients that its result depends on.
    """

    name: str
    directories: tuple[str, ...]
    needs: tuple[str, ...]
    made_from: tuple[str, ...]
    run: Callable[[GetSpark], object]

    def is_done(self) -> bool:
        """True if nothing is left to do."""
        return bool(self.directories) and all(is_published(directory) for directory in self.directories)


def carry_out(
    steps: Sequence[Step], only: Iterable[str], spark: GetSpark, run: JobRun, check: Callable[[], None]
) -> bool:
    """Run the steps that are asked for and not done. True if something was left to publish, or if no step publishes.

    An earlier step may do what was left of a later one, as the validation counts the day.

    Args:
        steps: the chain of a night.
        only: names of the steps that are asked for.
        spark: starts a session when a step needs one.
        run: times the steps.
        check: called before each step; raises if this run must not go on.

    Raises UsageError if a step's inputs are missing.
    """
    wanted = [step for step in steps if step.name in set(only)]
    publishing = [step for step in wanted if step.directories]
    worked = not publishing or not all(step.is_done() for step in publishing)
    for step in wanted:
        if step.is_done():
            continue
        check()
        missing = [directory for directory in step.needs if not is_published(directory)]
        if missing:
            raise UsageError(f"step {step.name} needs {missing}, not published yet. Run the steps before it.")
        with run.in_step(step.name):
            log.info("step %s", step.name)
            step.run(spark)
    return worked


def records(output: str, of: str | None = None) -> list[NightManifest]:
    """The records of all nights in an output, or of the date `of`, by date. One that cannot be read is a warning."""
    folder = storage.join(output, NIGHTS)
    found = []
    for name in storage.list_folders(folder):
        if (of and night_of(name) != of) or not is_published(storage.join(folder, name)):
            continue
        try:
            found.append(read_manifest(storage.join(folder, name), NightManifest))
        except DataError as error:
            log.warning("a night is left out: %s", error)
    return sorted(found, key=lambda record: record.date)


def why(step: Step, night: str, made_from: Mapping[str, str], known: Sequence[NightManifest]) -> str:
    """Why a step would run, or that it would not: a few words for people.

    Args:
        step: of the night.
        night: its date.
        made_from: the night's ingredients (jobs.nightly.ingredients).
        known: records of other nights, by date.
    """
    if not step.directories:
        return "always looked at"
    if step.is_done():
        return "published"

    def changes(record: NightManifest) -> list[str]:
        names = [n for n in {**record.ingredients, **made_from} if n.startswith(step.made_from)]
        return [
            f"{name} changed from {record.ingredients.get(name, 'nothing')} to {made_from.get(name, 'nothing')}"
            for name in sorted(names)
            if record.ingredients.get(name) != made_from.get(name)
        ]

    same_day = [changes(record) for record in known if record.date == night]
    if same_day:
        nearest = min(same_day, key=len)
        return "; ".join(nearest) or "an input of it is new, or it was removed"
    before = [record for record in known if record.date < night]
    if not before:
        return "new day, the first on record"
    last = before[-1]
    settings = [change for change in changes(last) if not change.startswith(LOGS)]
    return "; ".join([f"new day after {last.date}", *settings])
