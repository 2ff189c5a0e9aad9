"""The feature spec: what the logs' columns mean and which features are made of them.

The spec is the contract between the Spark jobs, the trainer and serving. It is read from YAML, checked as a whole
(every mistake is reported at once, with its path) and identified by a fingerprint that travels with every data
set, model and artifact. This module is free of PySpark.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from features.errors import SpecError

Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$", max_length=100)]
Window = Annotated[str, Field(pattern=r"^([1-9][0-9]{0,3}d|all)$")]
Statistic = Literal["impressions", "positives", "rate", "log_odds", "log_count"]
M = TypeVar("M", bound=BaseModel)
Pooling = Literal["sum", "mean", "sqrtn"]


class Strict(BaseModel):
    """Base of every model read from YAML or JSON: immutable, unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def _set(self, *names: str) -> list[str]:
        """Those of the settings that are not at their defaults."""
        return [name for name in names if getattr(self, name) != type(self).model_fields[name].default]


class CategoricalField(Strict):
    """A categorical input: string, integral or boolean, or a list of those when `multi_valued`.

    vocabulary  Values seen at least `min_count` times get an id of their own, at most `max_size` of them (on a day on
                which there are more, the most frequent ones), and keep it for ever. Other values are spread by their
                hash over `oov_buckets` ids. A value that was not seen for `retire_after_days` is one of those; its id
                rests, is given to no other value, and is its own again when it comes back.
    hashed      No vocabulary: every value has one of `buckets` ids, by its hash.
    """

    name: Name
    column: str = ""
    multi_valued: bool = False
    kind: Literal["vocabulary", "hashed"] = "vocabulary"
    min_count: int = Field(1, ge=1)
    max_size: int | None = Field(None, ge=1, le=2**30)
    oov_buckets: int = Field(1, ge=1, le=2**20)
    retire_after_days: int | None = Field(None, ge=1)
    buckets: int | None = Field(None, ge=1, le=2**30)
    embedding: int = Field(16, ge=0, le=1024, description="width; 0 keeps the field out of the deep part")
    pooling: Pooling = "mean"
    wide: bool = True

    @model_validator(mode="after")
    def _check(self) -> CategoricalField:
        if self.kind == "vocabulary" and self.buckets is not None:
            raise ValueError("buckets belongs to a hashed field; for unknown values of a vocabulary set oov_buckets")
        if self.kind == "hashed":
            if self.buckets is None:
                raise ValueError("a hashed field needs buckets, the number of its ids")
            if idle := self._set("min_count", "max_size", "oov_buckets", "retire_after_days"):
                raise ValueError(f"a hashed field has no vocabulary; remove {idle}")
        return self

    @property
    def source(self) -> str:
        """The log column that the field reads."""
        return self.column or self.name

    @property
    def hash_ids(self) -> int:
        """How many ids are given by hash: of a vocabulary those for unknown values, of a hashed field all."""
        return self.buckets or self.oov_buckets

    @property
    def first_id(self) -> int:
        """The first id that is given to a value, after that of missing ones and those given by hash."""
        return 1 + self.hash_ids


class DenseFeature(Strict):
    """A numeric input. Missing values (null, NaN) become `missing_value` and, by default, set an indicator.

    quantile: x -> (i - 1) / (n_q - 1) for x in the i-th of n_q quantiles (Cheng et al. 2016, section 4.1).
    log:      x -> sign(x) log(1 + |x|).
    identity: x as it is, infinities clipped to the largest float32.
    """

    name: Name
    column: str = ""
    transform: Literal["quantile", "log", "identity"] = "quantile"
    quantiles: int = Field(100, ge=2, le=10_000)
    missing_value: float = Field(0.0, ge=-1e6, le=1e6)
    missing_indicator: bool = True

    @property
    def source(self) -> str:
        """The log column that the feature reads."""
        return self.column or self.name


class AdmitAll(Strict):
    """Every conjunction has a weight."""

    by: Literal["all"] = "all"


class AdmitByCount(Strict):
    """Conjunctions seen in at least `min_count` rows of the history, counted exactly."""

    by: Literal["count"]
    min_count: int = Field(ge=1)


class AdmitByPoisson(Strict):
    """Each occurrence lets its conjunction in with this probability, so that a rare one seldom gets in.

    Whether one does is a hash of the row, the conjunction and the seed: the same log gives the same conjunctions.
    """

    by: Literal["poisson"]
    probability: float = Field(gt=0.0, lt=1.0)
    seed: int = Field(0, ge=0, lt=2**63)


class AdmitByBloom(Strict):
    """Conjunctions that a counting Bloom filter takes to have been seen in at least `min_count` rows of the history.

    Each row adds one to `hashes` of `counters` counters; the least of a conjunction's counters is never below its
    count, so that one may be let in too early and none too late.
    """

    by: Literal["bloom"]
    min_count: int = Field(ge=2)
    counters: int = Field(2**24, ge=2**6, le=2**30)
    hashes: int = Field(4, ge=1, le=16)

    @model_validator(mode="after")
    def _check(self) -> AdmitByBloom:
        if self.counters & (self.counters - 1):
            raise ValueError(f"counters must be a power of two; got {self.counters}")
        return self


Admission = Annotated[AdmitAll | AdmitByCount | AdmitByPoisson | AdmitByBloom, Field(discriminator="by")]


class Cross(Strict):
    """A cross-product of fields (phi_k of Cheng et al. 2016). A multi-valued side contributes one conjunction per value
    of its list.

    hashed  A conjunction has one of `buckets` ids, by its hash.
    exact   Every admitted conjunction has an id of its own; `max_size` and `retire_after_days` as in a field.

    admission (McMahan et al. 2013, section 4.1) says which conjunctions have a weight of their own, by days before the
    evaluated one. All others of the cross share one id.
    """

    name: Name
    fields: tuple[Name, ...] = Field(min_length=2, max_length=8)
    vocabulary: Literal["hashed", "exact"] = "hashed"
    buckets: int = Field(2**18, ge=2, le=2**30)
    admission: Admission = AdmitAll()
    max_size: int | None = Field(None, ge=1, le=2**30)
    retire_after_days: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _check(self) -> Cross:
        if self.buckets & (self.buckets - 1):
            raise ValueError(f"buckets must be a power of two; got {self.buckets}")
        if len(set(self.fields)) < len(self.fields):
            raise ValueError(f"the fields of a cross must differ; got {list(self.fields)}")
        if self.vocabulary == "exact" and self._set("buckets"):
            raise ValueError("an exact vocabulary has no buckets; bound it by max_size")
        if self.vocabulary == "exact" and self.admission.by == "bloom":
            raise ValueError("a Bloom filter cannot list what it admits; use vocabulary: hashed, or admission by count")
        if self.vocabulary == "hashed" and (idle := self._set("max_size", "retire_after_days")):
            raise ValueError(f"{idle} needs vocabulary: exact")
        if self.retire_after_days and self.admission.by == "poisson":
            raise ValueError("retire_after_days needs every occurrence; use admission by all or by count")
        return self

    @property
    def min_count(self) -> int:
        """What a count, of rows or in a Bloom filter, has to reach."""
        return self.admission.min_count if isinstance(self.admission, AdmitByCount | AdmitByBloom) else 1

    @property
    def first_id(self) -> int:
        """In an exact vocabulary, the first id of a conjunction; ids before it are as in a field."""
        return 2

    @property
    def is_fitted(self) -> bool:
        """True if the history decides which conjunctions have a weight of their own."""
        return self.vocabulary == "exact" or self.admission.by != "all"

    @property
    def hashed_size(self) -> int:
        """Number of ids of a hashed cross: its buckets, and one for what is not admitted."""
        return self.buckets + int(self.is_fitted)


class Frequency(Strict):
    """How often a key (one or more single-valued fields) was shown and was positive, point in time.

    For a row of day D and window w the counts cover the days [D - w - delay, D - delay): never D's own rows. With
    `as_of: impression` the rows of day D whose timestamp is strictly earlier than the row's own are added; the delay
    must then be 0.

    rate = (positives + prior * strength) / (impressions + strength); log_odds = logit(rate) - logit(prior);
    log_count = log(1 + impressions).
    """

    name: Name
    keys: tuple[Name, ...] = Field(min_length=1, max_length=4)
    windows: tuple[Window, ...] = Field(("all",), min_length=1)
    statistics: tuple[Statistic, ...] = Field(("rate", "log_count"), min_length=1)
    delay_days: int = Field(0, ge=0)
    prior: float = Field(gt=0.0, lt=1.0)
    strength: float = Field(20.0, gt=0.0, allow_inf_nan=False)
    as_of: Literal["day", "impression"] = "day"

    @model_validator(mode="after")
    def _check(self) -> Frequency:
        for what, values in (("keys", self.keys), ("windows", self.windows), ("statistics", self.statistics)):
            if len(set(values)) < len(values):
                raise ValueError(f"{what} repeats a value: {list(values)}")
        if self.as_of == "impression" and self.delay_days:
            raise ValueError(f"as_of: impression needs delay_days: 0; got {self.delay_days}")
        return self


class Sampling(Strict):
    """Negatives of the training days are kept with probability `negatives`, and then weigh 1 / negatives.

    request: a column that names the request a row was shown in; requests without a positive are then kept or left out
    as a whole. Counts, vocabularies and quantiles see every row, and so do evaluations.
    """

    negatives: float = Field(gt=0.0, lt=1.0)
    request: str | None = Field(None, min_length=1)


def window_days(window: str) -> int | None:
    """Length of a window in days; None for `all`."""
    return None if window == "all" else int(window[:-1])


class FeatureSpec(Strict):
    """Everything that turns a log row into a training example. See the module's docstring."""

    name: Name
    label: str = Field(min_length=1, description="0 or 1, integral, boolean or floating")
    timestamp: str = Field(min_length=1)
    group: str | None = None
    weight: str | None = None
    truth: str | None = Field(None, description="true probability of generated logs; no feature may read it")
    fields: tuple[CategoricalField, ...] = Field(min_length=1)
    dense: tuple[DenseFeature, ...] = ()
    crosses: tuple[Cross, ...] = ()
    frequencies: tuple[Frequency, ...] = ()
    sampling: Sampling | None = None

    @model_validator(mode="after")
    def _check(self) -> FeatureSpec:
        problems = [*self._duplicate_names(), *self._unknown_fields(), *self._forbidden_sources()]
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _duplicate_names(self) -> Iterator[str]:
        for kind, features in (("fields", self.fields), ("dense", self.dense), ("crosses", self.crosses)):
            counts = Counter(feature.name.casefold() for feature in features)  # Spark ignores case
            yield from (f"{kind}: the name {name!r} is used {n} times" for name, n in counts.items() if n > 1)
        counts = Counter(name for name in self.dense_names())
        yield from (f"two dense features are both called {name!r}" for name, n in counts.items() if n > 1)

    def _unknown_fields(self) -> Iterator[str]:
        by_name = {field.name: field for field in self.fields}
        for cross in self.crosses:
            missing = [name for name in cross.fields if name not in by_name]
            if missing:
                yield f"crosses.{cross.name}.fields: {missing} are not among the fields {sorted(by_name)}"
        for frequency in self.frequencies:
            missing = [name for name in frequency.keys if name not in by_name]
            if missing:
                yield f"frequencies.{frequency.name}.keys: {missing} are not among the fields {sorted(by_name)}"
            lists = [name for name in frequency.keys if name in by_name and by_name[name].multi_valued]
            if lists:
                yield f"frequencies.{frequency.name}.keys: {lists} are multi-valued; a key must be single-valued"

    def _forbidden_sources(self) -> Iterator[str]:
        forbidden = {column: role for role in ("label", "truth", "weight") if (column := getattr(self, role))}
        for kind, features in (("fields", self.fields), ("dense", self.dense)):
            for feature in features:
                if feature.source in forbidden:
                    yield (
                        f"{kind}.{feature.name} reads the column {feature.source!r}, which is the "
                        f"{forbidden[feature.source]}; no feature may read it"
                    )

    @property
    def request(self) -> str | None:
        """The column that names a row's request, if sampling asks for it."""
        return self.sampling.request if self.sampling else None

    @property
    def is_weighted(self) -> bool:
        """True if rows have weights: their own, or those of sampling."""
        return bool(self.weight or self.sampling)

    def field(self, name: str) -> CategoricalField:
        """The field called `name`."""
        return next(field for field in self.fields if field.name == name)

    def cross(self, name: str) -> Cross:
        """The cross called `name`."""
        return next(cross for cross in self.crosses if cross.name == name)

    def is_multi_valued(self, cross: Cross) -> bool:
        """True if a side of `cross` is multi-valued, so that a row has a list of conjunctions."""
        return any(self.field(name).multi_valued for name in cross.fields)

    def dense_names(self) -> list[str]:
        """Names of the dense columns of an encoded row, in their order: dense features, indicators, frequencies."""
        names: list[str] = []
        for feature in self.dense:
            names.append(feature.name)
            if feature.missing_indicator:
                names.append(f"{feature.name}_missing")
        for frequency in self.frequencies:
            for window in frequency.windows:
                names.extend(f"{frequency.name}_{window}_{statistic}" for statistic in frequency.statistics)
        return names

    def source_columns(self) -> list[str]:
        """The log columns that the spec reads, without repeats, in order of first use."""
        columns = [self.label, self.timestamp, self.group, self.weight, self.truth, self.request]
        columns += [field.source for field in self.fields] + [feature.source for feature in self.dense]
        return list(dict.fromkeys(column for column in columns if column))

    @property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that change when anything in the spec changes."""
        return digest(self.model_dump(mode="json"))[:16]


def digest(value: Any) -> str:
    """sha256 of a JSON value in canonical form, as 64 hexadecimal digits."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def explain(error: ValidationError, source: str) -> str:
    """Every problem of a pydantic error, one a line, each with its path: for people."""
    lines = []
    problems = error.errors(include_url=False)
    wrong_lists = {problem["loc"][:n] for problem in problems for n in range(len(problem["loc"]))}
    for problem in problems:
        # pydantic also finds a list too short when it has dropped the items that are wrong.
        if problem["type"] == "too_short" and problem["loc"] in wrong_lists:
            continue
        path = ".".join(str(part) for part in problem["loc"]) or "(whole file)"
        if problem["type"] == "extra_forbidden":
            lines.append(f"  {path}: unknown key; remove it or correct its spelling")
        elif problem["type"] == "missing":
            lines.append(f"  {path}: required, but missing")
        else:
            lines.append(f"  {path}: {problem['msg'].removeprefix('Value error, ')} (got {_short(problem['input'])})")
    return f"{source} has {len(lines)} problem(s):\n" + "\n".join(lines)


def _short(value: Any, limit: int = 120) -> str:
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."


def load_yaml(path: str | Path, model: type[M], section: str | None = None) -> M:
    """Read a YAML file (or its top-level `section`) into `model`.

    Raises SpecError that lists every mistake with its path.
    """
    source = str(path)
    try:
        document = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise SpecError(f"cannot read {source}: {error.strerror or error}. Give the path of a YAML file.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SpecError(f"{source} is not valid YAML: {error}") from error
    if not isinstance(document, dict):
        raise SpecError(f"{source} must hold a mapping at its top level; it holds {type(document).__name__}.")
    if section is not None:
        if section not in document:
            raise SpecError(f"{source} has no section {section!r}; it has {sorted(document)}.")
        source, document = f"{source} [{section}]", document[section]
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise SpecError(explain(error, source)) from error
