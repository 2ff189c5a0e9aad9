"""Which column of an earlier model is which column of a new one, from their feature specs alone.

field   the same name; else, for a field that was renamed, the same log column. What its rows share is decided by value.
cross   the same log columns on its sides, in the same order, and as many buckets, or an exact vocabulary in both, whose
        rows travel by conjunction. Buckets have no values to go by: under another number of them, conjunctions that
        shared a weight need not do so any more, and the cross starts afresh. What is admitted may change.
dense   the same log column under the same transform; a statistic: the same keys, window and smoothing.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping

from nightjar.features.contract.spec import FeatureSpec, Frequency

Meanings = Mapping[str, Hashable]
"""What makes a column what it is, by the column's name."""
Key = Callable[[str, Hashable], Hashable]


def matching_columns(parent: FeatureSpec, child: FeatureSpec) -> dict[str, str]:
    """The parent's column for each column of the child that has one; names as in features.contract.layout."""
    pairs = _paired(_fields(parent), _fields(child), lambda name, meaning: name)
    for meanings in (_crosses, _dense):
        pairs |= _paired(meanings(parent), meanings(child), lambda name, meaning: (name, meaning))
    return pairs


def _paired(parent: Meanings, child: Meanings, first: Key) -> dict[str, str]:
    """Pair what agrees in the first key; then, of the rest, what means the same."""
    pairs: dict[str, str] = {}
    for key in (first, lambda name, meaning: meaning):
        free = {key(name, meaning): name for name, meaning in parent.items() if name not in pairs.values()}
        for name, meaning in child.items():
            if name not in pairs and key(name, meaning) in free:
                pairs[name] = free.pop(key(name, meaning))
    return pairs


def _fields(spec: FeatureSpec) -> Meanings:
    return {f"f_{field.name}": (spec.meaning_of(field), field.boundaries) for field in spec.fields}


def _crosses(spec: FeatureSpec) -> Meanings:
    return {
        f"x_{cross.name}": (_sources(spec, cross.fields), cross.buckets if cross.vocabulary == "hashed" else "exact")
        for cross in spec.crosses
    }


def _dense(spec: FeatureSpec) -> Meanings:
    meanings: dict[str, Hashable] = {}
    for feature in spec.dense:
        meanings[f"d_{feature.name}"] = (spec.meaning_of(feature), feature.transform)
        if feature.missing_indicator:
            meanings[f"d_{feature.name}_missing"] = (spec.meaning_of(feature), "missing")
    for frequency in spec.frequencies:
        for name, window, statistic in frequency.columns():
            meanings[f"d_{name}"] = (_smoothed_counts(spec, frequency), window, statistic)
    return meanings


def _smoothed_counts(spec: FeatureSpec, frequency: Frequency) -> Hashable:
    settings = (frequency.delay_days, frequency.prior, frequency.strength, frequency.as_of)
    return _sources(spec, frequency.keys), settings


def _sources(spec: FeatureSpec, names: tuple[str, ...]) -> Hashable:
    return tuple((spec.meaning_of(field), field.boundaries) for field in map(spec.field, names))
