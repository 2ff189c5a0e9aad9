"""What a request brings: its columns by name, type and meaning, as a feature spec has them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from nightjar.features.contract.categorical import CategoricalField
from nightjar.features.contract.expressions.derived import log_columns
from nightjar.features.contract.spec import DenseFeature, FeatureSpec
from nightjar.features.encoder.rows import so_far_columns

InputType = Literal["category", "number", "list of categories", "delimited list", "count", "value"]
"""category: a string, an integer or a boolean. number: integral, floating or boolean. delimited list: a string that
holds the values of a list. count: an integer, 0 or more. value: what a derived column is computed of, of the log's own
type: a number, a string, a boolean or a timestamp."""


@dataclass(frozen=True)
class InputColumn:
    """A column of a request.

    type: what its values are, `null` apart. required: a request without it is refused. meaning: which features read
    it, or what is used where it is not there.
    """

    name: str
    type: InputType
    required: bool
    meaning: str


def input_columns(spec: FeatureSpec) -> tuple[InputColumn, ...]:
    """The columns of a request in the order of the spec, those of counts last, without repeats."""
    readers: dict[str, list[CategoricalField | DenseFeature]] = defaultdict(list)
    for feature in spec.reading():
        for name in log_columns(spec.derive, feature.source):
            readers[name].append(feature)
    return (*(_column(name, features, spec) for name, features in readers.items()), *_counts(spec))


def _column(name: str, features: list[CategoricalField | DenseFeature], spec: FeatureSpec) -> InputColumn:
    kinds = [_type(feature) if feature.source == name else "value" for feature in features]
    # What several features read is what the narrowest of them takes.
    kind = next(k for k in ("delimited list", "list of categories", "category", "number", "value") if k in kinds)
    meanings = [_meaning(f) + ("" if f.source == name else f", computed: {spec.meaning_of(f)}") for f in features]
    return InputColumn(name, kind, any(feature.serve_as is None for feature in features), ", ".join(meanings))


def _type(feature: CategoricalField | DenseFeature) -> InputType:
    if isinstance(feature, DenseFeature) or feature.boundaries:
        return "number"
    if feature.split:
        return "delimited list"
    return "list of categories" if feature.multi_valued else "category"


def _meaning(feature: CategoricalField | DenseFeature) -> str:
    what = f"{'dense feature' if isinstance(feature, DenseFeature) else 'field'} {feature.name}"
    if feature.serve_as is None:
        split = feature.split if isinstance(feature, CategoricalField) else None
        return f"{what}, split at {split!r}" if split else what
    value = list(feature.serve_as) if isinstance(feature.serve_as, tuple) else feature.serve_as
    return f"{what}, served as {value!r} whatever a request brings"


def _counts(spec: FeatureSpec) -> Iterator[InputColumn]:
    for frequency in spec.frequencies:
        if frequency.as_of == "impression":
            keys = " x ".join(frequency.keys)
            of = "of this row's key" if len(frequency.keys) == 1 else "of this row's keys together"
            required = frequency.missing_so_far == "error"
            for name, what in zip(so_far_columns(frequency), ("impressions", "positives"), strict=True):
                unless = "" if required else "; zero where it is missing"
                yield InputColumn(
                    name, "count", required, f"{what} {of} ({keys}) since the day began (UTC), before now{unless}"
                )
