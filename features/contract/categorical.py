"""What a feature spec says of categorical inputs (fields, their crosses, which conjunctions a cross admits), and of
labels that are made of other columns."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StrictBool, StrictFloat, StrictInt, StrictStr, TypeAdapter, model_validator

from nightjar.features.contract.errors import did_you_mean
from nightjar.features.contract.strict import Strict, named_in

Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$", max_length=100)]
Pooling = Literal["sum", "mean", "sqrtn"]
Value = StrictBool | StrictInt | StrictFloat | StrictStr


class CategoricalField(Strict):
    """A categorical input: string, integral or boolean, or a list of those when `multi_valued`.

    Ids mean the same every night: a value keeps its id for ever, and the boundaries of intervals are given, not fitted.
    """

    name: Name
    """What crosses, frequencies and slices call the field."""
    column: str = ""
    """The log column that it reads; the field's name if empty."""
    multi_valued: bool = False
    """The column holds a list of values."""
    split: str | None = Field(None, min_length=1, max_length=20)
    """Of a multi-valued field: the column is a string that holds the values with this between them, in requests as in
    the log. Nothing between two of them is no value. A string that is not Unicode holds none."""
    kind: Literal["vocabulary", "hashed"] = "vocabulary"
    """`vocabulary` gives a value that was seen often enough an id of its own. `hashed` has no vocabulary: the hash of a
    value gives its id."""
    min_count: int = Field(1, ge=1)
    """Of a vocabulary: rows of the history that a value needs for an id of its own."""
    max_size: int | None = Field(None, ge=1, le=2**30)
    """Of a vocabulary: the most values that have an id. Where more come in on a day, the most frequent ones do. A full
    vocabulary takes no more. Empty: no limit."""
    oov_buckets: int = Field(1, ge=1, le=2**20)
    """Of a vocabulary: ids that all other values are spread over by their hash."""
    retire_after_days: int | None = Field(None, ge=1)
    """Of a vocabulary: a value not seen for so many days counts as unknown. Its id is given to no other value, and is
    its own again when it comes back. Empty: never."""
    buckets: int | None = Field(None, ge=1, le=2**30)
    """Of a hashed field: the number of its ids. Required there."""
    embedding: int = Field(16, ge=0, le=1024, description="width; 0 keeps the field out of the deep part")
    """Width of the embedding. 0 keeps the field out of the deep part."""
    pooling: Pooling = "mean"
    """How the embeddings of a list become one: their sum, their mean, or the sum over the square root of their number.
    """
    wide: bool = True
    """False keeps the field out of the wide part."""
    boundaries: tuple[float, ...] = Field((), max_length=1000)
    """Cuts a numeric column at these ascending numbers. The values are then the intervals [-inf, b1), [b1, b2), ...,
    [bk, inf], and missing (null, NaN)."""
    serve_as: Value | tuple[Value, ...] | None = None
    """What stands for the column when the model serves, in every row, whatever a request brings: for what nobody knows
    before the ranking, such as a position. A string, an integer or a boolean; a number with `boundaries`; a list of a
    multi-valued field. Training and evaluation read the log. Empty: requests bring the column."""

    @model_validator(mode="after")
    def _check_serve_as(self) -> CategoricalField:
        value = self.serve_as
        if value is None:
            return self
        if self.multi_valued != isinstance(value, tuple):
            wanted = "a list, as the field is multi-valued" if self.multi_valued else "one value, not a list"
            raise ValueError(f"serve_as must be {wanted}; got {_shown(value)}")
        values = value if isinstance(value, tuple) else (value,)
        if self.boundaries:
            if not all(is_finite_number(one) for one in values):
                raise ValueError(f"serve_as of a field with boundaries must be a finite number; got {_shown(value)}")
        elif any(isinstance(one, float) for one in values):
            raise ValueError(f"serve_as must be a string, an integer or a boolean; got {_shown(value)}")
        elif len({type(one) for one in values}) > 1:
            raise ValueError(f"serve_as must hold values of one type; got {_shown(value)}")
        return self

    @model_validator(mode="after")
    def _check_boundaries(self) -> CategoricalField:
        if self.boundaries and self.multi_valued:
            raise ValueError("a multi-valued field cannot have boundaries")
        if not all(math.isfinite(b) for b in self.boundaries) or any(a >= b for a, b in pairwise(self.boundaries)):
            raise ValueError(f"boundaries must be finite and ascending; got {list(self.boundaries)}")
        return self

    @model_validator(mode="after")
    def _check(self) -> CategoricalField:
        if self.split and not self.multi_valued:
            raise ValueError("split makes a list of a string; set multi_valued: true")
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


def is_finite_number(value: object) -> bool:
    """True for an integer or a floating-point number that is neither infinite nor NaN; not for a boolean."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _shown(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


class AdmitAll(Strict):
    """Every conjunction has a weight."""

    by: Literal["all"] = "all"
    """The rule's name."""


class AdmitByCount(Strict):
    """Conjunctions seen in at least `min_count` rows of the history, counted exactly."""

    by: Literal["count"]
    """The rule's name."""
    min_count: int = Field(ge=1)
    """Rows of the history that a conjunction needs."""


class AdmitByPoisson(Strict):
    """Each occurrence lets its conjunction in with this probability, so that a rare one seldom gets in.

    Whether one does is a hash of the row, the conjunction and the seed: the same log gives the same conjunctions.
    """

    by: Literal["poisson"]
    """The rule's name."""
    probability: float = Field(gt=0.0, lt=1.0)
    """Of one occurrence to let its conjunction in."""
    seed: int = Field(0, ge=0, lt=2**63)
    """Another seed draws anew."""


class AdmitByBloom(Strict):
    """Conjunctions that a counting Bloom filter takes to have been seen in at least `min_count` rows of the history.

    Each row adds one to `hashes` of `counters` counters. The least of a conjunction's counters is never below its
    count, so that one may be let in too early and none too late.
    """

    by: Literal["bloom"]
    """The rule's name."""
    min_count: int = Field(ge=2)
    """Rows of the history that a conjunction needs, by the filter."""
    counters: int = Field(2**24, ge=2**6, le=2**30)
    """The filter's size: a power of two."""
    hashes: int = Field(4, ge=1, le=16)
    """Counters that a conjunction has in the filter."""

    @model_validator(mode="after")
    def _check(self) -> AdmitByBloom:
        if self.counters & (self.counters - 1):
            raise ValueError(f"counters must be a power of two; got {self.counters}")
        return self


Admission = Annotated[AdmitAll | AdmitByCount | AdmitByPoisson | AdmitByBloom, Field(discriminator="by")]


class Cross(Strict):
    """A cross-product of fields (phi_k of Cheng et al. 2016). A multi-valued side contributes one conjunction per value
    of its list.
    """

    name: Name
    """Name of the cross."""
    fields: tuple[Name, ...] = Field(min_length=2, max_length=8)
    """Names of the fields that are crossed."""
    vocabulary: Literal["hashed", "exact"] = "hashed"
    """`hashed` gives a conjunction one of `buckets` ids by its hash. `exact` gives every admitted conjunction an id of
    its own."""
    buckets: int = Field(2**18, ge=2, le=2**30)
    """Of a hashed cross: the number of its ids, a power of two."""
    admission: Admission = AdmitAll()
    """Which conjunctions have a weight of their own (McMahan et al. 2013, section 4.1), by days before the evaluated
    one. All others of the cross share one id."""
    max_size: int | None = Field(None, ge=1, le=2**30)
    """Of an exact cross: the most conjunctions that have an id, as of a field. Empty: no limit."""
    retire_after_days: int | None = Field(None, ge=1)
    """Of an exact cross: a conjunction not seen for so many days counts as not admitted, as a field's value does.
    Empty: never."""

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


class LabelRule(Strict):
    """A label that is computed: 1 where the rule holds, 0 where it does not, missing where a column of it is."""

    column: str | None = Field(None, min_length=1)
    """The column whose number is compared."""
    share_of: str | None = Field(None, min_length=1)
    """The column that the number is divided by first; the label is missing where it is 0."""
    at_least: float | None = Field(None, allow_inf_nan=False)
    """1 from this number on."""
    above: float | None = Field(None, allow_inf_nan=False)
    """1 above this number."""
    sql: str | None = Field(None, min_length=1)
    """Instead of a column: an expression of Spark's SQL that is true or false, or 1 or 0."""
    columns: tuple[str, ...] = ()
    """The columns that `sql` reads."""

    @model_validator(mode="after")
    def _check(self) -> LabelRule:
        if self.sql:
            if idle := self._set("column", "share_of", "at_least", "above"):
                raise ValueError(f"sql says all of the rule; remove {idle}")
            if not self.columns:
                raise ValueError("sql needs columns: the list of those that it reads")
        elif not self.column or (self.at_least is None) == (self.above is None) or self.columns:
            raise ValueError("a label's rule is a column with at_least or above, or sql with columns")
        return self

    def __str__(self) -> str:
        if self.sql:
            return self.sql
        value = f"{self.column} / {self.share_of}" if self.share_of else str(self.column)
        return f"{value} >= {self.at_least:.15g}" if self.above is None else f"{value} > {self.above:.15g}"


def _column_or_rule(label: Any) -> Any:
    """Validated here, so that a mistake is told once and not for both kinds."""
    if isinstance(label, LabelRule):
        return label
    return LabelRule.model_validate(label) if isinstance(label, Mapping) else _COLUMN.validate_python(label)


Column = Annotated[str, Field(min_length=1)]
_COLUMN: TypeAdapter[str] = TypeAdapter(Column)
Label = Annotated[Column | LabelRule, BeforeValidator(_column_or_rule)]


def unknown_fields(spec: Mapping[str, Any]) -> Iterator[str]:
    """Names of fields in crosses and frequencies of a spec, as it is read, that no field has: one mistake each."""
    known = named_in(spec.get("fields"))
    for kind, key in (("crosses", "fields"), ("frequencies", "keys")) if known else ():
        for name, one in named_in(spec.get(kind)).items():
            names = one.get(key) if isinstance(one, Mapping) else getattr(one, key)
            listed = names if isinstance(names, list | tuple) else ()
            if missing := [field for field in listed if isinstance(field, str) and field not in known]:
                hint = did_you_mean(missing, known)
                yield f"{kind}.{name}.{key}: {missing} are not among the fields {sorted(known)}{hint}"
