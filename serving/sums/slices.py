"""The slices that a gate config names, by what the candidate's encoder makes of a column: a field's ids by value, a
dense feature's numbers in quarters.

The quarters' edges are numbers of the day itself, the exact quartiles of all its rows. Two passes find them, whatever
the number of rows: float32 numbers are in the order of 32 bits, so that a count by the upper 16 says in which of these
the quartile is, and a count by the lower 16 of those few, which number it is.

Shapes: n rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from nightjar.features.contract import storage
from nightjar.features.contract.artifact_files import ENCODER
from nightjar.features.contract.manifests import StateManifest
from nightjar.features.contract.metrics.tally import Table, Tally
from nightjar.features.contract.publishing import read_manifest
from nightjar.features.contract.spec import CategoricalField
from nightjar.features.encoder.encoder import MISSING_ID, OOV_ID
from nightjar.features.encoder.state import load_values
from nightjar.serving.sums.rows import Host, ScoredRows

_QUARTILES = (0.25, 0.5, 0.75)
_SIGN, _ALL = np.uint32(1 << 31), np.uint32((1 << 32) - 1)


@dataclass(frozen=True)
class Coding:
    """Numbers of a column to codes of slices, one way of three. unknown: ids below the second and from the first on are
    one slice. edges: the slices are what lies up to each of them, and above. Neither: a number is its own code.
    """

    unknown: tuple[int, int] | None = None
    edges: tuple[float, ...] | None = None

    def codes(self, value_n: np.ndarray) -> np.ndarray:
        """int64[n]."""
        if self.edges is not None:
            return np.searchsorted(np.array(self.edges), value_n, side="left")
        code_n = value_n.astype(np.int64)
        if self.unknown is None:
            return code_n
        first, end = self.unknown
        return np.where((code_n >= first) & (code_n < end), first, code_n)


@dataclass(frozen=True)
class Slices:
    """Which slice a row is in, by one column. names: of slices, by code."""

    coding: Coding = field(default_factory=Coding)
    names: Mapping[int, str] = field(default_factory=dict)


def find_slices(artifact: str, wanted: Sequence[str], host: Host) -> dict[str, Slices]:
    """The slices by each of several fields or dense features.

    Args:
        artifact: the candidate's, whose encoder made what rows are sliced by.
        wanted: names of single-valued fields and of dense features.
        host: where the rows are.
    """
    if not wanted:
        return {}
    state = storage.join(artifact, ENCODER)
    manifest = read_manifest(state, StateManifest)
    fields = {one.name: one for one in manifest.spec.fields}
    quarters = find_quarters([name for name in wanted if name not in fields], host)
    return {
        name: by_value(fields[name], load_values(state, manifest, name)) if name in fields else quarters[name]
        for name in wanted
    }


def by_value(field: CategoricalField, values: Mapping[int, str]) -> Slices:
    """A slice for each value of a field, one for missing values and one for all that are unknown.

    Args:
        field: says which ids stand for unknown values.
        values: by id.
    """
    names = {**values, MISSING_ID: "(missing)", OOV_ID: "(out of vocabulary)"}
    return Slices(Coding(unknown=(OOV_ID, field.first_id)), names)


def find_quarters(columns: Sequence[str], host: Host) -> dict[str, Slices]:
    """By column, four slices of as many rows, as far as ties allow, named by the numbers that they hold."""
    if not columns:
        return {}
    above = host.tally(partial(_upper_halves, columns))
    upper = {name: {place: _at(above[name], place) for place in _QUARTILES} for name in columns}
    sought = {name: np.array(sorted({half for half, _ in found.values()})) for name, found in upper.items()}
    below = host.tally(partial(_whole_numbers, sought))
    edges: dict[str, tuple[float, ...]] = {}
    for name, found in upper.items():
        key_K, [count_K] = below[name].keys, below[name].values.T
        exact = []
        for half, before in found.values():
            here_K = key_K >> 16 == half
            exact.append(key_K[here_K][np.searchsorted(np.cumsum(count_K[here_K]), before, side="right")])
        edges[name] = tuple(np.unique(_number(np.array(exact))).tolist())
    spans = host.tally(partial(_spans, edges))
    slices = {}
    for name in columns:
        low_K, high_K = _number(-spans[name].values[:, 0]), _number(spans[name].values[:, 1])
        texts = [f"{low:.4g} to {high:.4g}" for low, high in zip(low_K.tolist(), high_K.tolist(), strict=True)]
        slices[name] = Slices(Coding(edges=edges[name]), dict(zip(spans[name].keys.tolist(), texts, strict=True)))
    return slices


def _at(upper: Table, place: float) -> tuple[int, int]:
    """The upper half of the bits of a quantile, and how many rows that share it are before it."""
    [count_K] = upper.values.T
    rank = int(np.floor(place * (count_K.sum() - 1)))  # numpy.quantile's "lower"
    end_K = np.cumsum(count_K)
    k = int(np.searchsorted(end_K, rank, side="right"))
    return int(upper.keys[k]), rank - int(end_K[k] - count_K[k])


def _upper_halves(columns: Sequence[str], rows: ScoredRows) -> Tally:
    return {name: _counts(_bits(rows.sliced[name]) >> 16) for name in columns}


def _whole_numbers(upper: Mapping[str, np.ndarray], rows: ScoredRows) -> Tally:
    bits = {name: _bits(rows.sliced[name]) for name in upper}
    return {name: _counts(bits[name][np.isin(bits[name] >> 16, halves)]) for name, halves in upper.items()}


def _spans(edges: Mapping[str, tuple[float, ...]], rows: ScoredRows) -> Tally:
    """By code: least and largest number, as bits, the former negated."""
    found = {}
    for name, of_column in edges.items():
        bits_n = _bits(rows.sliced[name])
        code_n = Coding(edges=of_column).codes(rows.sliced[name])
        found[name] = Table.of(code_n, np.stack([-bits_n, bits_n], axis=1), largest=True)
    return found


def _counts(key_n: np.ndarray) -> Table:
    keys, counts = np.unique(key_n, return_counts=True)
    return Table(keys, counts[:, None].astype(np.int64))


def _bits(number_n: np.ndarray) -> np.ndarray:
    """float32 numbers as integers of the same order: int64[n] in [0, 2^32). -0 is 0."""
    bits_n = (number_n.astype(np.float32) + np.float32(0.0)).view(np.uint32)
    return np.where(bits_n & _SIGN, bits_n ^ _ALL, bits_n | _SIGN).astype(np.int64)


def _number(bits_n: np.ndarray) -> np.ndarray:
    """The numbers that `_bits` made these of: float64[n]."""
    ordered_n = bits_n.astype(np.uint32)
    return np.where(ordered_n & _SIGN, ordered_n ^ _SIGN, ordered_n ^ _ALL).view(np.float32).astype(np.float64)
