"""A small published world made by hand: a state, a hold-out of the day after it, and candidates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from nightjar.features.contract.layout import ColumnSpec, dataset_columns, table_layout
from nightjar.features.contract.manifests import CandidateManifest, DatasetManifest, StateManifest
from nightjar.features.contract.publishing import commit, describe_files, manifest_digest, read_manifest
from nightjar.features.contract.spec import FeatureSpec
from nightjar.features.encoder.encoder import ColumnValues, Encoder
from nightjar.features.encoder.hashing import hash_strings
from nightjar.features.encoder.ragged import Ragged
from nightjar.features.encoder.rows import hash_rows
from nightjar.features.encoder.state import load_state
from tests.kits.serving.serving_oracle import BOUNDARIES, COUNTS, SPEC, VALUES, Oracle, Row


def make_rows(count: int, seed: int) -> list[Row]:
    """Raw rows with missing and unseen values, empty lists, repeats in lists and nulls in them."""
    rng = np.random.default_rng(seed)

    def pick(*choices: Any) -> Any:
        return choices[rng.integers(len(choices))]

    return [
        {
            "user": pick("ann", "bob", "çelik", "", "stranger", None),
            "item_id": pick(1, 2, 3, -4, 77, None),
            "premium": pick(True, False, None),
            "seen": pick([1, 2, 2], [], None, [9, None, 3], [5, 6], [1]),
            "tags": pick(["news"], ["été", "x", "news"], [], ["new", "newer"]),
            "words": pick(["a", "b", "a"], ["c"], [], ["zzz", None]),
            "age": pick(18.0, 29.5, 30.0, 99.0, None, float("nan")),
            "price": pick(0.0, -2.5, 1e6, None),
            "depth": pick(1, 0, -3, None),
            "pair_impressions_so_far": int(rng.integers(3)),
            "pair_positives_so_far": 0,
        }
        for _ in range(count)
    ]


@dataclass(frozen=True)
class World:
    """Directories of a published state, a hold-out of the day after it and a candidate trained on it."""

    state: str
    holdout: str
    candidate: str
    rows: list[Row]
    model: Oracle

    @property
    def columns(self) -> tuple[ColumnSpec, ...]:
        return read_manifest(self.candidate, CandidateManifest).columns


def make_world(root: Path, model: str = "wide_deep", *, rows: int = 40, seed: int = 1) -> World:
    """Publish a state, a hold-out of `rows` rows and a candidate of the architecture under `root`."""
    state = make_state(root / "state")
    raw = make_rows(rows, seed)
    oracle = Oracle.draw(model, seed)
    holdout = make_holdout(root / "holdout", state, raw, seed)
    candidate = make_candidate(root / "candidate", state, oracle, oracle.score(raw[:16]))
    return World(state, holdout, candidate, raw, oracle)


def make_state(
    directory: Path,
    through_date: str = "2024-05-02",
    spec: FeatureSpec = SPEC,
    values_of: Mapping[str, list[str]] = VALUES,
) -> str:
    """Publish one. values_of: vocabularies by field."""
    for field, values in values_of.items():
        hashes = hash_strings(values)
        table = pa.table({"hash": hashes, "id": pa.array(range(2, 2 + len(values)), pa.int32()), "value": values})
        _write(directory / f"vocabulary/{field}/part-0.parquet", table)
    for name, windows in ((frequency.name, frequency.windows) for frequency in spec.frequencies):
        counted = COUNTS[name]
        keys = pa.array(list(counted), pa.int64())
        columns = {
            f"{what}_{window}": [counted[key][window][n] for key in counted]
            for n, what in enumerate(("impressions", "positives"))
            for window in windows
        }
        _write(directory / f"frequency/{name}/part-0.parquet", pa.table({"key": keys, **columns}))
    manifest = StateManifest(
        files=describe_files(str(directory)),
        spec=spec,
        spec_fingerprint=spec.fingerprint,
        first_date="2024-05-01",
        through_date=through_date,
        vocabulary_sizes={field.name: field.first_id + len(values_of.get(field.name, ())) for field in spec.fields},
        boundaries=BOUNDARIES,
    )
    commit(str(directory), manifest)
    return str(directory)


def make_holdout(directory: Path, state_dir: str, rows: list[Row], seed: int, files: int = 3) -> str:
    """Rows in `files` data files, labels drawn from a random truth; the first 16 rows are the golden ones."""
    state = read_manifest(state_dir, StateManifest)
    columns = dataset_columns(state.spec, state.vocabulary_sizes)
    rng = np.random.default_rng(seed)
    truth = rng.uniform(0.05, 0.6, len(rows))
    label = (rng.uniform(size=len(rows)) < truth).astype(np.float32)
    encoded = encode(state_dir, rows)
    table = pa.table(
        {
            "label": label,
            "group": hash_strings([row["user"] for row in rows]),
            "truth": truth,
            **{name: to_arrow(column) for name, column in encoded.items()},
        }
    )
    cuts = np.linspace(0, len(rows), files + 1).astype(int)
    counts = {}
    for n, (start, stop) in enumerate(pairwise(cuts.tolist())):
        counts[f"data/part-{n}.parquet"] = int(stop - start)
        _write(directory / f"data/part-{n}.parquet", table.slice(start, stop - start))
    _write(directory / "golden/raw.parquet", pa.Table.from_pylist(rows[:16]))
    _write(directory / "golden/encoded.parquet", table.slice(0, 16))
    manifest = DatasetManifest(
        files=tuple(e.model_copy(update={"rows": counts.get(e.path)}) for e in describe_files(str(directory))),
        spec_fingerprint=state.spec_fingerprint,
        state=manifest_digest(state_dir),
        first_date="2024-05-03",
        last_date="2024-05-03",
        rows=len(rows),
        positives=int(label.sum()),
        columns=columns,
    )
    commit(str(directory), manifest)
    return str(directory)


def make_candidate(directory: Path, state_dir: str, oracle: Oracle, golden_scores: np.ndarray) -> str:
    """What the trainer publishes: the oracle's parameters, a zero weight among them, and golden scores."""
    scoring = directory / "scoring"
    scoring.mkdir(parents=True)
    layout = table_layout(oracle.columns)
    if oracle.model != "deep":
        ids = np.array(sorted(oracle.wide), dtype=np.int64)
        np.save(scoring / "wide_ids.npy", ids)
        np.save(scoring / "wide_weights.npy", np.array([oracle.wide[i] for i in ids], dtype=np.float32))
    if oracle.model != "lr":
        for width in layout.embeddings:
            np.save(scoring / f"embedding_{width}.npy", oracle.embeddings[width].astype(np.float32))
    (scoring / "head.onnx").write_bytes(oracle.head().SerializeToString())
    np.save(scoring / "golden_scores.npy", golden_scores.astype(np.float32))
    (directory / "optimizer").mkdir()
    np.save(directory / "optimizer/squares.npy", np.zeros(3))
    manifest = CandidateManifest(
        files=describe_files(str(directory)),
        model=oracle.model,
        spec_fingerprint=SPEC.fingerprint,
        state=manifest_digest(state_dir),
        columns=oracle.columns,
        settings={"epochs": 1},
        statistics={"train_log_loss": 0.5},
    )
    commit(str(directory), manifest)
    return str(directory)


def encode(state_dir: str, rows: Any) -> dict[str, ColumnValues]:
    state = load_state(state_dir, read_manifest(state_dir, StateManifest))
    return Encoder(state.spec, state.encoder).encode(hash_rows(state, rows))


def to_arrow(column: ColumnValues) -> pa.Array:
    if isinstance(column, Ragged):
        return pa.ListArray.from_arrays(column.offsets.astype(np.int32), column.values)
    return pa.array(column)


def _write(path: Path, table: pa.Table) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)
