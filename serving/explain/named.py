"""A row's values and conjunctions by name, each with the wide coordinate that it falls on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import pyarrow as pa

from nightjar.features.contract.categorical import CategoricalField, Cross
from nightjar.features.contract.manifests import StateManifest
from nightjar.features.encoder.arrow_types import is_categorical
from nightjar.features.encoder.dense import interval_names
from nightjar.features.encoder.encoder import FIRST_ID, MISSING_ID, OOV_ID, EncoderState, encode_cross
from nightjar.features.encoder.hashing import MISSING, hash_bytes

SHOWN = 4


@dataclass(frozen=True)
class Value:
    """A value of a field in this row. text: None for a missing one."""

    text: str | None
    hash: int

    def of(self, name: str) -> str:
        """The value with its field's name."""
        return f"{name} is missing" if self.text is None else f"{name}={self.text}"


@dataclass(frozen=True)
class Coordinate:
    """An id of a field or a cross that this row holds. name: all of the row's values that fall on it; shared: what else
    does, in words; empty where nothing can.
    """

    id: int
    name: str
    shared: str


def values_of(field: CategoricalField, array: pa.Array) -> tuple[Value, ...]:
    """The values of one row, without repeats, in the row's order."""
    if field.boundaries:
        names = interval_names(field.boundaries)
        x = array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)[0]
        place = int(np.searchsorted(np.array(field.boundaries), x, side="right"))
        return _values([None if np.isnan(x) else names[place].encode()])
    if field.multi_valued:
        array = array.flatten() if pa.types.is_list(array.type) else pa.array([], pa.string())
        array = array.filter(array.is_valid())
    if not is_categorical(array.type):
        return _values([None] * len(array))
    return _values(array.cast(pa.string()).view(pa.binary()).to_pylist())


def of_field(
    field: CategoricalField, values: Sequence[Value], state: EncoderState, fitted: StateManifest
) -> Iterator[Coordinate]:
    """The ids of a field's values."""
    vocabulary = state.vocabularies[field.name]
    ids = vocabulary.lookup(np.array([value.hash for value in values], dtype=np.int64))
    for id_, names in _by_id(ids, [value.of(field.name) for value in values]).items():
        if field.kind == "hashed":
            shared = "" if id_ == MISSING_ID else f"by hash, one of {field.hash_ids} ids for all values"
        elif OOV_ID <= id_ < vocabulary.first_id:
            several = f"one of {field.hash_ids} ids" if field.hash_ids > 1 else "the one id"
            shared = f"unknown, {several} for all unknown values"
        else:
            shared = ""
        yield Coordinate(id_, names, shared)


def of_cross(
    cross: Cross, values: Mapping[str, Sequence[Value]], state: EncoderState, fitted: StateManifest
) -> Iterator[Coordinate]:
    """The ids of every choice of one value a side."""
    choices = list(product(*(values[name] for name in cross.fields)))
    names = [" & ".join(v.of(n) for n, v in zip(cross.fields, choice, strict=True)) for choice in choices]
    sides = {
        name: np.array([choice[place].hash for choice in choices], dtype=np.int64)
        for place, name in enumerate(cross.fields)
    }
    if not choices:
        return
    ids = encode_cross(cross, sides, state.crosses.get(cross.name))
    assert isinstance(ids, np.ndarray)
    for id_, name in _by_id(ids, names).items():
        yield Coordinate(id_, name, _shared_bucket(cross, id_, fitted))


def _shared_bucket(cross: Cross, id_: int, fitted: StateManifest) -> str:
    if cross.vocabulary == "exact":
        return "the one id for all conjunctions that are not admitted" if id_ < FIRST_ID else ""
    if id_ == cross.buckets:
        return "the one id for all conjunctions that are not admitted"
    figures = fitted.cross_figures.get(cross.name)
    if figures is None:
        return f"by hash, one of {cross.buckets} buckets"
    known = figures.distinct if figures.admitted is None else figures.admitted
    others = max(known - 1, 0) / cross.buckets
    return f"by hash, bucket {id_} of {cross.buckets}, {others:.2g} other known conjunctions a bucket"


def _values(texts: Sequence[bytes | None]) -> tuple[Value, ...]:
    hashes = hash_bytes([b"" if text is None else text for text in texts]).tolist()
    found = [
        Value(None, int(MISSING)) if text is None else Value(text.decode("utf-8", "replace"), hash_)
        for text, hash_ in zip(texts, hashes, strict=True)
    ]
    return tuple(dict.fromkeys(found))


def _by_id(ids: np.ndarray, names: Sequence[str]) -> dict[int, str]:
    """The names that fall on each id, joined."""
    found: dict[int, list[str]] = {}
    for id_, name in zip(ids.tolist(), names, strict=True):
        found.setdefault(id_, []).append(name)
    return {id_: _joined(sorted(set(several))) for id_, several in found.items()}


def _joined(names: Sequence[str]) -> str:
    more = f" | and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return " | ".join(names[:SHOWN]) + more
