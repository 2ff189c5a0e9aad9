"""Counters as serving holds them: the tables of a fitted state or of published counters, and how a delta moves them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from nightjar.features.contract.artifact_files import DELTA, FREQUENCY, table_folder
from nightjar.features.contract.errors import DataError
from nightjar.features.contract.manifests import CountersManifest, Manifest, StateManifest
from nightjar.features.contract.spec import FeatureSpec, Frequency
from nightjar.features.contract.verified import read_verified
from nightjar.features.encoder.frequency import Counts, FrequencyTable, Ranks

GONE = "gone"
_REMEDY = "Restore it, or run the night again, which publishes counters anew."

Columns = Mapping[str, np.ndarray]
"""A frequency's table: `key` int64[n], ascending, and what is known of the keys, int64[n] each."""


@dataclass(frozen=True)
class Counters:
    """Every key's history as of one day.

    tables: by frequency. as_of: the day that they are for: counts are those of days before it. name: of the published
    counters; empty for those that a fitted state came with.
    """

    tables: Mapping[str, Columns]
    as_of: date
    name: str = ""

    def frequencies(self, spec: FeatureSpec) -> dict[str, FrequencyTable]:
        """What the encoder looks up, by frequency."""
        today = np.datetime64(self.as_of, "D").astype(np.int64)
        return {frequency.name: _table(frequency, self.tables[frequency.name], today) for frequency in spec.frequencies}


def load_counters(directory: str, manifest: StateManifest | CountersManifest, spec: FeatureSpec) -> Counters:
    """Read the tables of published counters or of a fitted state. Raises DataError if they do not fit the spec."""
    if isinstance(manifest, CountersManifest):
        _require_fit(directory, manifest, spec)
    tables = {f.name: _sorted(_read(directory, table_folder(FREQUENCY, f.name), manifest)) for f in spec.frequencies}
    name = directory.rstrip("/").rpartition("/")[2] if isinstance(manifest, CountersManifest) else ""
    return Counters(tables, date.fromisoformat(manifest.through_date) + timedelta(1), name)


def moved(held: Counters, directory: str, manifest: CountersManifest, spec: FeatureSpec) -> Counters:
    """Published counters, of which only the delta is read if `held` are the ones before; the same in either case."""
    if not held.name or manifest.previous != held.name:
        return load_counters(directory, manifest, spec)
    _require_fit(directory, manifest, spec)
    tables = {
        f.name: _applied(held.tables[f.name], _read(directory, table_folder(DELTA, f.name), manifest))
        for f in spec.frequencies
    }
    name = directory.rstrip("/").rpartition("/")[2]
    return Counters(tables, date.fromisoformat(manifest.through_date) + timedelta(1), name)


def _require_fit(directory: str, manifest: CountersManifest, spec: FeatureSpec) -> None:
    if manifest.fingerprint != spec.counters_fingerprint:
        raise DataError(
            f"the counters {directory} are of other frequencies ({manifest.fingerprint}) than the model's "
            f"({spec.counters_fingerprint}). Give counters that were published for this model."
        )


def _table(frequency: Frequency, columns: Columns, today: np.int64) -> FrequencyTable:
    counts = {w: Counts(columns[f"impressions_{w}"], columns[f"positives_{w}"]) for w in frequency.windows}
    ranks = {window: Ranks.of(of.impressions) for window, of in counts.items()} if frequency.is_ranked else {}
    age = today - columns["first"] if frequency.is_dated else None
    return FrequencyTable(columns["key"], counts, ranks, age)


def _read(directory: str, folder: str, manifest: Manifest) -> Columns:
    entries = [entry for entry in manifest.files if entry.path.startswith(f"{folder}/")]
    if not entries:
        raise DataError(f"{directory} has no {folder}. {_REMEDY}")
    contents = (pa.BufferReader(read_verified(directory, entry)) for entry in entries)
    table = pa.concat_tables([pq.read_table(content) for content in contents])
    kinds = {name: np.dtype(bool) if name == GONE else np.dtype(np.int64) for name in table.column_names}
    return {name: table.column(name).to_numpy().astype(kind, copy=False) for name, kind in kinds.items()}


def _sorted(columns: Columns) -> Columns:
    order = np.argsort(columns["key"])
    return {name: values[order] for name, values in columns.items()}


def _applied(columns: Columns, delta: Columns) -> Columns:
    """The rows of `columns` whose keys are not in the delta, and those of the delta that are not gone."""
    kept = ~np.isin(columns["key"], delta["key"])
    new = ~delta[GONE]
    names: Sequence[str] = list(columns)
    return _sorted({name: np.concatenate([columns[name][kept], delta[name][new]]) for name in names})
