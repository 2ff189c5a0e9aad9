"""Models as they serve, on raw rows of a log: the one path that a request takes, for whole days of them.

A pure function from a batch of raw rows to what is known of them and every model's scores, so that any host can spread
it: Spark's tasks do (jobs.judging.rows).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache

import numpy as np
import pyarrow as pa

from nightjar.features.contract import storage
from nightjar.features.contract.artifact_files import ENCODER
from nightjar.features.contract.manifests import CountersManifest, StateManifest
from nightjar.features.contract.publishing import read_manifest
from nightjar.features.contract.spec import FeatureSpec
from nightjar.features.encoder.encoder import Encoder
from nightjar.features.encoder.rows import hash_rows, so_far_columns
from nightjar.serving.model import ServingModel, load

SCORE = "score:"
AS_SERVED = "served:"
SLICE = "slice:"


@dataclass(frozen=True)
class ServedModel:
    """A model as it serves. artifact, counters: directories; None for the counters that it was packed with."""

    artifact: str
    counters: str | None = None

    @property
    def counters_as_of(self) -> str:
        """The day that its counters are for: the one after the last that they count."""
        if self.counters:
            through = read_manifest(self.counters, CountersManifest).through_date
        else:
            through = read_manifest(storage.join(self.artifact, ENCODER), StateManifest).through_date
        return (date.fromisoformat(through) + timedelta(1)).isoformat()

    def open(self) -> ServingModel:
        """Load it, once in a process."""
        return _opened(self.artifact, self.counters)


@lru_cache(maxsize=8)
def _opened(artifact: str, counters: str | None) -> ServingModel:
    return load(artifact, counters=counters)


def so_far_of(model: str, column: str) -> str:
    """Name under which a batch has today's counts so far, which may be others for another model's spec."""
    return f"so far:{model}:{column}"


def has_stand_ins(spec: FeatureSpec) -> bool:
    """Whether a request is scored with values that the log's columns do not hold (`serve_as`)."""
    return any(feature.serve_as is not None for feature in spec.reading())


def score_raw(
    models: Mapping[str, ServedModel], batch: pa.Table, slices: Mapping[str, str], sliced_by: str
) -> dict[str, np.ndarray]:
    """Score raw rows with every model.

    Args:
        models: by name.
        batch: raw rows with the `request_columns` of every model's spec, and `so_far_of` its counts of today, where it
            has such. A column that is not there at all is missing in every row.
        slices: columns of the encoded rows of one model, by the name that they are wanted under.
        sliced_by: that model.

    Returns:
        `score:<model>`, float32[rows] each, as logged; `served:<model>`, with the values that stand in for columns, of
        models that have such; `slice:<name>`, what the encoder makes of these columns.
    """
    found: dict[str, np.ndarray] = {}
    for name, served in models.items():
        model = served.open()
        request, encoder = _request(name, model.state.spec, batch), Encoder(model.state.spec, model.state.encoder)
        encoded = encoder.encode(hash_rows(model.state, request, as_logged=True))
        found[SCORE + name] = model.score_encoded(encoded)
        if has_stand_ins(model.state.spec):
            found[AS_SERVED + name] = model.score_encoded(encoder.encode(hash_rows(model.state, request)))
        if name == sliced_by:
            found |= {SLICE + wanted: np.asarray(encoded[column]) for wanted, column in slices.items()}
    return found


def _request(name: str, spec: FeatureSpec, batch: pa.Table) -> pa.Table:
    columns = {column: _column(batch, column) for column in spec.request_columns()}
    for frequency in spec.frequencies:
        if frequency.as_of == "impression":
            columns |= {column: batch.column(so_far_of(name, column)) for column in so_far_columns(frequency)}
    return pa.table(columns)


def _column(batch: pa.Table, name: str) -> pa.ChunkedArray | pa.Array:
    return batch.column(name) if name in batch.column_names else pa.nulls(batch.num_rows)
