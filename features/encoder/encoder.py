"""The encoder: one piece of code that turns hashed rows into ids and numbers, in Spark's workers and in serving.

A host (Spark or the artifact) does the first stage: it hashes raw values (features.encoder.hashing), reads numbers and
looks up frequency counts, and hands over a `HashedBatch`. Everything after that is `Encoder.encode`, the same NumPy
code in both, so that equal hashed batches give features that are equal bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from nightjar.features.contract.spec import Cross, FeatureSpec
from nightjar.features.encoder.dense import Moments, encode_dense
from nightjar.features.encoder.frequency import KeyHistory, encode_frequency
from nightjar.features.encoder.hashing import MISSING, conjoin, find
from nightjar.features.encoder.ragged import Ragged

MISSING_ID = 0
OOV_ID = 1
FIRST_ID = 2

ColumnValues = np.ndarray | Ragged


@dataclass(frozen=True)
class Vocabulary:
    """Ids of a field's values. hashes: int64[n], ascending; ids: int32[n], the id of the value with that hash.

    Ids are given once and for ever: 0 is missing, then come `hash_ids` ids that unknown values share by their hash (a
    single one is out of vocabulary, 1), then the values'. retired: how many of those are nobody's at the moment.
    """

    hashes: np.ndarray
    ids: np.ndarray
    hash_ids: int = 1
    retired: int = 0

    @property
    def first_id(self) -> int:
        """The first id that is given to a value."""
        return OOV_ID + self.hash_ids

    @property
    def size(self) -> int:
        """Number of ids, the reserved and the retired ones included."""
        return self.first_id + len(self.ids) + self.retired

    def lookup(self, hashes: np.ndarray) -> np.ndarray:
        """Ids of hashed values, int32[n]."""
        position, found = find(self.hashes, hashes)
        ids = np.full(len(hashes), OOV_ID, np.int32)
        if self.hash_ids > 1:
            ids += (hashes % self.hash_ids).astype(np.int32)
        ids[found] = self.ids[position[found]]
        ids[hashes == MISSING] = MISSING_ID
        return ids


class AdmissionFilter(Protocol):
    """Which conjunctions of a hashed cross have a weight of their own: features.encoder.admission."""

    def admits(self, hashes: np.ndarray) -> np.ndarray:
        """Of each conjunction, by its hash: bool[n]."""


@dataclass(frozen=True)
class EncoderState:
    """What was fitted on training days: vocabularies by field, quantile boundaries and moments by dense feature, and
    what is known of the conjunctions of crosses that are fitted.

    boundaries: float64[n_q - 1], ascending, ties allowed.
    """

    vocabularies: Mapping[str, Vocabulary]
    boundaries: Mapping[str, np.ndarray]
    crosses: Mapping[str, Vocabulary | AdmissionFilter] = field(default_factory=dict)
    moments: Mapping[str, Moments] = field(default_factory=dict)


@dataclass(frozen=True)
class HashedBatch:
    """Rows after the host's stage.

    hashes: by field name, int64[rows] or, for a multi-valued field, Ragged int64 without missing values.
    numbers: by dense feature's name, float64[rows], NaN where missing.
    histories: by frequency name, of [rows].
    A column may have one row instead, which stands for all of them.
    """

    rows: int
    hashes: Mapping[str, ColumnValues]
    numbers: Mapping[str, np.ndarray] = field(default_factory=dict)
    histories: Mapping[str, KeyHistory] = field(default_factory=dict)


class Encoder:
    """Hashed rows to the columns that features.contract.layout describes."""

    def __init__(self, spec: FeatureSpec, state: EncoderState) -> None:
        self.spec = spec
        self.state = state

    def encode(self, batch: HashedBatch) -> dict[str, ColumnValues]:
        """Encode a batch.

        Returns, in the order of the data set's columns: `f_<field>` int32[rows] ids (Ragged, ascending and without
        repeats, if multi-valued); `x_<cross>` int32[rows] ids (Ragged likewise); `d_<dense>` float32[rows]. What is
        made of columns of one row has one row, too.
        """
        columns: dict[str, ColumnValues] = {}
        for field_ in self.spec.fields:
            columns[f"f_{field_.name}"] = _map(batch.hashes[field_.name], self.state.vocabularies[field_.name].lookup)
        for cross in self.spec.crosses:
            columns[f"x_{cross.name}"] = encode_cross(cross, batch.hashes, self.state.crosses.get(cross.name))
        dense: dict[str, np.ndarray] = {}
        for feature in self.spec.dense:
            boundaries, moments = self.state.boundaries.get(feature.name), self.state.moments.get(feature.name)
            dense.update(encode_dense(feature, batch.numbers[feature.name], boundaries, moments))
        for frequency in self.spec.frequencies:
            dense.update(encode_frequency(frequency, batch.histories[frequency.name]))
        columns |= {f"d_{name}": dense[name].astype(np.float32) for name in self.spec.dense_names()}
        return columns


def encode_cross(
    cross: Cross, hashes: Mapping[str, ColumnValues], fitted: Vocabulary | AdmissionFilter | None = None
) -> ColumnValues:
    """Ids of a cross-product: int32[rows], or Ragged int32 when a side is multi-valued.

    fitted: of a cross with an exact vocabulary, or with an admission, whose last id is that of all others; without it
    the id is the conjunction's hash modulo the number of buckets (a power of two).
    """

    def lookup(conjunctions: np.ndarray) -> np.ndarray:
        if isinstance(fitted, Vocabulary):
            return fitted.lookup(conjunctions)
        buckets = (conjunctions & np.int64(cross.buckets - 1)).astype(np.int32)
        return buckets if fitted is None else np.where(fitted.admits(conjunctions), buckets, np.int32(cross.buckets))

    sides = [hashes[name] for name in cross.fields]
    if sum(isinstance(side, Ragged) for side in sides) > 1:
        # Repeats in several lists would be multiplied before they are dropped.
        sides = [side.unique() if isinstance(side, Ragged) else side for side in sides]
    return _map(conjoin(sides), lookup)


def _map(column: ColumnValues, lookup: Callable[[np.ndarray], np.ndarray]) -> ColumnValues:
    if isinstance(column, Ragged):
        return Ragged(lookup(column.values), column.offsets).unique()
    return lookup(column)
