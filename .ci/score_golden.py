"""Score an artifact's golden rows where only what scoring needs is installed: python score_golden.py ARTIFACT ENCODED

ENCODED: the golden rows as Spark encoded them. .ci/compat.py copies this file into a project that has packages of its
own with the names of Nightjar's folders, and runs it there.
"""

from __future__ import annotations

import sys
from importlib.metadata import version

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import features
import jobs
import nightjar
import serving
import training
from nightjar.features.encoder.encoder import Encoder
from nightjar.features.encoder.ragged import Ragged
from nightjar.features.encoder.rows import hash_rows
from nightjar.serving import ServingModel

FOREIGN = (features, jobs, serving, training)
TRAINER = {"torch", "pyspark", "horovod", "petastorm", "numba", "pandas", "sklearn", "matplotlib"}


def main(artifact: str, encoded: str) -> None:
    """Raises AssertionError where a score or an id differs from the artifact's own."""
    assert all(module.MINE for module in FOREIGN), "not the project's own packages"
    model = nightjar.load(artifact)
    rows = pq.read_table(f"{artifact}/golden/raw.parquet")
    expected = np.load(f"{artifact}/golden/scores.npy")
    scores = model.score(rows, as_logged=True)
    worst = float(np.abs(scores - expected).max())
    assert worst <= 1e-5, f"scores differ by up to {worst}"
    np.testing.assert_array_equal(model.score(rows.to_pylist(), as_logged=True), scores)
    compared = same_ids(model, rows, encoded)
    loaded = TRAINER & {name.partition(".")[0] for name in sys.modules}
    assert not loaded, f"scoring has loaded {sorted(loaded)}"
    libraries = " ".join(f"{name} {version(name)}" for name in ("numpy", "pyarrow", "onnxruntime", "pydantic"))
    print(f"{len(scores)} scores within {worst:.1e}, {compared} encoded columns the same; {libraries}")


def same_ids(model: ServingModel, rows: pa.Table, encoded: str) -> int:
    """Encode raw rows and compare every column with what Spark wrote; their number."""
    state = model.state
    columns = Encoder(state.spec, state.encoder).encode(hash_rows(state, rows, as_logged=True))
    table = pq.read_table(encoded)
    names = [name for name in model.input_columns if name in table.column_names]
    for name in names:
        ours, theirs = columns[name], table[name].combine_chunks()
        if isinstance(ours, Ragged):
            np.testing.assert_array_equal(ours.values, theirs.flatten().to_numpy(zero_copy_only=False), err_msg=name)
            lengths = theirs.value_lengths().to_numpy(zero_copy_only=False)
            np.testing.assert_array_equal(ours.lengths, lengths, err_msg=name)
        else:
            np.testing.assert_array_equal(np.asarray(ours), theirs.to_numpy(zero_copy_only=False), err_msg=name)
    assert names, f"{encoded} holds none of the model's columns"
    return len(names)


if __name__ == "__main__":
    main(*sys.argv[1:])
