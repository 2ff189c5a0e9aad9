"""Published data sets for tests, made with NumPy and pyarrow alone: no Spark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from nightjar.features.contract import storage
from nightjar.features.contract.layout import ColumnSpec, dataset_columns
from nightjar.features.contract.manifests import DatasetManifest, StateManifest
from nightjar.features.contract.publishing import begin, commit, describe_files, manifest_digest
from nightjar.features.contract.spec import CategoricalField, Cross, DenseFeature, FeatureSpec
from nightjar.features.encoder.ragged import Ragged
from nightjar.training.data.batch import Entries
from nightjar.training.data.columns import Columns

SPEC = FeatureSpec(
    name="tiny",
    label="clicked",
    timestamp="time",
    weight="importance",
    fields=(
        CategoricalField(name="user", embedding=4),
        CategoricalField(name="item", embedding=4),
        CategoricalField(name="tags", multi_valued=True, embedding=4, pooling="mean"),
        CategoricalField(name="shown", multi_valued=True, embedding=3, pooling="sqrtn"),
        CategoricalField(name="place", embedding=3, wide=False),
    ),
    dense=(DenseFeature(name="age"), DenseFeature(name="price", missing_indicator=False)),
    crosses=(
        Cross(name="user_item", fields=("user", "item"), buckets=64),
        Cross(name="user_tags", fields=("user", "tags"), buckets=128),
    ),
)
SIZES = {"user": 50, "item": 40, "tags": 30, "shown": 20, "place": 10}


def make_dataset(
    directory: str,
    rows: Sequence[int],
    *,
    spec: FeatureSpec = SPEC,
    sizes: dict[str, int] | None = None,
    cross_sizes: Mapping[str, int] | None = None,
    seed: int = 0,
    state: str = "0" * 64,
    golden: int = 0,
) -> DatasetManifest:
    """Publish a data set with files of these many rows.

    Every row's weight is 1 + i / 2^20 with i its number in the data set, exact in float32: it tells rows
    apart. Labels depend on the first field, so that there is something to learn; its value is the row's group, where
    the spec has one.
    """
    rng = np.random.default_rng(seed)
    columns = dataset_columns(spec, sizes or SIZES, cross_sizes or {})
    begin(directory)
    storage.make_folder(storage.join(directory, "data"))
    first, positives, counts = 0, 0, {}
    for index, count in enumerate(rows):
        table = make_table(columns, count, first, rng)
        path = f"data/part-{index:05d}.parquet"
        pq.write_table(table, storage.join(directory, path), row_group_size=max(count, 1))
        counts[path] = count
        first += count
        positives += int(np.sum(table.column("label").to_numpy()))
    if golden:
        storage.make_folder(storage.join(directory, "golden"))
        pq.write_table(make_table(columns, golden, 0, rng), storage.join(directory, "golden/encoded.parquet"))
        counts["golden/encoded.parquet"] = golden
    manifest = DatasetManifest(
        spec_fingerprint=spec.fingerprint,
        state=state,
        first_date="2025-01-01",
        last_date="2025-01-01",
        rows=first,
        positives=positives,
        columns=columns,
        files=tuple(entry.model_copy(update={"rows": counts.get(entry.path)}) for entry in describe_files(directory)),
    )
    commit(directory, manifest)
    return manifest


def make_state(directory: str, seed: int) -> str:
    """Publish an encoder state of SPEC, whose ids are dealt to the values at random; its digest."""
    rng = np.random.default_rng(seed)
    for field, size in SIZES.items():
        folder = storage.join(directory, f"vocabulary/{field}")
        storage.make_folder(folder)
        hashes, ids = rng.permutation(size - 2) * 10**15, np.arange(2, size, dtype=np.int32)
        pq.write_table(pa.table({"hash": hashes, "id": ids}), storage.join(folder, "part-0.parquet"))
    manifest = StateManifest(
        files=describe_files(directory),
        spec=SPEC,
        spec_fingerprint=SPEC.fingerprint,
        first_date="2025-01-01",
        through_date="2025-01-01",
        vocabulary_sizes=SIZES,
        boundaries={},
    )
    commit(directory, manifest)
    return manifest_digest(directory)


def make_table(columns: Sequence[ColumnSpec], rows: int, first: int, rng: np.random.Generator) -> pa.Table:
    """Random encoded rows. Lists have 0 to 4 values, so that some are empty."""
    arrays: dict[str, pa.Array] = {}
    leading: np.ndarray | None = None
    for column in columns:
        if column.role in ("field", "cross"):
            lengths = rng.integers(0, 5, rows) if column.multi_valued else np.ones(rows, dtype=np.int64)
            offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
            ids = np.minimum(rng.geometric(0.1, offsets[-1]) - 1, column.size - 1).astype(np.int32)
            arrays[column.name] = pa.ListArray.from_arrays(offsets, ids) if column.multi_valued else pa.array(ids)
            if leading is None and not column.multi_valued:
                leading = ids
        elif column.role == "dense":
            arrays[column.name] = pa.array(rng.random(rows, dtype=np.float32))
        elif column.role == "weight":
            arrays[column.name] = pa.array((1 + (first + np.arange(rows)) / 2**20).astype(np.float32))
    assert leading is not None
    arrays["group"] = pa.array(leading.astype(np.int64) * 10**15 - 10**16)
    label = rng.random(rows) < 0.1 + 0.6 * (leading % 3 == 0)
    arrays["label"] = pa.array(label.astype(np.float32))
    return pa.table({column.name: arrays[column.name] for column in columns if column.name in arrays})


def take(columns: Columns, rows: np.ndarray) -> Columns:
    """These rows of all columns, in this order."""
    return {name: c.take(rows) if isinstance(c, Ragged) else c[rows] for name, c in columns.items()}


def matrix_of(entries: Entries, rows: int) -> np.ndarray:
    """What entries mean: float64[B, cells, rows], the coefficient of each row of the table in each cell."""
    matrix = np.zeros((entries.rows, entries.cells, rows))
    for b in range(entries.rows):
        for k, x in enumerate(entries.x_BK[b]):
            matrix[b, 0, entries.ids_U[k]] += x
        for column, shift, cell in entries.fields_F3:
            matrix[b, cell, entries.ids_U[entries.index_CB[column, b] + shift]] += 1.0
        for e in entries.lists:
            for place in e.index_M[e.offsets[b] : e.offsets[b + 1]] + e.shift:
                matrix[b, e.cell, entries.ids_U[place]] += e.coefficients_B[b]
    return matrix
