"""Names on disk: the folders of an output, the directories in them, and the steps that make them.

Every name is composed and parsed here and nowhere else; features.contract.artifact_files has the files inside a
directory. Free of other libraries, so that a scheduler can import the steps.

A key is what features.contract.publishing.key_of gives, or several of them with hyphens between; dates are YYYY-MM-DD.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final, Literal

# The folders of a night's output.
PROFILES, VALIDATIONS, SUMMARIES = "profiles", "validations", "summaries"
AGGREGATES, ROLLUPS, STATES, DATASETS = "aggregates", "rollups", "states", "datasets"
CANDIDATES, MODELS, BASELINES = "candidates", "models", "baselines"
EVALUATIONS, DECISIONS, FINISHES, NIGHTS = "evaluations", "decisions", "finishes", "nights"
REPORTS, RUNS, METRICS = "reports", "runs", "metrics"
# Those that a comparison of models has beside candidates and evaluations.
ARTIFACTS, COMPARISONS = "artifacts", "comparisons"

# Of a registry of models.
POINTER = "champion.json"
HISTORY, LOCK = "history", "lock"
PRUNING = f"{HISTORY}/pruning.json"
LAST_MOVES = f"{HISTORY}/last-moves.json"
COUNTERS = "counters"

# Of the reports, and of the metrics: what is of all nights, or of the last one, or of the pages.
INDEX = "index.html"
LATEST = "latest"
PAGES = "pages"

# The steps of a night, in their order; a night's record names its directories by them.
VALIDATE: Final = "validate"
AGGREGATE: Final = "aggregate"
ENCODE: Final = "encode"
SUMMARIZE: Final = "summarize"
TRAIN: Final = "train"
PACK: Final = "pack"
EVALUATE: Final = "evaluate"
GATE: Final = "gate"
RENEW: Final = "renew"
FINISH: Final = "finish"
PUBLISH: Final = "publish"
STEPS: Final = (VALIDATE, AGGREGATE, ENCODE, SUMMARIZE, TRAIN, PACK, EVALUATE, GATE, RENEW, FINISH, PUBLISH)

DATE_PREFIX = "date="
"""Begins the names of what belongs to one day: the log's folders, and the directories made from them."""

_DATE = r"\d{4}-\d{2}-\d{2}"
_DATE_FOLDER = re.compile(rf"{DATE_PREFIX}({_DATE})")
_THROUGH = re.compile(rf"through=({_DATE})-(.+)")
_DAYS = re.compile(rf"(train|scored)-({_DATE})\.\.({_DATE})-(.+)")
_HOLDOUT = re.compile(rf"holdout-({_DATE})-(.+)")
_MODEL = re.compile(rf"({_DATE})-([^-]+)-(.+)")
_NUMBERED = re.compile(r"[0-9]{6,18}\.json")
_FINISHED = "-finished"
_OF_NIGHT = re.compile(rf"({_DATE})-")
_OF_DAY = re.compile(rf"{DATE_PREFIX}({_DATE})-")
_OF_FIGURES = re.compile(rf"({_DATE})[.-]")
_OF_RUN = re.compile(r"(\d{4})(\d{2})(\d{2})T")


def date_folder(day: str) -> str:
    """The folder of a day's log."""
    return f"{DATE_PREFIX}{day}"


def date_of_folder(name: str) -> str | None:
    """The day of a log's folder; None for a folder of another name."""
    found = _DATE_FOLDER.fullmatch(name)
    return found[1] if found else None


def log_input(day: str) -> str:
    """What a manifest's `inputs` call the log of a day."""
    return f"logs/{date_folder(day)}"


def day_of_input(name: str) -> str:
    """The inverse of `log_input`."""
    return name.removeprefix(f"logs/{DATE_PREFIX}")


@dataclass(frozen=True)
class DailyName:
    """`date=D-<key>`: what is made from one day. Profiles, validations, summaries, aggregates."""

    day: str
    key: str

    def __str__(self) -> str:
        return f"{date_folder(self.day)}-{self.key}"


def names_of_day(names: Iterable[str], day: str) -> list[str]:
    """Those of the names that `DailyName` gives the directories of a day."""
    return [name for name in names if name.startswith(f"{date_folder(day)}-")]


def day_of(name: str) -> str | None:
    """The inverse: the day that a directory was made from; None for another name."""
    found = _OF_DAY.match(name)
    return found[1] if found else None


@dataclass(frozen=True)
class ThroughName:
    """`through=D-<key>`: what is made from all days through D. Roll-ups and states."""

    through: str
    key: str

    def __str__(self) -> str:
        return f"through={self.through}-{self.key}"

    @classmethod
    def parse(cls, name: str) -> ThroughName | None:
        """The name's parts; None for another name."""
        found = _THROUGH.fullmatch(name)
        return cls(*found.groups()) if found else None


@dataclass(frozen=True)
class DatasetName:
    """`train-A..B-<key>`, `holdout-E-<key>` (first and last are E) or `scored-A..B-<key>`: encoded rows."""

    kind: Literal["train", "holdout", "scored"]
    first: str
    last: str
    key: str

    def __str__(self) -> str:
        days = self.last if self.kind == "holdout" else f"{self.first}..{self.last}"
        return f"{self.kind}-{days}-{self.key}"

    @classmethod
    def parse(cls, name: str) -> DatasetName | None:
        """The name's parts; None for another name."""
        if found := _HOLDOUT.fullmatch(name):
            return cls("holdout", found[1], found[1], found[2])
        if found := _DAYS.fullmatch(name):
            return cls("train" if found[1] == "train" else "scored", found[2], found[3], found[4])
        return None


@dataclass(frozen=True)
class VersionName:
    """`D-<model>-<key>`: a night's model as a candidate, as an artifact (its version) and as a baseline."""

    night: str
    model: str
    key: str

    def __str__(self) -> str:
        return f"{self.night}-{self.model}-{self.key}"

    @classmethod
    def parse(cls, name: str) -> VersionName | None:
        """The name's parts; None for another name."""
        found = _MODEL.fullmatch(name)
        return cls(*found.groups()) if found else None


def finished_of(version: str) -> str:
    """The version that is a night's model once it has learned the day by which it was judged."""
    return f"{version}{_FINISHED}"


def judged_of(version: str) -> str:
    """The version that was judged: the inverse of `finished_of`, and the version itself if it is no finished one."""
    return version.removesuffix(_FINISHED)


@dataclass(frozen=True)
class NightName:
    """`D-<key>`: what there is of a night as a whole. Evaluations and records."""

    night: str
    key: str

    def __str__(self) -> str:
        return f"{self.night}-{self.key}"


@dataclass(frozen=True)
class DecisionName:
    """`<version>-<key>`: what was said of a version under one config, by the gate or once it had learned its day."""

    version: str
    key: str

    def __str__(self) -> str:
        return f"{self.version}-{self.key}"


@dataclass(frozen=True)
class CountersName:
    """`D-<key>`: the counters that a model is served with on day D."""

    served: str
    key: str

    def __str__(self) -> str:
        return f"{self.served}-{self.key}"


@dataclass(frozen=True)
class SeedName:
    """`<model>-<seed>-<key>`: a model of a comparison, trained from one seed."""

    model: str
    seed: int
    key: str

    def __str__(self) -> str:
        return f"{self.model}-{self.seed}-{self.key}"


def night_of(name: str) -> str | None:
    """The night that the name of a model, an evaluation, a decision or a record begins with; None if with none."""
    found = _OF_NIGHT.match(name)
    return found[1] if found else None


def night_that_needs(name: str) -> date | None:
    """The night that a data set, a state or a roll-up of this name was made for; None for another name.

    What is fitted and trained on ends with the day before the night, what is scored with its own day.
    """
    if dataset := DatasetName.parse(name):
        return date.fromisoformat(dataset.last) + timedelta(dataset.kind == "train")
    if through := ThroughName.parse(name):
        return date.fromisoformat(through.through) + timedelta(1)
    return None


def numbered_file(number: int) -> str:
    """An entry of a registry's history or lock."""
    return f"{number:06d}.json"


def number_of(name: str) -> int:
    """The inverse of `numbered_file`; raises ValueError for another name."""
    if not _NUMBERED.fullmatch(name):
        raise ValueError(f"{name!r} is no entry's name")
    return int(name.removesuffix(".json"))


def run_log_file(run: str) -> str:
    """In RUNS: what a run has logged, as JSON lines. run: its id, which begins with the time, YYYYMMDDT…."""
    return f"{run}.jsonl"


def day_of_run(name: str) -> str | None:
    """The day, in UTC, on which the run of a log began; None for another name."""
    found = _OF_RUN.match(name)
    return "-".join(found.groups()) if found else None


def metrics_file(night: str) -> str:
    """In METRICS: a night's figures for Prometheus. night: its date, or LATEST; PAGES: those of the pages."""
    return f"{night}.prom"


def seconds_file(night: str) -> str:
    """In METRICS: how long a night's steps took (features.contract.records.StepSeconds)."""
    return f"{night}.json"


def night_page(night: str) -> str:
    """In REPORTS: the page of a night."""
    return f"{night}.html"


def night_of_figures(name: str) -> str | None:
    """The night of a file in METRICS or REPORTS; None for one that is of no night, or of all."""
    found = _OF_FIGURES.match(name)
    return found[1] if found else None


def features_page(night: str) -> str:
    """In REPORTS: the page of a night's features."""
    return f"{night}-features.html"


def card_file(night: str) -> str:
    """In REPORTS: the card of a night's model."""
    return f"{night}-card.md"
