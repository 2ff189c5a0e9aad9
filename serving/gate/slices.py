"""The slices that a gate config names, from encoded columns: a field by its values, a dense feature in quarters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from nightjar.features.contract import storage
from nightjar.features.contract.artifact_files import ENCODER
from nightjar.features.contract.manifests import ArtifactManifest, DatasetManifest, StateManifest
from nightjar.features.contract.publishing import read_manifest
from nightjar.features.contract.spec import CategoricalField
from nightjar.features.encoder.encoder import MISSING_ID, OOV_ID
from nightjar.features.encoder.state import load_values
from nightjar.serving.evaluation.comparison import observe
from nightjar.serving.evaluation.metrics import Observations
from nightjar.serving.gate.bootstrap import Slices


def observe_slices(artifact: str, dataset: str, names: Sequence[str]) -> tuple[Observations, dict[str, Slices]]:
    """What is known of a data set's rows, and the slices that they are in by field or dense feature.

    artifact: one whose encoder state the data set was encoded under. names: checked by GateConfig.require_features.
    """
    by_feature = {
        c.feature: c for c in read_manifest(artifact, ArtifactManifest).columns if c.role in ("dense", "field")
    }
    columns = {name: by_feature[name] for name in names}
    observed, found = observe(
        dataset, read_manifest(dataset, DatasetManifest), [column.name for column in columns.values()]
    )
    state = storage.join(artifact, ENCODER)
    slices = {}
    for name, column in columns.items():
        if column.role == "dense":
            slices[name] = quarters(found[column.name])
        else:
            manifest = read_manifest(state, StateManifest)
            slices[name] = by_value(found[column.name], manifest.spec.field(name), load_values(state, manifest, name))
    return observed, slices


def by_value(ids_B: np.ndarray, field: CategoricalField, values: Mapping[int, str]) -> Slices:
    """A slice for each value of a field, one for missing ones and one for all that are unknown. values: by id."""
    is_unknown_B = (ids_B >= OOV_ID) & (ids_B < field.first_id)
    names = {**values, MISSING_ID: "(missing)", OOV_ID: "(out of vocabulary)"}
    return Slices(np.where(is_unknown_B, OOV_ID, ids_B), names)


def quarters(number_B: np.ndarray) -> Slices:
    """Four slices of as many impressions, as far as ties allow, named by the encoded values that they hold."""
    edges = np.unique(np.quantile(number_B, [0.25, 0.5, 0.75], method="lower"))
    code_B = np.searchsorted(edges, number_B, side="left")
    bounds = {int(code): number_B[code_B == code] for code in np.unique(code_B)}
    return Slices(code_B, {code: f"{held.min():.4g} to {held.max():.4g}" for code, held in bounds.items()})
