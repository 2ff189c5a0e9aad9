"""The slices that a gate config names, from encoded columns: a field by its values, a dense feature in quarters."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from nightjar.features.contract import storage
from nightjar.features.contract.artifact_files import ENCODER
from nightjar.features.contract.manifests import StateManifest
from nightjar.features.contract.publishing import read_manifest
from nightjar.features.contract.spec import CategoricalField
from nightjar.features.encoder.encoder import MISSING_ID, OOV_ID
from nightjar.features.encoder.state import load_values
from nightjar.serving.gate.parts import Slices


def slices_of(artifact: str, encoded: Mapping[str, np.ndarray]) -> dict[str, Slices]:
    """The slices that impressions are in, by field or dense feature.

    artifact: whose encoder made `encoded`: by name, the ids of fields and the numbers of dense features, [B] each.
    """
    state = storage.join(artifact, ENCODER)
    manifest = read_manifest(state, StateManifest)
    fields = {field.name: field for field in manifest.spec.fields}
    return {
        name: by_value(column.astype(np.int64), fields[name], load_values(state, manifest, name))
        if name in fields
        else quarters(column)
        for name, column in encoded.items()
    }


def by_value(ids_B: np.ndarray, field: CategoricalField, values: Mapping[int, str]) -> Slices:
    """A slice for each value of a field, one for missing values and one for all that are unknown.

    Args:
        ids_B: of the field, by impression.
        field: says which ids stand for unknown values.
        values: by id.
    """
    is_unknown_B = (ids_B >= OOV_ID) & (ids_B < field.first_id)
    names = {**values, MISSING_ID: "(missing)", OOV_ID: "(out of vocabulary)"}
    return Slices(np.where(is_unknown_B, OOV_ID, ids_B), names)


def quarters(number_B: np.ndarray) -> Slices:
    """Four slices of as many impressions, as far as ties allow, named by the encoded values that they hold."""
    edges = np.unique(np.quantile(number_B, [0.25, 0.5, 0.75], method="lower"))
    code_B = np.searchsorted(edges, number_B, side="left")
    bounds = {int(code): number_B[code_B == code] for code in np.unique(code_B)}
    return Slices(code_B, {code: f"{held.min():.4g} to {held.max():.4g}" for code, held in bounds.items()})
