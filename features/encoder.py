"""The encoder: one piece of code that turns hashed rows into ids and numbers, in Spark's workers and in serving.

A host (Spark or the artifact) does the first stage: it hashes raw values (features.hashing), reads numbers and
looks up frequency counts, and hands over a `HashedBatch`. Everything after that is `Encoder.encode`, the same NumPy
code in both, so that equal hashed batches give features that are equal bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from features.hashing import MISSING, combine, hash_long
from features.ragged import Ragged, of_scalars, product
from features.spec import Cross, DenseFeature, FeatureSpec, Frequency

MISSING_ID = 0
OOV_ID = 1
FIRST_ID = 2

Column = np.ndarray | Ragged
_FLOAT32_MAX = float(np.finfo(np.float32).max)


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
        ids = (OOV_ID + hashes % self.hash_ids).astype(np.int32)
        ids[found] = self.ids[position[found]]
        ids[hashes == MISSING] = MISSING_ID
        return ids


class AdmissionFilter(Protocol):
    """Which conjunctions of a hashed cross have a weight of their own: features.admission."""

    def admits(self, hashes: np.ndarray) -> np.ndarray:
        """Of each conjunction, by its hash: bool[n]."""


@dataclass(frozen=True)
class Counts:
    """Impressions and positives, int64[n] each."""

    impressions: np.ndarray
    positives: np.ndarray

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.impressions + other.impressions, self.positives + other.positives)


@dataclass(frozen=True)
class CountTable:
    """Counts by key. keys: int64[n], ascending."""

    keys: np.ndarray
    counts: Counts

    def lookup(self, keys: np.ndarray) -> Counts:
        """Counts of each key; zero where it was never seen."""
        position, found = find(self.keys, keys)
        impressions, positives = np.zeros((2, len(keys)), dtype=np.int64)
        impressions[found] = self.counts.impressions[position[found]]
        positives[found] = self.counts.positives[position[found]]
        return Counts(impressions, positives)


def find(ascending: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Position of each wanted value in `ascending`, and whether it is there at all."""
    if not len(ascending):
        return np.zeros(len(wanted), dtype=np.int64), np.zeros(len(wanted), dtype=bool)
    position = np.minimum(np.searchsorted(ascending, wanted), len(ascending) - 1)
    return position, ascending[position] == wanted


@dataclass(frozen=True)
class EncoderState:
    """What was fitted on training days: vocabularies by field, quantile boundaries by dense feature, and what is known
    of the conjunctions of crosses that are fitted.

    boundaries: float64[n_q - 1], ascending, ties allowed.
    """

    vocabularies: Mapping[str, Vocabulary]
    boundaries: Mapping[str, np.ndarray]
    crosses: Mapping[str, Vocabulary | AdmissionFilter] = field(default_factory=dict)


@dataclass(frozen=True)
class HashedBatch:
    """Rows after the host's stage.

    hashes: by field name, int64[rows] or, for a multi-valued field, Ragged int64 without missing values.
    numbers: by dense feature's name, float64[rows], NaN where missing.
    counts: by (frequency name, window), int64[rows] each.
    """

    rows: int
    hashes: Mapping[str, Column]
    numbers: Mapping[str, np.ndarray] = field(default_factory=dict)
    counts: Mapping[tuple[str, str], Counts] = field(default_factory=dict)


class Encoder:
    """Hashed rows to the columns that features.layout describes."""

    def __init__(self, spec: FeatureSpec, state: EncoderState) -> None:
        self.spec = spec
        self.state = state

    def encode(self, batch: HashedBatch) -> dict[str, Column]:
        """Encode a batch.

        Returns, in the order of the data set's columns: `f_<field>` int32[rows] ids (Ragged, ascending and without
        repeats, if multi-valued); `x_<cross>` int32[rows] ids (Ragged likewise); `d_<dense>` float32[rows].
        """
        columns: dict[str, Column] = {}
        unique = {name: h.unique() if isinstance(h, Ragged) else h for name, h in batch.hashes.items()}
        for field_ in self.spec.fields:
            columns[f"f_{field_.name}"] = _map(unique[field_.name], self.state.vocabularies[field_.name].lookup)
        for cross in self.spec.crosses:
            columns[f"x_{cross.name}"] = encode_cross(cross, unique, self.state.crosses.get(cross.name))
        dense: dict[str, np.ndarray] = {}
        for feature in self.spec.dense:
            dense.update(self._dense(feature, batch.numbers[feature.name]))
        for frequency in self.spec.frequencies:
            for window in frequency.windows:
                dense.update(encode_frequency(frequency, window, batch.counts[frequency.name, window]))
        columns |= {f"d_{name}": dense[name].astype(np.float32) for name in self.spec.dense_names()}
        return columns

    def _dense(self, feature: DenseFeature, x: np.ndarray) -> dict[str, np.ndarray]:
        missing = np.isnan(x)
        if feature.transform == "quantile":
            boundaries = self.state.boundaries[feature.name]
            y = np.searchsorted(boundaries, x, side="right") / len(boundaries)
        elif feature.transform == "log":
            y = np.sign(x) * np.log1p(np.abs(x))
        else:
            y = x
        y = np.where(missing, feature.missing_value, np.clip(y, -_FLOAT32_MAX, _FLOAT32_MAX))
        columns = {feature.name: y}
        if feature.missing_indicator:
            columns[f"{feature.name}_missing"] = missing
        return columns


def encode_cross(
    cross: Cross, hashes: Mapping[str, Column], fitted: Vocabulary | AdmissionFilter | None = None
) -> Column:
    """Ids of a cross-product: int32[rows], or Ragged int32 when a side is multi-valued.

    fitted: of a cross with an exact vocabulary, or with an admission, whose last id is that of all others; without it
    the id is the conjunction's hash modulo the number of buckets (a power of two).
    """

    def lookup(conjunctions: np.ndarray) -> np.ndarray:
        if isinstance(fitted, Vocabulary):
            return fitted.lookup(conjunctions)
        buckets = (conjunctions & np.int64(cross.buckets - 1)).astype(np.int32)
        return buckets if fitted is None else np.where(fitted.admits(conjunctions), buckets, np.int32(cross.buckets))

    return _map(conjoin([hashes[name] for name in cross.fields]), lookup)


def conjoin(sides: Sequence[Column]) -> Column:
    """Hash of each conjunction, the tuple of its sides' hashes: int64[rows], or Ragged int64 when a side is Ragged."""
    scalars = [side for side in sides if not isinstance(side, Ragged)]
    if len(scalars) == len(sides):
        return combine(scalars)
    first, *others = (side if isinstance(side, Ragged) else of_scalars(side) for side in sides)
    joined = Ragged(hash_long(first.values), first.offsets)
    for side in others:
        left, right, offsets = product(joined, side)
        joined = Ragged(hash_long(right, seed=left), offsets)
    return joined


def encode_frequency(frequency: Frequency, window: str, counts: Counts) -> dict[str, np.ndarray]:
    """The statistics of one window, float64[rows] each; formulas in features.spec.Frequency."""
    impressions, positives = counts.impressions.astype(np.float64), counts.positives.astype(np.float64)
    rate = (positives + frequency.prior * frequency.strength) / (impressions + frequency.strength)
    compute: dict[str, Callable[[], np.ndarray]] = {
        "impressions": lambda: impressions,
        "positives": lambda: positives,
        "rate": lambda: rate,
        "log_odds": lambda: np.log(rate / (1.0 - rate)) - np.log(frequency.prior / (1.0 - frequency.prior)),
        "log_count": lambda: np.log1p(impressions),
    }
    return {f"{frequency.name}_{window}_{name}": compute[name]() for name in frequency.statistics}


def fit_boundaries(quantiles: np.ndarray) -> np.ndarray:
    """Boundaries of a quantile transform from the n_q - 1 interior quantiles of the training days: float64, ascending.

    A feature without any value gets boundaries of zero.
    """
    ascending = np.sort(np.asarray(quantiles, dtype=np.float64))
    return np.where(np.isnan(ascending), 0.0, ascending)


def _map(column: Column, lookup: Callable[[np.ndarray], np.ndarray]) -> Column:
    if isinstance(column, Ragged):
        return Ragged(lookup(column.values), column.offsets).unique()
    return lookup(column)
