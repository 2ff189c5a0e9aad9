"""DeepCTR-Torch's own models and `fit`, its defaults, the optimizer of its examples. Runs in the rivals' environment.

python deepctr.py MODEL TRAIN_DIR TEST_DIR IDS_PER_FIELD THREADS
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping

import numpy as np
import torch
from contestant import cpu_seconds, serve
from deepctr_torch.inputs import DenseFeat, SparseFeat
from deepctr_torch.models import WDL, DeepFM
from rows import in_memory, log_loss

BATCH, STEPS = 4096, 6


def main() -> None:
    model, train, test, ids, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    ids_BF, dense_BN, label_B = in_memory(train)
    sparse = [SparseFeat(f"c{f}", int(ids), embedding_dim=16) for f in range(ids_BF.shape[1])]
    features = [*sparse, *(DenseFeat(f"n{n}", 1) for n in range(dense_BN.shape[1]))]
    network = {"wide_deep": WDL, "deepfm": DeepFM}[model](
        features, features, dnn_hidden_units=(400, 400, 400), device="cpu"
    )
    network.compile("adagrad", "binary_crossentropy")
    rows = BATCH * STEPS
    first = 0

    def inputs(part: slice, ids_BF: np.ndarray, dense_BN: np.ndarray) -> dict[str, np.ndarray]:
        columns = {f"c{f}": ids_BF[part, f] for f in range(ids_BF.shape[1])}
        return columns | {f"n{n}": dense_BN[part, n] for n in range(dense_BN.shape[1])}

    def measure() -> Mapping[str, float]:
        nonlocal first
        part = slice(first, first + rows)
        first = (first + rows) % max(1, len(label_B) - rows)
        before, began = cpu_seconds(), time.perf_counter()
        network.fit(inputs(part, ids_BF, dense_BN), label_B[part], batch_size=BATCH, epochs=1, verbose=0)
        figures = {"seconds": time.perf_counter() - began, "cpu": cpu_seconds() - before, "rows": rows}
        return {**figures, "log_loss": held_out()}

    def held_out() -> float:
        ids_BF, dense_BN, label_B = in_memory(test)
        p_B = np.clip(network.predict(inputs(slice(None), ids_BF, dense_BN), BATCH).ravel(), 1e-7, 1 - 1e-7)
        return log_loss(label_B, np.log(p_B / (1 - p_B)))

    serve(measure)


if __name__ == "__main__":
    main()
