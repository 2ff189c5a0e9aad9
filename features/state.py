"""The encoder's fitted state on disk: written by Spark, read by Spark's workers and by serving.

vocabulary/<field>/*.parquet: hash int64, id int32, value string, impressions int64, one row a value that has an id.
frequency/<name>/*.parquet: key int64, then impressions_<window> and positives_<window> int64, as of the day after
the state's last day. The spec and the quantile boundaries are in the manifest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from features import storage
from features.encoder import Counts, CountTable, EncoderState, Vocabulary
from features.manifest import StateManifest
from features.spec import FeatureSpec

VOCABULARY = "vocabulary"
FREQUENCY = "frequency"


@dataclass(frozen=True)
class FittedState:
    """All that serving needs to encode raw rows. frequencies: by (frequency name, window)."""

    spec: FeatureSpec
    encoder: EncoderState
    frequencies: Mapping[tuple[str, str], CountTable]


def load_state(directory: str, manifest: StateManifest) -> FittedState:
    """Read a published state, frequency tables included."""
    spec = manifest.spec
    frequencies = {}
    for frequency in spec.frequencies:
        table = _read(directory, f"{FREQUENCY}/{frequency.name}", manifest)
        keys = _numpy(table, "key", np.int64)
        order = np.argsort(keys)
        for window in frequency.windows:
            impressions, positives = (
                _numpy(table, f"{what}_{window}", np.int64)[order] for what in ("impressions", "positives")
            )
            frequencies[frequency.name, window] = CountTable(keys[order], Counts(impressions, positives))
    return FittedState(spec, load_encoder_state(directory, manifest), frequencies)


def load_encoder_state(directory: str, manifest: StateManifest) -> EncoderState:
    """Read vocabularies and boundaries only: what Spark's workers need."""
    vocabularies = {field.name: load_vocabulary(directory, manifest, field.name) for field in manifest.spec.fields}
    boundaries = {name: np.array(values, dtype=np.float64) for name, values in manifest.boundaries.items()}
    return EncoderState(vocabularies, boundaries)


def load_vocabulary(directory: str, manifest: StateManifest, field: str) -> Vocabulary:
    """Read the ids of one field's values."""
    table = _read(directory, f"{VOCABULARY}/{field}", manifest, columns=["hash", "id"])
    hashes = _numpy(table, "hash", np.int64)
    order = np.argsort(hashes)
    return Vocabulary(hashes[order], _numpy(table, "id", np.int32)[order])


def load_values(directory: str, manifest: StateManifest, field: str) -> dict[int, str]:
    """The value behind every id of a field's vocabulary, the two reserved ids apart."""
    table = _read(directory, f"{VOCABULARY}/{field}", manifest, columns=["id", "value"])
    return dict(zip(table.column("id").to_pylist(), table.column("value").to_pylist(), strict=True))


def _read(directory: str, folder: str, manifest: StateManifest, columns: Iterable[str] | None = None) -> pa.Table:
    paths = [entry.path for entry in manifest.files if entry.path.startswith(folder + "/")]
    tables = []
    for path in paths:
        with storage.open_binary(storage.join(directory, path)) as stream:
            tables.append(pq.read_table(stream, columns=list(columns) if columns else None))
    return pa.concat_tables(tables)


def _numpy(table: pa.Table, column: str, dtype: type) -> np.ndarray:
    return table.column(column).to_numpy().astype(dtype, copy=False)
