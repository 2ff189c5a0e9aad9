"""What a feature spec says of categorical inputs: fields, their crosses, and which conjunctions a cross admits."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, model_validator

from nightjar.features.contract.strict import Strict

Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$", max_length=100)]
Pooling = Literal["sum", "mean", "sqrtn"]


class CategoricalField(Strict):
    """A categorical input: string, integral or boolean, or a list of those when `multi_valued`.

    vocabulary  Values seen at least `min_count` times get an id of their own, at most `max_size` of them (on a day on
                which there are more, the most frequent ones), and keep it for ever. Other values are spread by their
                hash over `oov_buckets` ids. A value that was not seen for `retire_after_days` is one of those; its id
                rests, is given to no other value, and is its own again when it comes back.
    hashed      No vocabulary: every value has one of `buckets` ids, by its hash.

    boundaries: cut a numeric column at these numbers; its values are then the intervals [-inf, b1), [b1, b2), ...,
    [bk, inf], and missing (null, NaN). They are given and not fitted: ids, crosses and counts of a field mean the same
    every night.
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
    boundaries: tuple[float, ...] = Field((), max_length=1000)

    @model_validator(mode="after")
    def _check_boundaries(self) -> CategoricalField:
        if self.boundaries and self.multi_valued:
            raise ValueError("a multi-valued field cannot have boundaries")
        if not all(math.isfinite(b) for b in self.boundaries) or any(a >= b for a, b in pairwise(self.boundaries)):
            raise ValueError(f"boundaries must be finite and ascending; got {list(self.boundaries)}")
        return self

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
