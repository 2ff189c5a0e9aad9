"""The encoder's fitted state on disk: written by Spark, read by Spark's workers and by serving.

vocabulary/<field>/*.parquet: hash int64, id int32, value string, impressions int64, one row a value that has an id and
is not retired; nothing for a hashed field.
cross/<name>/*.parquet: the same without `value`, of the conjunctions that an exact vocabulary or an admission lists, or
of the counters of a Bloom filter that reached the minimum count; an id means something in an exact vocabulary only.
frequency/<name>/*.parquet: key int64, then impressions_<window> and positives_<window> int64 as of the day after the
state's last day; with days_since_first_seen also first int32, the first day on which the key was shown. The spec,
quantile boundaries and moments are in the manifest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from nightjar.features.contract import storage
from nightjar.features.contract.artifact_files import CROSS, VOCABULARY, table_folder
from nightjar.features.contract.categorical import AdmitByBloom, Cross
from nightjar.features.contract.errors import DataError
from nightjar.features.contract.manifests import FileEntry, StateManifest
from nightjar.features.contract.spec import FeatureSpec
from nightjar.features.contract.verified import read_verified
from nightjar.features.encoder.admission import CountingBloomFilter, Listed, free_bits
from nightjar.features.encoder.counters import load_counters
from nightjar.features.encoder.dense import Moments
from nightjar.features.encoder.encoder import OOV_ID, AdmissionFilter, EncoderState, Vocabulary
from nightjar.features.encoder.files import read_table
from nightjar.features.encoder.frequency import FrequencyTable


@dataclass(frozen=True)
class FittedState:
    """All that serving needs to encode raw rows. frequencies: by name."""

    spec: FeatureSpec
    encoder: EncoderState
    frequencies: Mapping[str, FrequencyTable]


def load_state(directory: str, manifest: StateManifest) -> FittedState:
    """Read a published state, its own counters included."""
    frequencies = load_counters(directory, manifest, manifest.spec).frequencies(manifest.spec)
    return FittedState(manifest.spec, load_encoder_state(directory, manifest), frequencies)


def load_encoder_state(directory: str, manifest: StateManifest) -> EncoderState:
    """Read all but the frequency tables: what Spark's workers need."""
    spec = manifest.spec
    boundaries = {name: np.array(values, dtype=np.float64) for name, values in manifest.boundaries.items()}
    return EncoderState(
        vocabularies={field.name: load_vocabulary(directory, manifest, f"f_{field.name}") for field in spec.fields},
        boundaries=boundaries,
        crosses={cross.name: _load_cross(directory, manifest, cross) for cross in spec.crosses if cross.is_fitted},
        moments={name: Moments(*values) for name, values in manifest.moments.items()},
    )


@dataclass(frozen=True)
class VocabularyFiles:
    """The ids of the values of a field, or of a cross with an exact vocabulary, to be read file by file.

    size: how many ids there are, the reserved and the retired ones included; hash_ids: see Vocabulary.
    """

    directory: str
    entries: tuple[FileEntry, ...]
    size: int
    hash_ids: int

    @classmethod
    def of(cls, directory: str, manifest: StateManifest, column: str) -> VocabularyFiles:
        """Of the column `f_<field>` or `x_<cross>`; of a hashed field, whose ids are nobody's, no files."""
        kind, _, name = column.partition("_")
        if kind == "x":
            entries = _entries(directory, table_folder(CROSS, name), manifest)
            return cls(directory, entries, manifest.cross_sizes[name], 1)
        field = manifest.spec.field(name)
        if field.kind == "hashed":
            return cls(directory, (), OOV_ID + field.hash_ids, field.hash_ids)
        entries = _entries(directory, table_folder(VOCABULARY, name), manifest)
        return cls(directory, entries, manifest.vocabulary_sizes[name], field.hash_ids)

    @property
    def first_id(self) -> int:
        """The first id that is given to a value."""
        return OOV_ID + self.hash_ids

    def __len__(self) -> int:
        """How many files there are."""
        return len(self.entries)

    def read(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Hashes int64[n] and ids int32[n] of a file. Raises DataError if it differs from the manifest."""
        table = _read_file(self.directory, self.entries[number], ["hash", "id"])
        return _numpy(table, "hash", np.int64), _numpy(table, "id", np.int32)


def load_vocabulary(directory: str, manifest: StateManifest, column: str) -> Vocabulary:
    """Read the ids of the values of a field (`f_<field>`), or of a cross with an exact vocabulary (`x_<cross>`)."""
    files = VocabularyFiles.of(directory, manifest, column)
    parts = [files.read(number) for number in range(len(files))]
    hashes = np.concatenate([np.zeros(0, np.int64), *(part for part, _ in parts)])
    ids = np.concatenate([np.zeros(0, np.int32), *(part for _, part in parts)])
    order = np.argsort(hashes)
    return Vocabulary(hashes[order], ids[order], files.hash_ids, files.size - files.first_id - len(ids))


def _load_cross(directory: str, manifest: StateManifest, cross: Cross) -> Vocabulary | AdmissionFilter:
    if cross.vocabulary == "exact":
        return load_vocabulary(directory, manifest, f"x_{cross.name}")
    hashes = _numpy(_read(directory, table_folder(CROSS, cross.name), manifest, columns=["hash"]), "hash", np.int64)
    if not isinstance(cross.admission, AdmitByBloom):
        return Listed(np.sort(hashes))
    reached = np.zeros(cross.admission.counters, dtype=bool)
    reached[hashes.view(np.uint64) >> np.uint64(free_bits(cross.admission.counters))] = True
    return CountingBloomFilter(reached, cross.admission.hashes)


def load_values(directory: str, manifest: StateManifest, field: str) -> dict[int, str]:
    """The value behind every id that has one: not the reserved ids (missing, and one or more of unknown values), and
    not those of retired values.
    """
    table = _read(directory, table_folder(VOCABULARY, field), manifest, columns=["id", "value"])
    return dict(zip(table.column("id").to_pylist(), table.column("value").to_pylist(), strict=True))


def _read(directory: str, folder: str, manifest: StateManifest, columns: Sequence[str]) -> pa.Table:
    """Every file is compared with the manifest. Raises DataError that names one that differs."""
    return pa.concat_tables([_read_file(directory, entry, columns) for entry in _entries(directory, folder, manifest)])


def _entries(directory: str, folder: str, manifest: StateManifest) -> tuple[FileEntry, ...]:
    entries = tuple(entry for entry in manifest.files if entry.path.startswith(folder + "/"))
    if not entries:
        raise DataError(f"{directory} lists no files of {folder}, which its spec needs. Fit the state again.")
    return entries


def _read_file(directory: str, entry: FileEntry, columns: Sequence[str]) -> pa.Table:
    return read_table(read_verified(directory, entry), storage.join(directory, entry.path), columns)


def _numpy(table: pa.Table, column: str, dtype: type) -> np.ndarray:
    values = table.column(column)
    if not pa.types.is_integer(values.type) or values.null_count:
        raise DataError(f"a column {column!r} of the state holds {values.type} with {values.null_count} nulls.")
    return values.to_numpy().astype(dtype, copy=False)
