"""The manifests of published directories, one kind each: what a directory is, what it was made from, and its files with
their checksums. features.contract.publishing says how one comes to be.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from nightjar.features.contract import storage
from nightjar.features.contract.artifact_files import DATA
from nightjar.features.contract.layout import ColumnSpec
from nightjar.features.contract.records import CodeVersion, NightStart, NightVerdict
from nightjar.features.contract.spec import FeatureSpec
from nightjar.features.contract.strict import Date, FileName, RelativePath, Sha256, Strict, Version

# Raise it when the same inputs give other bytes than before: all but counts is then made again, what the format before
# has published stays readable (docs/operations.md, "Upgrades"), and tests/golden/ gets an output of the new one.
FORMAT: Final = 2
# The ingredient of a night that is its start.
START_REASON = "start.reason"


class FileEntry(Strict):
    """A file of a published directory. path: relative to it; rows: of a Parquet file, else None; xxh3: XXH3-128 of a
    table, else None: it finds damage at a thirtieth of sha256's cost.
    """

    path: RelativePath
    bytes: int = Field(ge=0)
    sha256: Sha256
    rows: int | None = Field(default=None, ge=0)
    xxh3: str | None = Field(default=None, pattern=r"^[0-9a-f]{32}$")


class Manifest(Strict):
    """What every published directory says of itself. inputs: digests of what it was made from, by name."""

    kind: str
    format: int = Field(default_factory=lambda: FORMAT)
    inputs: Mapping[str, str] = {}
    files: tuple[FileEntry, ...]

    def file_urls(self, directory: str) -> list[str]:
        """Where the files are, in the manifest's order."""
        return [storage.join(directory, entry.path) for entry in self.files]


class AggregateManifest(Manifest):
    """Counts of one day's log: values by field, impressions and positives by frequency key.

    misdated: rows of the day's folder with a timestamp of another day. left_out: rows that are in no count, by reason.
    unmatched: rows whose key a side table does not have, by its name.
    """

    kind: Literal["aggregate"] = "aggregate"
    spec_fingerprint: str
    date: Date
    rows: int
    positives: int
    misdated: int = 0
    left_out: Mapping[str, int] = {}
    unmatched: Mapping[str, int] = {}


class RollupManifest(Manifest):
    """Daily counts of all days from `first_date` through `through_date`, merged: all that later nights need of them.

    inputs: what the log of every day was known by.
    """

    kind: Literal["rollup"] = "rollup"
    spec_fingerprint: str
    first_date: Date
    through_date: Date


class ColumnProfile(Strict):
    """One log column on one day.

    values: how many it holds (of a list, its distinct ones); missing: rows without any (null, NaN, an empty list);
    constant: all rows hold the same; content: a sum of the values' hashes, the same in whatever order the rows are.
    """

    values: int
    missing: int
    constant: bool
    content: int


class ProfileManifest(Manifest):
    """One day's log at a glance, by log column, the timestamp left out. Files: a histogram of each dense feature."""

    kind: Literal["profile"] = "profile"
    spec_fingerprint: str
    date: Date
    columns: Mapping[str, ColumnProfile]


class ValidationCheck(Strict):
    """One figure of a day's log against the days before.

    feature: of the spec, or a log column; None for the whole log. low, high: what the value must lie within, either
    end included; None where there is no bound. overridden: the check failed and was allowed by name.
    """

    check: str
    feature: str | None = None
    value: float | str
    low: float | None = None
    high: float | None = None
    passed: bool
    overridden: bool = False
    reason: str


class ValidationManifest(Manifest):
    """A day's log, held against the days `reference`. allowed: overrides given by hand; attempt: of its day, from 1."""

    kind: Literal["validation"] = "validation"
    date: Date
    attempt: int = 1
    rows: int
    reference: tuple[str, ...]
    allowed: tuple[str, ...]
    passed: bool
    checks: tuple[ValidationCheck, ...]


class FieldFigures(Strict):
    """A field's vocabulary over the whole history. distinct: values seen; known: those with an id; retired: those whose
    id rests, because they were not seen for too long. Hashed fields have no such figures.
    """

    distinct: int
    known: int
    retired: int


class CrossFigures(Strict):
    """A cross over the whole history.

    distinct: conjunctions seen; exact: whether they were counted, or estimated by a sketch (standard error 1.6 %).
    admitted: those with a weight of their own; None where a Bloom filter decides, which cannot list them.
    collision_rate: 1 - occupied buckets / admitted conjunctions; None where they are not listed, 0 in an exact
    vocabulary. expected_collision_rate: the same if d conjunctions fell into m buckets at random,
    1 - m (1 - (1 - 1/m)^d) / d, d being `admitted`, or `distinct` where that is None.
    """

    distinct: int
    exact: bool
    admitted: int | None
    collision_rate: float | None
    expected_collision_rate: float


class CountersManifest(Manifest):
    """The counters of a serving model: every key's history as of the day after `through_date`, which it serves.

    Files: frequency/<name>/*.parquet, as a state has them; delta/<name>/*.parquet, the rows that differ from those of
    the counters `previous` (with `gone`, true where the key has none any more). fingerprint: of the specs that these
    counters fit (FeatureSpec.counters_fingerprint). keys, changed: rows of the tables and of the deltas, by frequency.
    """

    kind: Literal["counters"] = "counters"
    fingerprint: str
    first_date: Date
    through_date: Date
    previous: FileName | None = None
    keys: Mapping[str, int]
    changed: Mapping[str, int] = {}


class StateManifest(Manifest):
    """The encoder's fitted state, from training days only.

    vocabulary_sizes: ids of each field, the reserved and the retired ones included; cross_sizes: likewise, of crosses
    with an exact vocabulary. field_figures, cross_figures: by name; the coverage of a data set's rows is in its own
    manifest.
    """

    kind: Literal["state"] = "state"
    spec: FeatureSpec
    spec_fingerprint: str
    first_date: Date
    through_date: Date
    vocabulary_sizes: Mapping[str, int]
    cross_sizes: Mapping[str, int] = {}
    boundaries: Mapping[str, tuple[float, ...]]
    moments: Mapping[str, tuple[float, float]] = {}
    field_figures: Mapping[str, FieldFigures] = {}
    cross_figures: Mapping[str, CrossFigures] = {}


class DatasetManifest(Manifest):
    """Encoded rows: `data/*.parquet`, each with one row group and its row count in `files`.

    A data set of later days than its state has seen also holds golden rows, the same rows in the same order:
    `golden/raw.parquet` (source columns) and `golden/encoded.parquet`. state: digest of the state's manifest.
    coverage: by column of a field or cross, the share of the rows that hold a known id or an admitted conjunction.
    log_rows: what its days' log holds, of which sampling may have left out negatives; None in older data sets.
    """

    kind: Literal["dataset"] = "dataset"
    spec_fingerprint: str
    state: str
    first_date: Date
    last_date: Date
    rows: int
    positives: int
    columns: tuple[ColumnSpec, ...]
    coverage: Mapping[str, float] = {}
    log_rows: int | None = None

    @property
    def data_files(self) -> tuple[FileEntry, ...]:
        """The encoded rows' files; the golden rows' two files are not among them."""
        return tuple(entry for entry in self.files if entry.path.startswith(f"{DATA}/"))


class ParentCandidate(Strict):
    """The candidate that a warm start began with.

    candidate, digest: name of its directory and digest of its manifest; through_date: the last day that it has seen;
    decay: what its sums of squared gradients were multiplied by.
    """

    candidate: FileName
    digest: str
    through_date: Date
    decay: float


class CandidateManifest(Manifest):
    """A trained model, not packed yet. model: name of the architecture; settings: its training config; parent: None
    after a cold start, which began with nothing.

    columns: those of the data set that the model uses, with `wide` and `embedding` for the tables that it has.
    """

    kind: Literal["candidate"] = "candidate"
    model: str
    spec_fingerprint: str
    state: str
    columns: tuple[ColumnSpec, ...]
    settings: Mapping[str, Any]
    parent: ParentCandidate | None = None
    statistics: Mapping[str, float]


class Lineage(BaseModel):
    """Where an artifact comes from. What is not known is absent; keys of the user's own are kept.

    settings, parent: of its candidate; artifact: how it was packed, unless by default; state_first_date,
    state_through_date: days of its encoder state. Of a night's model also: date and start of the night (NightStart as
    text), beside: the night's model, which a baseline was trained beside; logs: fingerprints by day; spec: its
    fingerprint; config: digest of the training settings. Of a model that has learned the day by which it was judged:
    judged, the version that was, and learned_date, the day.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    settings: Mapping[str, Any] = {}
    parent: ParentCandidate | None = None
    artifact: Mapping[str, Any] = {}
    state_first_date: Date | None = None
    state_through_date: Date | None = None
    date: str | None = None
    start: str | None = None
    beside: str | None = None
    logs: Mapping[str, str] = {}
    spec: str | None = None
    config: str | None = None
    seed: int | None = None
    code: CodeVersion | None = None
    judged: Version | None = None
    learned_date: Date | None = None

    @property
    def learned_through_date(self) -> str:
        """The last day that the model has learned from."""
        return str(self.learned_date or self.state_through_date)

    @model_serializer(mode="wrap")
    def _known(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in serialize(self).items() if name in self.model_fields_set}


class ArtifactManifest(Manifest):
    """A model packed for serving: scoring files, encoder state and golden rows."""

    kind: Literal["artifact"] = "artifact"
    model: str
    spec_fingerprint: str
    columns: tuple[ColumnSpec, ...]
    lineage: Lineage
    metrics: Mapping[str, float]


class EvaluationManifest(Manifest):
    """Models compared on later data: `metrics.json` (serving.evaluation.evaluation.Evaluation) and `report.html`."""

    kind: Literal["evaluation"] = "evaluation"
    first_date: Date
    last_date: Date
    rows: int


class ComparisonManifest(Manifest):
    """Models over several seeds: `comparison.json` (serving.evaluation.seeds.SeedComparison), a table and a report."""

    kind: Literal["comparison"] = "comparison"
    first_date: Date
    last_date: Date
    models: tuple[str, ...]
    seeds: tuple[int, ...]


class DecisionManifest(Manifest):
    """What was said of a night's model, by the gate or once it was finished: decision.json (serving.gate.decision)."""

    kind: Literal["decision"] = "decision"
    version: Version
    champion: Version | None
    verdict: Literal["published", "rejected"]


class NightManifest(Manifest):
    """A night that is over. Its file `ledger.json` (features.contract.records.Ledger) has its rows from step to step.

    version: its model; ingredients: what it was made from, by name; directories: by step (outputs.STEPS), of old days
    none; attempt: which record of its date it is, from 1; skipped: days of its history that there was no log of.
    """

    kind: Literal["night"] = "night"
    date: Date
    attempt: int = 1
    version: Version
    verdict: NightVerdict
    ingredients: Mapping[str, str]
    directories: Mapping[str, tuple[RelativePath, ...]]
    skipped: tuple[Date, ...] = ()

    @property
    def start(self) -> NightStart | None:
        """What its model began with; None if it is not on record."""
        text = self.ingredients.get(START_REASON)
        return NightStart.parse(text) if text else None
