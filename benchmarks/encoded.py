"""Encoded data sets for measurements, published as the feature jobs publish theirs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from nightjar.features.contract import storage
from nightjar.features.contract.artifact_files import DATA, part_file
from nightjar.features.contract.layout import dataset_columns
from nightjar.features.contract.manifests import DatasetManifest
from nightjar.features.contract.publishing import begin, commit, describe_files
from nightjar.features.contract.spec import FeatureSpec

_DATE = "2026-01-01"


def publish_encoded(
    directory: str, spec: FeatureSpec, sizes: Mapping[str, int], tables: Iterable[pa.Table]
) -> DatasetManifest:
    """Publish a data set of one file a table. sizes: ids of each field; the tables hold the encoded columns."""
    begin(directory)
    storage.make_folder(storage.join(directory, DATA))
    known: dict[str, dict[str, int | str]] = {}
    positives = rows = 0
    for index, table in enumerate(tables):
        path = part_file(DATA, index)
        pq.write_table(table, storage.join(directory, path), row_group_size=max(len(table), 1), compression="zstd")
        content = storage.read_bytes(storage.join(directory, path))
        known[path] = {"rows": len(table), "xxh3": xxhash.xxh3_128_hexdigest(content)}
        rows += len(table)
        positives += int(table.column("label").to_numpy().sum())
    manifest = DatasetManifest(
        spec_fingerprint=spec.fingerprint,
        state="0" * 64,
        first_date=_DATE,
        last_date=_DATE,
        rows=rows,
        positives=positives,
        columns=dataset_columns(spec, sizes),
        files=tuple(entry.model_copy(update=known[entry.path]) for entry in describe_files(directory)),
    )
    commit(directory, manifest)
    return manifest
